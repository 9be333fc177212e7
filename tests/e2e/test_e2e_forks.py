"""A ledger that forks in front of a running node and its clients: real processes, gossip, and a second history."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from pathlib import Path

import pytest
from local_network import PASSPHRASE, LocalNetwork

from node.app.network.membership import open_network
from node.app.process.clock import clock
from node.events import unheard
from node.keystore import Keystore
from node.ledger import LedgerClient, LedgerSettings, run_ledger
from protocol.identity.signing import SigningKey
from protocol.names import CHECKPOINTS_TOPIC

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]
FAUCET = 5_000_000


async def second_history(net: LocalNetwork, folder: Path, size: int) -> bytes:
    """What the operator signs for others: the log as it was copied, and other entries from there on."""
    operator = Keystore(net.home / "ledger" / "keys").find("default").unlock(PASSPHRASE)
    settings = LedgerSettings(folder=folder, port=0, grace_s=2, faucet_limit=FAUCET)
    async with run_ledger(settings, operator, clock) as ledger, LedgerClient(ledger.url) as client:
        while (await client.checkpoint()).size < size:
            await client.faucet(SigningKey(secrets.token_bytes(32)).address, 7)
        if client.note is None:
            raise RuntimeError("a ledger that was asked has shown a checkpoint")
        return client.note


async def test_a_fork_stops_a_running_node_and_its_proof_everybody_else(llama: Path, tmp_path: Path) -> None:
    """Gossip brings the other history: the node takes its offer back, and says where the proof is."""
    async with LocalNetwork(tmp_path) as net:
        await net.start_ledger()
        assert net.ledger is not None
        peer = (await net.ledger.event("ledger ready"))["peer"]
        await net.ledger.stop()
        shutil.copytree(tmp_path / "ledger" / "ledger", tmp_path / "second")
        await net.start_ledger(port=int(net.url.rsplit(":", 1)[1]))
        peer = (await net.ledger.event("ledger ready"))["peer"]
        await net.start_nodes(llama, "0:6")
        assert (await net.joule("faucet", "1")).status == 0
        assert (await net.joule("run", "hello", "--max-tokens", "4")).status == 0
        note = await second_history(net, tmp_path / "second", 4)
        stranger = SigningKey(secrets.token_bytes(32))
        async with open_network(stranger, "/ip4/127.0.0.1/tcp/0", unheard) as network:
            await network.join((peer,))
            told = asyncio.create_task(net.nodes["node0"].event("ledger forked"))
            while not told.done():
                await network.host.publish(CHECKPOINTS_TOPIC, note)
                await asyncio.wait([told], timeout=1)
            proof = Path((await told)["proof"])
            await net.nodes["node0"].event("offer withdrawn")
        shown = await net.joule("ledger", "verify-fork", str(proof))
        assert (shown.status, "PROVEN" in shown.out) == (0, True)
        # A client that was handed the proof opens no session.
        shutil.copy(proof, tmp_path / "client" / "ledgers" / proof.name)
        refused = await net.joule("run", "hello", "--max-tokens", "4")
        assert refused.status == 1
        assert "contradicts itself" in refused.err
        assert proof.name in refused.err
        assert (await net.joule("balance")).status == 0
