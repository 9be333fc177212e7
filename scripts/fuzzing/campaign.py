"""Many inputs for many targets: each share of a target runs in a process of its own, which may hang or die.

A share is fixed by its target and number: two runs of the same code try the same inputs. Before each execution the
input stands in memory that the parent shares, so that one which ends its process, or never ends, is known.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import mmap
import multiprocessing
import os
import random
import resource
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self

from scripts.fuzzing.execution import Finding, execute
from scripts.fuzzing.mutators import MAX_INPUT_BYTES
from scripts.fuzzing.registry import kept_inputs, registry
from scripts.fuzzing.target import Target

__all__ = ["SHARE", "Tally", "campaign", "explore", "shares"]

SHARE = 50_000
"""Executions in one process."""
HANG_S = 60.0
"""A process whose input does not change for so long is ended; on a clock, so it allows for a busy machine."""
_ADDRESS_SPACE = 6 * 1024**3
_POOL = 400
_MAX_FINDINGS = 10
_HEAD = struct.Struct("<QQ")


@dataclass(slots=True)
class Tally:
    """What came of a target so far; tallies add up."""

    target: str
    executions: int = 0
    seconds: float = 0.0
    accepted: int = 0
    worst_cpu_s: float = 0.0
    worst_memory: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    behaviours: set[tuple[str, ...]] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take another share in."""
        self.executions += other.executions
        self.seconds += other.seconds
        self.accepted += other.accepted
        self.worst_cpu_s = max(self.worst_cpu_s, other.worst_cpu_s)
        self.worst_memory = max(self.worst_memory, other.worst_memory)
        self.errors += other.errors
        self.behaviours |= other.behaviours
        known = {finding.why for finding in self.findings}
        self.findings += [finding for finding in other.findings if finding.why not in known]

    def state(self) -> dict[str, Any]:
        """All of it, as what JSON has; `from_state` is the way back."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        behaviours = sorted(map(list, self.behaviours))
        findings = [[each.target, each.why, each.data.hex()] for each in self.findings]
        return {**plain, "errors": dict(self.errors), "behaviours": behaviours, "findings": findings}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Raises ValueError, TypeError, KeyError for what `state` did not make."""
        behaviours = {tuple(each) for each in state["behaviours"]}
        findings = [Finding(target, why, bytes.fromhex(data)) for target, why, data in state["findings"]]
        return cls(**{**state, "errors": Counter(state["errors"]), "behaviours": behaviours, "findings": findings})

    def as_json(self) -> dict[str, Any]:
        """For people's programs."""
        return {
            "target": self.target,
            "executions": self.executions,
            "per_second": round(self.executions / self.seconds) if self.seconds else 0,
            "worst_cpu_ms": round(self.worst_cpu_s * 1000, 1),
            "worst_memory_mib": round(self.worst_memory / 2**20, 1),
            "accepted": self.accepted,
            "errors": dict(self.errors),
            "behaviours": len(self.behaviours),
            "findings": [{"why": each.why, "input": each.data[:4096].hex()} for each in self.findings],
        }


def explore(
    target: Target, executions: int, share: int = 0, before: Callable[[int, bytes], None] | None = None
) -> Tally:
    """Run seeds and corpus, then inputs made from them and from all whose behaviour was new."""
    rng = random.Random(f"{target.name} {share}")
    pool = [*target.seeds(), *kept_inputs(target.name)]
    first, tally = list(pool), Tally(target.name)
    began, found = time.monotonic(), set()
    for number in range(executions):
        data = first[number] if number < len(first) else rng.choice(target.mutators)(rng, rng.choice(pool), pool)
        data = data[:MAX_INPUT_BYTES]
        if before is not None:
            before(number, data)
        outcome = execute(target, data)
        tally.executions += 1
        tally.worst_cpu_s = max(tally.worst_cpu_s, outcome.cpu_s)
        tally.worst_memory = max(tally.worst_memory, outcome.memory_bytes)
        if outcome.finding is not None:
            if outcome.behaviour not in found and len(tally.findings) < _MAX_FINDINGS:
                found.add(outcome.behaviour)
                tally.findings.append(outcome.finding)
            continue
        if outcome.error:
            tally.errors[outcome.error] += 1
        else:
            tally.accepted += 1
        if outcome.behaviour not in tally.behaviours or (not outcome.error and rng.random() < 0.01):
            tally.behaviours.add(outcome.behaviour)
            if len(pool) < _POOL and len(data) < 32 * 1024:
                pool.append(data)
    tally.seconds = time.monotonic() - began
    return tally


def shares(names: Iterable[str], executions: int | None) -> Iterator[tuple[str, int, int]]:
    """Target, number and size of each share."""
    for name in names:
        left = registry()[name].long if executions is None else executions
        for number in range(-(-left // SHARE)):
            yield name, number, min(SHARE, left - number * SHARE)


class _Worker:
    """One share in a process of its own."""

    def __init__(self, name: str, share: int, executions: int) -> None:
        self.name, self.executions = name, executions
        self._shared = mmap.mmap(-1, _HEAD.size + MAX_INPUT_BYTES)
        self.ended, theirs = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=self._run, args=(theirs, share), daemon=True)
        self.process.start()
        theirs.close()
        self._seen, self._seen_at = -1, time.monotonic()

    def _run(self, ended: Connection, share: int) -> None:
        faulthandler.disable()
        gc.freeze()  # what is imported is not searched for garbage within somebody's hundred milliseconds
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
        with contextlib.suppress(OSError), Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stderr.fileno())  # what libraries say of a panic
        ended.send(explore(registry()[self.name], self.executions, share, self._before))

    def _before(self, number: int, data: bytes) -> None:
        self._shared[: _HEAD.size] = _HEAD.pack(number, len(data))
        self._shared[_HEAD.size : _HEAD.size + len(data)] = data

    def hangs(self) -> bool:
        """Whether its input has not changed for too long."""
        number, _ = _HEAD.unpack(self._shared[: _HEAD.size])
        if number != self._seen:
            self._seen, self._seen_at = number, time.monotonic()
        return time.monotonic() - self._seen_at > HANG_S

    def result(self, *, hung: bool) -> Tally:
        """What it found; where it hung or died, the input that it had."""
        if hung:
            self.process.kill()
        try:
            tally: Tally = self.ended.recv()
        except EOFError:
            number, length = _HEAD.unpack(self._shared[: _HEAD.size])
            data = self._shared[_HEAD.size : _HEAD.size + length]
            self.process.join()
            why = "it does not come to an end" if hung else f"the process ended with status {self.process.exitcode}"
            tally = Tally(self.name, executions=number, findings=[Finding(self.name, why, bytes(data))])
        self.process.join()
        return tally


def campaign(work: Iterable[tuple[str, int, int]], processes: int, done: Callable[[Tally, int], None]) -> None:
    """Run shares side by side; `done` is told what came of each, and its number."""
    waiting, running = iter(work), dict[Any, tuple[_Worker, int]]()
    while True:
        while len(running) < processes and (share := next(waiting, None)) is not None:
            worker = _Worker(*share)
            running[worker.ended] = worker, share[1]
        if not running:
            return
        ready = set(wait(list(running), timeout=1.0))
        for connection, (worker, number) in list(running.items()):
            hung = connection not in ready and worker.hangs()
            if connection in ready or hung:
                del running[connection]
                done(worker.result(hung=hung), number)
