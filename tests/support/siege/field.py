"""The network under attack: a ledger, nodes, an honest client that lives long, and newcomers who come once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import runpy
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from local_network import LocalNetwork

from node.app.buying.audit import BUNDLED_MODEL
from node.demo.forked import Command, Forked
from node.model_directory import model_manifest
from siege.attack import Attack, NodeAt, Target
from siege.disk import small_disk
from siege.watched import Usage, WatchedGroup, WatchedProcess, Work, peak_mb, usage_of, work_of

__all__ = ["Child", "Field", "FreshRun", "Job", "Shape"]

READY_S = 90.0
STOP_S = 10.0
DONE_S = 90.0
"""For an attacker, which gives way to everybody else, to notice that it is to stop."""
FRESH_S = 150.0
MONEY = "2"


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the network is."""

    spans: tuple[str, ...] = ("0:2", "2:4", "4:6")
    tokens: int = 8
    """Of an honest job."""
    rest_s: float = 0.0
    """Of the honest client between two jobs."""
    most_files: int | None = None
    """Descriptors that a node may have."""
    own_disks: bool = False
    """Whether the ledger and each node keep their files on small disks of their own, where the system lets us."""


@dataclass(frozen=True, slots=True)
class Job:
    """One honest job; times are of the monotonic clock, which all processes share."""

    began: float
    ended: float
    first_s: float | None
    code: str
    """Empty where it came and was paid."""
    cost: int
    needed: int

    @property
    def ok(self) -> bool:
        return not self.code


@dataclass(frozen=True, slots=True)
class FreshRun:
    """One `joule run` by somebody who has just come."""

    first_s: float | None
    """From the start of the command to the first of its answer; None where none came."""
    total_s: float
    peak_mb: float
    work: Work
    """Until it was seen last."""
    said: str
    """What it complained about."""


class Program(Command):
    """A module and its arguments, as for ``python -m``."""

    def perform(self) -> None:
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


class Child:
    """A process of the siege's own, which tells JSON lines."""

    def __init__(self, process: Forked) -> None:
        self.process = process
        self.said: list[dict[str, Any]] = []
        self.complaint = ""
        self._news = asyncio.Condition()
        self._reading = [asyncio.create_task(self._read()), asyncio.create_task(self._read_errors())]

    @classmethod
    async def start(cls, module: str, *arguments: str) -> Self:
        process = await Forked.start([module, *arguments], {"OMP_NUM_THREADS": "1"}, kind=Program)
        return cls(process)

    def tell(self, line: str) -> None:
        """What was said before is forgotten."""
        self.said.clear()
        self.process.stdin.write(line.encode() + b"\n")

    async def wait_for(self, *events: str, limit_s: float) -> bool:
        """Whether one of these was said in time, or the process ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s), self._news:
                while not any(each["event"] in (*events, "ended") for each in self.said):
                    await self._news.wait()
                return True
        return False

    async def news(self, limit_s: float) -> None:
        """Until something more is said, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s), self._news:
                await self._news.wait()

    async def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        await asyncio.gather(*self._reading)

    async def _read(self) -> None:
        while line := await self.process.stdout.readline():
            with contextlib.suppress(ValueError):
                await self._note(json.loads(line))
        await self._note({"event": "ended"})

    async def _note(self, event: dict[str, Any]) -> None:
        async with self._news:
            self.said.append(event)
            self._news.notify_all()

    async def _read_errors(self) -> None:
        while some := await self.process.stderr.read(65_536):
            self.complaint = (self.complaint + some.decode(errors="replace"))[-4000:]


