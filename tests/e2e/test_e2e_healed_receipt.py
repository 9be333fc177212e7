"""One leg is replaced by two: the run says so and ends well, and the receipt proves and names all five."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from local_network import LocalNetwork, voucher_beyond

from node.app.buying.audit import audit_bundle
from protocol.receipts.audit import Draw, Verdict
from protocol.receipts.bundle_file import load_bundle

ROOM = ("--kv-tokens", "8192")
DEAR = (*ROOM, "--overhead-price", "9")
TOKENS = 160


async def healed_run(
    network: LocalNetwork, receipt: Path, *dead: str
) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The report of a run in whose middle nodes are killed, and the events that it told."""
    process = await network.spawn(
        "run", "hello", "--max-tokens", str(TOKENS), "--temperature", "0.7", "--seed", "3", "--standbys", "2",
        "--receipt", str(receipt), "--verbose", "--json",
    )  # fmt: skip
    await voucher_beyond(process, 60)
    for name in dead:
        os.kill(network.nodes[name].process.pid, signal.SIGKILL)
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    assert process.returncode == 0, (out, err)
    return json.loads(out), [json.loads(line) for line in err.splitlines()]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_leg_may_be_replaced_by_two_and_every_window_is_judged_by_who_served_it(
    tmp_path: Path, endless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = tmp_path / "receipt.json"
    async with LocalNetwork(tmp_path) as network:
        await network.start_ledger()
        spans = ("0:2", "2:4", "4:6", "0:3", "3:6")
        more = {f"node{number}": ROOM if number < 3 else DEAR for number in range(len(spans))}
        await network.start_nodes(endless, *spans, **more)
        assert (await network.joule("faucet", "1")).status == 0
        report, events = await healed_run(network, receipt, "node1")
        verified = await network.joule("receipt", "verify", str(receipt))
        proved = await network.joule("receipt", "verify", str(receipt), "--json")
        earned = [
            (await network.joule("balance", leg["provider"], "--json")).json()["free"]
            for leg in report["legs"]  # type: ignore[attr-defined]
        ]
    (healed,) = report["healed"]  # type: ignore[misc]
    assert (healed["gone"], len(healed["joined"])) == ([1], 2)
    assert (report["tokens_out"], report["error"], report["verified"]) == (TOKENS, None, True)
    (told,) = (event for event in events if event["event"] == "healed")
    assert (told["level"], told["legs"], told["joined"]) == ("warning", [1], healed["joined"])
    base, end = healed["position"], report["tokens_in"] + TOKENS - 1  # type: ignore[operator]
    parts = {part["leg"]: (part["blocks"], part["positions"]) for part in proved.json()["served"]}
    first, second = healed["joined"] if report["legs"][3]["blocks"] == "2:3" else reversed(healed["joined"])  # type: ignore[index]
    assert parts == {
        0: ("0:2", f"0:{end}"),
        1: ("2:4", f"0:{base}"),
        2: ("4:6", f"0:{end}"),
        first: ("2:3", f"{base}:{end}"),
        second: ("3:4", f"{base}:{end}"),
    }
    assert proved.json()["amounts"] == earned
    assert f"from position {base}: leg 0 blocks 0:2, leg {first} blocks 2:3, leg {second} blocks 3:4" in verified.out
    bundle = load_bundle(receipt.read_bytes())
    monkeypatch.setattr(
        "node.app.buying.audit.draw", lambda seed, session, windows, legs: Draw(window=windows - 1, leg=9)
    )
    found = audit_bundle(bundle, endless)
    assert found.verdict is Verdict.MATCH
    assert found.windows_judged == found.windows == report["windows"]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.asyncio
async def test_of_two_neighbours_that_die_at_once_nobody_is_called_a_liar(tmp_path: Path, endless: Path) -> None:
    """What the one replacement feeds the other it has computed itself: no byte of it need be what was signed for."""
    async with LocalNetwork(tmp_path) as network:
        await network.start_ledger()
        spans = ("0:2", "2:4", "4:6", "0:6", "0:6")
        more = {f"node{number}": ROOM if number < 3 else DEAR for number in range(len(spans))}
        await network.start_nodes(endless, *spans, **more)
        assert (await network.joule("faucet", "1")).status == 0
        report, _ = await healed_run(network, tmp_path / "receipt.json", "node0", "node1")
        assert (await network.joule("receipt", "verify", str(tmp_path / "receipt.json"))).status == 0
    gone = sorted(leg for each in report["healed"] for leg in each["gone"])  # type: ignore[attr-defined]
    assert (gone, report["tokens_out"], report["error"], report["verified"]) == ([0, 1], TOKENS, None, True)
