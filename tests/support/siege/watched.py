"""Processes that are looked at from outside: memory, descriptors, tracebacks, and whether they still run."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from resource import RLIMIT_NOFILE, prlimit
from typing import Any

from node.demo.processes import JouleProcess, ProcessGroup

__all__ = ["Usage", "WatchedGroup", "WatchedProcess", "Work", "peak_mb", "usage_of", "work_of"]

_TRACEBACK = re.compile(rb"Traceback \(most recent call last\)|^\d\d:\d\d:\d\d  (?:error|critical) ")
"""A traceback, or the one line that our log makes of one."""
_KEPT = 20


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process holds."""

    rss_mb: float
    files: int
    cpu_s: float


def usage_of(pid: int) -> Usage:
    """Raises OSError where the process is gone."""
    folder = Path(f"/proc/{pid}")
    status = (folder / "status").read_text()
    times = (folder / "stat").read_text().rpartition(")")[2].split()
    return Usage(
        rss_mb=_field_mb(status, "VmRSS"),
        files=len(list((folder / "fd").iterdir())),
        cpu_s=(int(times[11]) + int(times[12])) / 100,
    )


@dataclass(frozen=True, slots=True)
class Work:
    """What a process has had of processors so far, in seconds."""

    cpu_s: float = 0.0
    waited_s: float = 0.0
    """That its threads could have run, and others did."""

    def __add__(self, other: Work) -> Work:
        return Work(self.cpu_s + other.cpu_s, self.waited_s + other.waited_s)

    def __sub__(self, other: Work) -> Work:
        return Work(self.cpu_s - other.cpu_s, self.waited_s - other.waited_s)


def work_of(pid: int) -> Work:
    """Raises OSError where the process is gone."""
    ran = waited = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            first, second, _ = (task / "schedstat").read_text().split()
            ran, waited = ran + int(first), waited + int(second)
    return Work(ran / 1e9, waited / 1e9)


def peak_mb(pid: int) -> float:
    """The most that a process held. Raises OSError where it is gone."""
    return _field_mb(Path(f"/proc/{pid}/status").read_text(), "VmHWM")


def _field_mb(status: str, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1000 if found else 0.0


class WatchedProcess(JouleProcess):
    """A `joule` command whose tracebacks are counted."""

    tracebacks: int = 0
    complaints: list[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    async def _read_complaints(self) -> None:
        self.complaints = []
        stream = self.process.stderr
        while stream is not None:
            try:
                line = await stream.readline()
            except ValueError:  # a line longer than is read
                continue
            if not line:
                break
            text = line.decode(errors="replace").rstrip()
            self._complaint = self._complaint or text[:500]
            if _TRACEBACK.search(line):
                self.tracebacks += 1
            if len(self.complaints) < _KEPT:
                self.complaints.append(text[:300])
        async with self._news:
            self._news.notify_all()


class WatchedGroup(ProcessGroup):
    """Watched processes that end together."""

    kind = WatchedProcess
    most_files: int | None = None
    """Descriptors that the next process may have."""

    async def start(self, *arguments: Any, **more: Any) -> JouleProcess:
        process = await super().start(*arguments, **more)
        if self.most_files is not None:
            with suppress(ProcessLookupError):  # ended already: who waits for its events hears why
                prlimit(process.process.pid, RLIMIT_NOFILE, (self.most_files, self.most_files))
        return process