@dataclass(slots=True)
class Field:
    """Made by `open`; everything in it ends with the block."""

    shape: Shape
    network: LocalNetwork
    honest: Child
    target: Target
    processes: dict[str, WatchedProcess] = field(default_factory=dict)
    """The ledger and the nodes, by name."""
    _attacker: Child | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path, shape: Shape) -> AsyncIterator[Self]:
        ledgers, nodes = WatchedGroup(), WatchedGroup()
        nodes.most_files = shape.most_files
        async with AsyncExitStack() as disks, AsyncExitStack() as stack:
            for name in ("ledger", "node0", "small") if shape.own_disks else ():
                disks.enter_context(small_disk(folder / name))
            network = await disks.enter_async_context(LocalNetwork(folder, _ledgers=ledgers, _nodes=nodes))
            await network.start_ledger(grace_s=60)
            await network.start_nodes(BUNDLED_MODEL, *shape.spans)
            manifest = await asyncio.to_thread(model_manifest, BUNDLED_MODEL)
            honest = await Child.start(
                "siege.honest", network.url, str(folder / "honest"), manifest.name, manifest.root.hex(),
                str(shape.tokens), str(shape.rest_s),
            )  # fmt: skip
            stack.push_async_callback(honest.stop)
            processes = {"ledger": network.ledger, **network.nodes}
            watched = {name: each for name, each in processes.items() if isinstance(each, WatchedProcess)}
            target = await _target(network, shape, manifest.name)
            made = cls(shape, network, honest, target, watched)
            stack.push_async_callback(made.dismiss)
            await made._wait_for_a_job()
            yield made

    @property
    def jobs(self) -> list[Job]:
        """All that the honest client has done so far."""
        said = [{**each} for each in self.honest.said if each["event"] == "job"]
        return [Job(**{key: value for key, value in each.items() if key != "event"}) for each in said]

    async def jobs_in(self, seconds: float, least: int, limit_s: float = 60.0) -> list[Job]:
        """Those that end from now on, for so long, until so many were done or the limit has passed."""
        began, known = time.monotonic(), len(self.jobs)
        while (passed := time.monotonic() - began) < limit_s:
            found = self.jobs[known:]
            if passed >= seconds and sum(job.ok for job in found) >= least:
                return found
            await self.honest.news(max(0.05, seconds - passed) if passed < seconds else limit_s - passed)
            if self.honest.process.returncode is not None:
                await asyncio.sleep(max(0.0, seconds - passed))
                break
        return self.jobs[known:]

    def usage(self, name: str) -> Usage | None:
        """Of a process by name, ``honest`` included; None where it is gone."""
        process = self.honest.process if name == "honest" else self.processes[name].process
        try:
            return usage_of(process.pid)
        except OSError:
            return None

    @property
    def work(self) -> Work:
        """Of all honest processes together."""
        total = Work()
        for process in (self.honest.process, *(each.process for each in self.processes.values())):
            with contextlib.suppress(OSError):
                total += work_of(process.pid)
        return total

    @property
    def tracebacks(self) -> int:
        return sum(each.tracebacks for each in self.processes.values()) + self.honest.complaint.count("Traceback")

    @property
    def gone(self) -> dict[str, str]:
        """What processes that ended by themselves said at the end, and with which status, by name."""
        said = {
            each.name: f"{each.process.returncode}: {each.complaints[-3:]}"
            for each in self.processes.values()
            if not each.running
        }
        if self.honest.process.returncode is not None:
            said["honest"] = f"{self.honest.process.returncode}: {self.honest.complaint[-1500:]}"
        return said

    @property
    def exits(self) -> int:
        """Processes that ended by themselves."""
        return len(self.gone)

    async def fresh_run(self, *more: str) -> FreshRun:
        """A newcomer's command, timed."""
        await self._fund("newcomer")
        began, first, most, work = time.monotonic(), None, 0.0, Work()
        process = await self.network.spawn(
            "run", "Mia has a kite.", "--raw", "--model", self.target.model_name,
            "--max-tokens", str(self.shape.tokens), *more, name="newcomer",
        )  # fmt: skip
        reading = asyncio.create_task(process.stdout.read(1) if process.stdout else asyncio.sleep(0, b""))
        errors = asyncio.create_task(process.stderr.read() if process.stderr else asyncio.sleep(0, b""))
        ending = asyncio.create_task(process.wait())
        while not ending.done() and time.monotonic() - began < FRESH_S:
            await asyncio.wait({ending} | ({reading} if first is None else set()), timeout=0.1,
                               return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
            if first is None and reading.done() and reading.result():
                first = time.monotonic() - began
            with contextlib.suppress(OSError):
                most, work = max(most, peak_mb(process.pid)), work_of(process.pid)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        status = await ending
        said = (await errors).decode(errors="replace").strip() if status else ""
        reading.cancel()
        return FreshRun(first if status == 0 else None, time.monotonic() - began, most, work, said[:300])

    async def _fund(self, name: str) -> None:
        if name not in self.network.addresses:
            done = await self.network.joule("faucet", MONEY, name=name)
            if done.status != 0:
                raise RuntimeError(f"the faucet gives nothing: {done.err}")

    @asynccontextmanager
    async def attack(self, attack: Attack, count: int, limit_s: float = 60.0) -> AsyncIterator[Child]:
        """An attack under way, from when it begins; it is stopped at the end of the block."""
        child = self._attacker
        if child is None or child.process.returncode is not None:
            child = self._attacker = await Child.start("siege.attacker", self.target.to_json())
        child.tell(f"go {attack.name} {count}")
        await child.wait_for("begun", limit_s=limit_s)
        try:
            yield child
        finally:
            child.process.stdin.write(b"stop\n")
            if not await child.wait_for("done", limit_s=DONE_S):
                await self.dismiss()

    async def dismiss(self) -> None:
        """End the attacker's process; the next attack has a new one."""
        child, self._attacker = self._attacker, None
        if child is not None:
            await child.stop()

    async def _wait_for_a_job(self) -> None:
        if not await self.honest.wait_for("job", limit_s=READY_S):
            raise RuntimeError(f"no honest job came to an end: {self.honest.complaint}")
        jobs = self.jobs
        if not jobs or not jobs[-1].ok:
            raise RuntimeError(f"the first honest job failed: {jobs} {self.honest.complaint}")
        self.target = _with_budget(self.target, jobs[-1].needed)


def _with_budget(target: Target, budget_micro: int) -> Target:
    return Target.from_json(json.dumps({**json.loads(target.to_json()), "budget_micro": budget_micro}))


async def _target(network: LocalNetwork, shape: Shape, model_name: str) -> Target:
    if network.ledger is None:
        raise RuntimeError("there is no ledger")
    ledger = await network.ledger.event("ledger ready")
    ready = [await node.event("node ready") for node in network.nodes.values()]
    return Target(
        ledger=network.url,
        ledger_peer=ledger["peer"],
        nodes=tuple(
            NodeAt(each["peer"], each["data"], blocks) for each, blocks in zip(ready, shape.spans, strict=True)
        ),
        model=str(BUNDLED_MODEL),
        model_name=model_name,
        budget_micro=0,
        home=str(network.home / "attacker"),
    )
