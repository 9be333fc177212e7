"""The market of a demo: a ledger, nodes, and clients of it, in a folder that is removed with all that ran in it."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.app.buying.audit import BUNDLED_MODEL
from node.app.buying.client import Client, open_client
from node.config import ClientConfig
from node.demo.processes import JouleProcess, ProcessGroup
from node.demo.result import DemoTransaction
from node.demo.wan import Wan
from node.events import Events, unheard
from node.keystore import LIGHT, Keystore, generate
from protocol.identity.ids import checksum_address
from protocol.market.offer import Offer
from protocol.units import MICRO

__all__ = ["CLIENT", "LEDGER", "NODES", "STANDBY", "DemoMarket", "DemoNode", "demo_market"]

CLIENT = "client"
LEDGER = "ledger"
MAX_TOKENS = 96
PLAY_MONEY = 5 * MICRO
COLLECT_S = 30.0
"""Seconds to wait for the offers of all nodes."""


@dataclass(frozen=True, slots=True)
class DemoNode:
    """A provider."""

    name: str
    blocks: str
    jurisdiction: str
    energy_price: str
    """$ per kWh."""
    overhead_price: str
    """$ per million tokens that the node costs besides energy."""
    tariff: str = ""
    """What a tariff file says; empty where the price holds at all hours."""
    joules_per_token: str = ""
    """Declared; empty where it is measured."""


NODES = (
    DemoNode("reykjavik", "0:2", "IS", "0.05", "0.30"),
    DemoNode("berlin", "2:4", "DE", "0.31", "0.45"),
    DemoNode("lyon", "4:6", "FR", "0.18", "0.40"),
)
STANDBY = DemoNode("oslo", "0:6", "NO", "0.08", "4.00")
"""Has all blocks, and is too dear to be on the route."""


class DemoMarket:
    """Made by `demo_market`.

    Args:
        wan: where each process is a host of its own, under its name.
    """

    def __init__(self, folder: Path, ledgers: ProcessGroup, nodes: ProcessGroup, wan: Wan | None) -> None:
        self._folder = folder
        self._ledgers = ledgers
        self._nodes = nodes
        self._wan = wan
        self._passphrase = secrets.token_urlsafe(16)
        self._url = ""
        self._names: dict[str, str] = {}
        """Of nodes, by address."""
        self._processes: dict[str, JouleProcess] = {}

    async def start(self, nodes: Sequence[DemoNode], say: Callable[[str], None]) -> None:
        """Start a ledger and these nodes, and tell of each that is ready. Raises LocalError where one is not."""
        self._url = await self._open_venue()
        processes = await self._start_nodes(nodes)
        for node, process in zip(nodes, processes, strict=True):
            serving = await process.event("node ready")
            price = f"${node.energy_price}/kWh" if not node.tariff else "by the hour"
            say(
                f"  {node.name:<10} blocks {node.blocks}  {node.jurisdiction}  "
                f"{price}  ready in {serving['start_s']:.1f} s"
            )

    @asynccontextmanager
    async def client(self, name: str, *, events: Events = unheard, **settings: Any) -> AsyncIterator[Client]:
        """A new client with play money, that has heard of all nodes.

        Args:
            settings: fields of `ClientConfig`.
        """
        config = ClientConfig(
            ledger=self._url, data_dir=self._folder / name, **{"max_tokens": MAX_TOKENS, **self._settings, **settings}
        )
        async with open_client(config, generate(), events) as client:
            await self._endow(client)
            await client.offers(COLLECT_S, enough=self._all_here)
            yield client

    def sent(self, client: Client) -> tuple[DemoTransaction, ...]:
        """What a client had a chain do."""
        return ()

    async def close(self) -> None:
        """End what is neither a node nor a ledger, once the nodes have ended."""

    def name(self, provider: str) -> str:
        """That of the node which is paid at an address."""
        return self._names[provider]

    def kill(self, name: str) -> None:
        """End a node at once, without a last word: SIGKILL."""
        self._processes[name].process.send_signal(signal.SIGKILL)

    def _all_here(self, offers: Sequence[Offer]) -> bool:
        return len({offer.public_key for offer in offers}) >= len(self._processes)

    @property
    def _settings(self) -> Mapping[str, Any]:
        """Of each client."""
        return {}

    async def _open_venue(self) -> str:
        """Start where jobs are settled; as the setting `ledger` names it."""
        ledger = await self._start_ledger()
        return str((await ledger.event("ledger ready"))["url"])

    async def _endow(self, client: Client) -> None:
        """Give a client play money."""
        await client.faucet(PLAY_MONEY)

    async def _start_nodes(self, nodes: Sequence[DemoNode]) -> Sequence[JouleProcess]:
        return await asyncio.gather(*map(self._start_node, nodes))

    async def _start_ledger(self) -> JouleProcess:
        arguments = ["ledger", "run", "--port", "0", "--grace-s", "60", "--faucet-limit", "5"]
        if self._wan is not None:
            arguments += ["--host", self._wan.address(LEDGER), *self._listen(LEDGER)]
        environment, _ = self._environment(LEDGER)
        return await self._ledgers.start(LEDGER, arguments, environment, namespace=self._namespace(LEDGER))

    async def _start_node(self, node: DemoNode, *more: str) -> JouleProcess:
        arguments = ["node", "run", "--model", str(BUNDLED_MODEL), "--blocks", node.blocks, "--ledger", self._url]
        arguments += ["--jurisdiction", node.jurisdiction, "--energy-price", node.energy_price, "--kv-tokens", "4096"]
        arguments += ["--overhead-price", node.overhead_price, *more]
        if node.tariff:
            file = self._folder / f"{node.name}.toml"
            file.write_text(node.tariff)
            arguments += ["--tariff", str(file)]
        if node.joules_per_token:
            arguments += ["--joules-per-token", node.joules_per_token]
        if self._wan is not None:
            arguments += ["--data-host", self._wan.address(node.name), *self._listen(node.name), "--drafter", "layers"]
        environment, address = self._environment(node.name)
        process = await self._nodes.start(node.name, arguments, environment, namespace=self._namespace(node.name))
        self._names[address], self._processes[node.name] = node.name, process
        return process

    def _listen(self, host: str) -> list[str]:
        return [] if self._wan is None else ["--listen", f"/ip4/{self._wan.address(host)}/tcp/0"]

    def _namespace(self, host: str) -> int | None:
        return None if self._wan is None else self._wan.namespace(host)

    def _environment(self, name: str) -> tuple[dict[str, str], str]:
        """A key of its own, and what finds it; the key's address."""
        key, home = generate(), self._folder / name
        Keystore(home / "keys").create("default", key, self._passphrase, work_factor=LIGHT)
        environment = {"JOULE_HOME": str(home), "JOULE_PASSPHRASE": self._passphrase, "OMP_NUM_THREADS": "1"}
        return environment, checksum_address(key.address)


@asynccontextmanager
async def demo_market(
    say: Callable[[str], None], wan: Wan | None = None, kind: type[DemoMarket] = DemoMarket
) -> AsyncIterator[DemoMarket]:
    """An empty market. At the end everything in it is stopped, the nodes before the ledger, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="joulemesh-demo-"))
    try:
        async with ProcessGroup() as ledgers, ProcessGroup() as nodes:
            market = kind(folder, ledgers, nodes, wan)
            try:
                yield market
                say("\nStopping the ledger and the nodes ...")
            finally:
                await nodes.stop()
                await market.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
