"""`joule demo --venue evm`: the same job, settled by the contract on a chain that lives as long as the demo does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from node.app.client import Client
from node.demo.local_chain import LocalChain
from node.demo.market import CLIENT, NODES, PLAY_MONEY, DemoMarket, DemoNode, demo_market
from node.demo.processes import JouleProcess
from node.demo.result import DemoFindings, DemoResult, DemoTransaction
from node.demo.run import DEFAULT_PROMPT, Say, ask, check
from node.settlement.evm import EvmVenue
from protocol.ids import parse_address

__all__ = ["run_on_chain"]


class ChainMarket(DemoMarket):
    """Settles on a chain. A contract names no peers, so the first node is where the others begin."""

    _chain: LocalChain | None = None
    _peer = ""

    @property
    def _settings(self) -> Mapping[str, Any]:
        return {"confirmations": 0, "peers": (self._peer,)}

    async def _open_venue(self) -> str:
        self._chain = await LocalChain.start(self._folder / "chain")
        await self._chain.deploy()
        return self._chain.venue

    async def _start_nodes(self, nodes: Sequence[DemoNode]) -> Sequence[JouleProcess]:
        first, *others = nodes
        started = [await self._start_node(first, "--confirmations", "0")]
        self._peer = (await started[0].event("node ready"))["peer"]
        for node in others:
            started.append(await self._start_node(node, "--confirmations", "0", "--peer", self._peer))
        for provider in self._names:
            await self._opened.give_coin(parse_address(provider))  # to settle what a client does not
        return started

    async def _endow(self, client: Client) -> None:
        await self._opened.give_coin(client.key.address)
        await self._opened.give_tokens(client.key.address, PLAY_MONEY)
        await client.deposit(PLAY_MONEY)

    @property
    def _opened(self) -> LocalChain:
        if self._chain is None:
            raise RuntimeError("the chain is started first")
        return self._chain

    async def close(self) -> None:
        if self._chain is not None:
            await self._chain.stop()


async def run_on_chain(prompt: str | None, *, say: Say, write: Say) -> DemoResult:
    """As `run.run_demo`. Raises LocalError, code ``no-anvil``, where there is no test chain on this machine."""
    async with demo_market(say, kind=ChainMarket) as market:
        say("Starting a test chain with a token and the contract, and three nodes, each a process with its own key ...")
        await market.start(NODES, say)
        async with market.client(CLIENT) as client:
            report, bundle = await ask(client, prompt or DEFAULT_PROMPT, say=say, write=write)
            sent = client.ledger.sent if isinstance(client.ledger, EvmVenue) else []
            transactions = tuple(
                DemoTransaction(operation=each.operation, transaction=each.name, block=each.block, gas=each.gas)
                for each in sent
            )
            found = DemoFindings(audit=await check(bundle, say), transactions=transactions)
            return DemoResult(report=report, found=found)
