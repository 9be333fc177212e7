"""A ledger and some nodes as real processes on loopback, and `joule` commands against them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.demo.forked import Forked
from node.demo.processes import JouleProcess, ProcessGroup
from node.demo.wan import Wan
from node.keystore import LIGHT, Keystore, generate
from node.pipeline.vouchers import StoredVoucher, stored_voucher
from protocol.identity.ids import checksum_address

PASSPHRASE = "correct horse"


@dataclass(slots=True)
class Finished:
    """A command that has ended."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(slots=True)
class LocalNetwork:
    """Use as an async context manager; everything is stopped at its end."""

    home: Path
    wan: Wan | None = None
    """Where every process is a host of its own, under its name; every client is at the host ``client``."""
    url: str = ""
    ledger: JouleProcess | None = None
    nodes: dict[str, JouleProcess] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    """EVM addresses by name."""
    _ledgers: ProcessGroup = field(default_factory=ProcessGroup)
    _nodes: ProcessGroup = field(default_factory=ProcessGroup)

    async def __aenter__(self) -> LocalNetwork:
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._ledgers, self._nodes:
            pass  # the nodes end before the ledger, which they redeem at

    def environment(self, name: str) -> dict[str, str]:
        return {"JOULE_HOME": str(self.home / name), "JOULE_PASSPHRASE": PASSPHRASE, "OMP_NUM_THREADS": "1"}

    def make_key(self, name: str) -> None:
        store = Keystore(self.home / name / "keys")
        if name not in self.addresses:
            key = generate()
            store.create("default", key, PASSPHRASE, work_factor=LIGHT)
            self.addresses[name] = checksum_address(key.address)

    async def start(self, name: str, *arguments: str) -> JouleProcess:
        self.make_key(name)
        group = self._ledgers if name.startswith("ledger") else self._nodes
        listen = () if self.wan is None else ("--listen", f"/ip4/{self.wan.address(name)}/tcp/0")
        return await group.start(name, [*arguments, *listen], self.environment(name), namespace=self._namespace(name))

    def _namespace(self, host: str) -> int | None:
        return None if self.wan is None else self.wan.namespace(host)

    async def start_ledger(self, *, grace_s: int = 2, faucet: str = "5", port: int = 0) -> str:
        self.ledger = await self.start(
            "ledger", "ledger", "run", "--port", str(port), "--grace-s", str(grace_s), "--faucet-limit", faucet,
            *(() if self.wan is None else ("--host", self.wan.address("ledger"))),
        )  # fmt: skip
        self.url = (await self.ledger.event("ledger ready"))["url"]
        return self.url

    async def start_node(self, name: str, model: Path, blocks: str, *more: str) -> JouleProcess:
        self.nodes[name] = await self.start(
            name, "node", "run", "--model", str(model), "--blocks", blocks, "--ledger", self.url,
            "--jurisdiction", "DE", "--overhead-price", "0.50", "--kv-tokens", "2048", "--settle-fee-share", "100",
            *(() if self.wan is None else ("--data-host", self.wan.address(name))), *more,
        )  # fmt: skip
        return self.nodes[name]

    async def start_nodes(self, model: Path, *spans: str, **more: tuple[str, ...]) -> None:
        names = [f"node{number}" for number in range(len(spans))]
        for name, blocks in zip(names, spans, strict=True):
            await self.start_node(name, model, blocks, *more.get(name, ()))
        await asyncio.gather(*(self.nodes[name].event("node ready") for name in names))

    def sessions(self, name: str) -> list[StoredVoucher]:
        """A client's sessions that are not closed yet, with their newest vouchers."""
        return [stored_voucher(path.read_bytes()) for path in (self.home / name).rglob("sessions/*/*.voucher")]

    async def joule(
        self, *arguments: str, name: str = "client", timeout_s: float = 200, said: str = "", **more: str
    ) -> Finished:
        """Run one `joule` command to its end; `said` is its standard input."""
        process = await self.spawn(*arguments, name=name, **more)
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(said.encode())
        return Finished(process.returncode or 0, out.decode(), err.decode())

    async def spawn(self, *arguments: str, name: str = "client", **more: str) -> Forked:
        self.make_key(name)
        environment = {**self.environment(name), "JOULE_LEDGER": self.url, **more}
        return await Forked.start(arguments, environment, namespace=self._namespace("client"))


async def voucher_beyond(process: Forked, tokens: int) -> None:
    """Wait until a client with ``--verbose --json`` has signed for more than so many generated tokens."""
    told = []
    async with asyncio.timeout(120):
        while line := (await process.stderr.readline()).decode():
            told.append(line)
            event = json.loads(line)
            if event["event"] == "voucher signed" and event["tokens_out"] > tokens:
                return
    raise AssertionError(f"the job ended before: {told}")
