"""Child processes that never outlive their parent, and that say what they do as JSON lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Self

from node.demo.forked import Forked
from protocol.errors import LocalError

__all__ = ["JouleProcess", "ProcessGroup"]

STOP_S = 8.0


class JouleProcess:
    """One `joule` command in a process of its own, followed through its JSON events."""

    def __init__(self, name: str, process: Forked | asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process
        self._events: deque[dict[str, Any]] = deque(maxlen=1000)
        self._news = asyncio.Condition()
        self._complaint = ""
        self._readers = [
            asyncio.create_task(self._read_events(), name=f"{name} events"),
            asyncio.create_task(self._read_complaints(), name=f"{name} errors"),
        ]

    @classmethod
    async def start(
        cls,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        namespace: int | None = None,
    ) -> Self:
        """Start ``joule`` with these arguments and ``--json`` (`Forked.start`)."""
        process = await Forked.start([*arguments, "--json"], environment, namespace=namespace)
        process.stdin.close()
        return cls(name, process)

    async def event(self, wanted: str, *, timeout_s: float = 60.0, **details: Any) -> dict[str, Any]:
        """The first event of this name and with these details, which may have happened already.

        Raises:
            LocalError: the process ended before, or took too long; says what it complained about.
        """
        try:
            async with asyncio.timeout(timeout_s), self._news:
                while True:
                    for event in self._events:
                        if event.get("event") == wanted and details.items() <= event.items():
                            return event
                    if self.process.returncode is not None and all(reader.done() for reader in self._readers):
                        raise LocalError(f"{self.name} ended with status {self.process.returncode}: {self._complaint}")
                    await self._news.wait()
        except TimeoutError:
            raise LocalError(f"{self.name} did not get as far as {wanted!r} in {timeout_s:.0f} s") from None

    async def stop(self) -> int:
        """End the process: politely first, then not; its exit status."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()
        await asyncio.gather(*self._readers, return_exceptions=True)
        return self.process.returncode or 0

    async def _read_events(self) -> None:
        stream = self.process.stdout
        while stream is not None and (line := await stream.readline()):
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    await self._note(event)
        await self.process.wait()
        await self._note({"event": "ended"})

    async def _note(self, event: dict[str, Any]) -> None:
        async with self._news:
            self._events.append(event)
            if "message" in event:
                self._complaint = str(event["message"])
            self._news.notify_all()

    async def _read_complaints(self) -> None:
        stream = self.process.stderr
        while stream is not None and (line := await stream.readline()):
            text = line.decode(errors="replace").strip()
            if text and not self._complaint:
                self._complaint = text[:500]
        async with self._news:
            self._news.notify_all()


class ProcessGroup:
    """Processes that end together, when the block ends. Nest groups to end some before others."""

    kind: type[JouleProcess] = JouleProcess
    """What is started in it."""

    def __init__(self) -> None:
        self._running: list[JouleProcess] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End all that run in it now."""
        running, self._running = self._running, []
        await asyncio.gather(*(process.stop() for process in running))

    async def start(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        namespace: int | None = None,
    ) -> JouleProcess:
        """Start a process of this group (`JouleProcess.start`)."""
        process = await self.kind.start(name, arguments, environment, namespace=namespace)
        self.add(process)
        return process

    def add(self, process: JouleProcess) -> None:
        """It ends with the others."""
        self._running.append(process)
