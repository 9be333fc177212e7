"""`joule demo --venue evm`: the same jobs, settled by the contract on a chain that lives as long as the demo does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from node.app.buying.client import Client
from node.demo.local_chain import LocalChain
from node.demo.market import PLAY_MONEY, DemoMarket, DemoNode
from node.demo.processes import JouleProcess
from node.demo.result import DemoTransaction
from node.settlement.evm import EvmVenue
from protocol.identity.ids import parse_address

__all__ = ["ChainMarket"]


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
        client.told(await client.deposit(PLAY_MONEY))

    def sent(self, client: Client) -> tuple[DemoTransaction, ...]:
        found = client.ledger.sent if isinstance(client.ledger, EvmVenue) else []
        return tuple(
            DemoTransaction(operation=each.operation, transaction=each.name, block=each.block, gas=each.gas)
            for each in found
        )

    @property
    def _opened(self) -> LocalChain:
        if self._chain is None:
            raise RuntimeError("the chain is started first")
        return self._chain

    async def close(self) -> None:
        if self._chain is not None:
            await self._chain.stop()
