"""Legs die or are cut off in mid-answer, as processes: the answer is the one that it would have been, and so is the
money.

JOULE_KILLS and JOULE_CUTS say how many; `make heal` has 30 of each. Cuts need root and network namespaces.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio
from local_network import LocalNetwork, voucher_beyond
from siege.watched import usage_of

from node.demo.wan import Wan
from protocol.errors import ConfigurationError
from protocol.receipts.bundle import verify_bundle
from protocol.receipts.bundle_file import load_bundle

KILLS = int(os.environ.get("JOULE_KILLS", "3"))
CUTS = int(os.environ.get("JOULE_CUTS", "1"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300 + 60 * max(KILLS, CUTS)),
]

TOKENS = 180
JOB = ("run", "hello", "--max-tokens", str(TOKENS), "--temperature", "0.7", "--seed", "7", "--session-s", "60")
ROOM = ("--kv-tokens", "8192")
SPANS = ("0:2", "2:4", "4:6")
FEW_FILES = 24
"""Links to peers, neighbours and the ledger, which come by and by and are kept; over 30 jobs one for each is more."""
STANDBY = f"node{len(SPANS)}"


async def start(network: LocalNetwork, model: Path) -> None:
    """A ledger, three nodes on the route, and a dearer one with all blocks that stands by."""
    await network.start_ledger(grace_s=2)
    more = {f"node{number}": ROOM for number in range(3)}
    await network.start_nodes(model, *SPANS, "0:6", **more, node3=(*ROOM, "--overhead-price", "9"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def near(tmp_path_factory: pytest.TempPathFactory, endless: Path) -> AsyncIterator[LocalNetwork]:
    """All on loopback."""
    async with LocalNetwork(tmp_path_factory.mktemp("near")) as network:
        await start(network, endless)
        yield network


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def far(tmp_path_factory: pytest.TempPathFactory, endless: Path) -> AsyncIterator[LocalNetwork]:
    """Each a host of its own, two milliseconds from the others."""
    wan = Wan(("ledger", "client", *(f"node{number}" for number in range(4))), round_trip_s=0.002)
    try:
        wan.__enter__()
    except ConfigurationError as error:
        pytest.skip(error.message)
    try:
        async with LocalNetwork(tmp_path_factory.mktemp("far"), wan) as network:
            await start(network, endless)
            yield network
    finally:
        wan.__exit__()


async def report_of(
    network: LocalNetwork, name: str, *, at: int = 0, hurt: Callable[[], None] | None
) -> dict[str, Any]:
    """The report of a job of a client that remembers nothing; something happens once it has paid so many tokens."""
    assert (await network.joule("faucet", "1", name=name)).status == 0
    receipt = network.home / f"{name}.json"
    more = ("--standbys", "1", "--receipt", str(receipt), "--verbose", "--json")
    process = await network.spawn(*JOB, *more, name=name)
    if hurt is not None:
        await voucher_beyond(process, at)
        hurt()
    async with asyncio.timeout(150):
        out, err = await process.communicate()
    assert b"Traceback" not in err
    events = [line for line in err.decode().splitlines() if "voucher signed" not in line]
    assert process.returncode == 0, (json.loads(out)["error"], events)
    report: dict[str, Any] = json.loads(out)
    proven = verify_bundle(load_bundle(receipt.read_bytes()))
    assert proven.tokens_out == TOKENS, (report["healed"], events)
    # A micro-unit that the client does not have any more, a leg or the ledger has, or it is held for a leg.
    free = (await network.joule("balance", "--json", name=name)).json()["free"]
    assert 1_000_000 - micro(free) == sum(proven.amounts) + proven.held + report["fees_micro"]
    return report


def micro(amount: object) -> int:
    """Micro-units, of those or of what a person reads."""
    return amount if isinstance(amount, int) else round(1_000_000 * float(str(amount)))


async def disturb(network: LocalNetwork, count: int, hurt: Callable[[str], None], mend: Any) -> None:
    """Jobs in whose middle something happens to a leg: first to each of them, then to any."""
    chance = Random(count)
    whole = await report_of(network, "undisturbed", hurt=None)
    assert whole["tokens_out"] == TOKENS
    before = files_of(network)
    for number in range(count):
        leg = number if number < len(SPANS) else chance.randrange(len(SPANS))
        at = chance.randrange(1, TOKENS - 100)
        report = await report_of(network, f"client{number}", at=at, hurt=lambda leg=leg: hurt(f"node{leg}"))  # type: ignore[misc]
        print(f"{number}: leg {leg} after {at} tokens: {report['healed']}")
        assert report["answer"] == whole["answer"]
        gone = [each["gone"] for each in report["healed"]]
        assert [leg] in gone
        assert all(each in ([], [leg]) for each in gone)  # a link may be slow to find out that its peer is back
        await mend(leg)
    async with asyncio.timeout(60):
        while count > FEW_FILES and grown(network, before):  # noqa: ASYNC110 - what another closes tells nobody
            await asyncio.sleep(0.5)


def grown(network: LocalNetwork, before: tuple[int, int]) -> bool:
    """Whether either holds many more descriptors than before."""
    return any(now > FEW_FILES + then for now, then in zip(files_of(network), before, strict=True))


def files_of(network: LocalNetwork) -> tuple[int, int]:
    """Descriptors of the two that live through all of it: the ledger and the standby."""
    assert network.ledger is not None
    through = (network.ledger, network.nodes[STANDBY])
    ledger, standby = (usage_of(each.process.pid).files for each in through)
    return ledger, standby


async def test_an_answer_goes_on_whichever_leg_is_killed(near: LocalNetwork, endless: Path) -> None:
    async def restart(leg: int) -> None:
        node = await near.start_node(f"node{leg}", endless, SPANS[leg], *ROOM)
        await node.event("node ready")

    await disturb(near, KILLS, lambda name: os.kill(near.nodes[name].process.pid, signal.SIGKILL), restart)


@pytest.mark.long
async def test_an_answer_goes_on_whichever_leg_is_cut_off(far: LocalNetwork) -> None:
    wan = far.wan
    assert wan is not None

    async def join(leg: int) -> None:
        wan.join(f"node{leg}")

    await disturb(far, CUTS, wan.cut, join)
