"""A ledger that forks in front of a running node and its clients: real processes, gossip, and a second history."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from local_network import PASSPHRASE, LocalNetwork, voucher_beyond

from node.app.network.membership import open_network
from node.app.process.clock import clock
from node.demo.forked import Forked
from node.events import unheard
from node.keystore import Keystore
from node.ledger import LedgerClient, LedgerSettings, run_ledger
from protocol.identity.signing import SigningKey
from protocol.names import CHECKPOINTS_TOPIC

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]
FAUCET = 5_000_000
TOKENS = 600
JOB = ("run", "hello", "--max-tokens", str(TOKENS), "--session-s", "300", "--verbose", "--json")


async def start(net: LocalNetwork, model: Path) -> int:
    """A ledger, a copy of it as it is before anything was done, a node with all blocks, a client; the ledger's port."""
    port = int((await net.start_ledger(grace_s=2)).rsplit(":", 1)[1])
    assert net.ledger is not None
    await net.ledger.stop()
    shutil.copytree(net.home / "ledger" / "ledger", net.home / "second")
    await net.start_ledger(port=port)
    await net.start_nodes(model, "0:6", node0=("--kv-tokens", "8192"))
    assert (await net.joule("faucet", "1")).status == 0
    return port


@asynccontextmanager
async def second_history(net: LocalNetwork, size: int, port: int = 0) -> AsyncIterator[bytes]:
    """What the operator signs for others: the log as it was copied, and other entries from there on."""
    operator = Keystore(net.home / "ledger" / "keys").find("default").unlock(PASSPHRASE)
    settings = LedgerSettings(folder=net.home / "second", port=port, grace_s=2, faucet_limit=FAUCET)
    async with run_ledger(settings, operator, clock) as ledger, LedgerClient(ledger.url) as client:
        while (await client.checkpoint()).size < size:
            await client.faucet(SigningKey(secrets.token_bytes(32)).address, 7)
        assert client.note is not None
        yield client.note


async def spread(net: LocalNetwork, note: bytes) -> dict[str, Any]:
    """Have a checkpoint gossiped until the node has found the fork; what it tells of it."""
    assert net.ledger is not None
    stranger = SigningKey(secrets.token_bytes(32))
    async with open_network(stranger, "/ip4/127.0.0.1/tcp/0", unheard) as network:
        await network.join(((await net.ledger.event("ledger ready"))["peer"],))
        told = asyncio.create_task(net.nodes["node0"].event("ledger forked"))
        while not told.done():
            await network.host.publish(CHECKPOINTS_TOPIC, note)
            await asyncio.wait([told], timeout=1)
        return await told


async def ended(process: Forked) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report of a job, and what else it told from here on."""
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    assert b"Traceback" not in err
    return json.loads(out), [json.loads(line) for line in err.decode().splitlines()]


async def test_a_fork_is_heard_of_in_the_middle_of_an_answer(endless: Path, tmp_path: Path) -> None:
    """Gossip brings the other history: what is under way ends as ever, and neither side begins anything new."""
    async with LocalNetwork(tmp_path) as net:
        await start(net, endless)
        async with second_history(net, 4) as note:
            pass
        process = await net.spawn(*JOB)
        await voucher_beyond(process, 1)
        proof = Path((await spread(net, note))["proof"])
        await net.nodes["node0"].event("offer withdrawn")
        report, events = await ended(process)
        assert "ledger forked" in [each["event"] for each in events]
        assert (process.returncode, report["tokens_out"], report["error"]) == (0, TOKENS, None), report
        assert net.sessions("client") == []  # paid, released, and nothing is held
        shown = await net.joule("ledger", "verify-fork", str(proof))
        assert (shown.status, "PROVEN" in shown.out) == (0, True)
        refused = await net.joule("run", "hello", "--max-tokens", "4")
        assert refused.status == 1
        assert "contradicts itself" in refused.err
        assert proof.name in refused.err
        assert (await net.joule("balance")).status == 0


async def test_a_ledger_is_exchanged_in_the_middle_of_an_answer(endless: Path, tmp_path: Path) -> None:
    """Where the session was opened another history answers: the answer comes whole, the last voucher is kept, and is
    redeemed once the ledger shows the first history again.
    """
    async with LocalNetwork(tmp_path) as net:
        port = await start(net, endless)
        assert net.ledger is not None
        process = await net.spawn(*JOB)
        await voucher_beyond(process, 1)
        process.send_signal(signal.SIGSTOP)
        await net.ledger.stop()
        async with second_history(net, 4, port):
            process.send_signal(signal.SIGCONT)
            report, events = await ended(process)
            assert "ledger forked" in [each["event"] for each in events]
            assert (process.returncode, report["tokens_out"], report["error"]) == (1, TOKENS, None)
            assert report["settle_error"]["code"] == "ledger-forked"  # it says that it knows of no such session
            refused = await net.joule("run", "hello", "--max-tokens", "4")
            assert (refused.status, "contradicts itself" in refused.err) == (1, True)
            assert await net.nodes["node0"].stop() == 0
        (held,) = net.sessions("client")
        assert held.pay is not None
        assert held.pay.voucher.tokens_out == TOKENS
        await net.start_ledger(port=port)
        node = await net.start_node("node0", endless, "0:6")
        redeemed = await node.event("voucher redeemed")
        assert redeemed["amount_micro"] == report["paid_micro"] == held.pay.voucher.amounts[0]
        assert (await net.joule("balance")).out.count("held") == 0
        assert net.sessions("client") == []
