"""Signers that other processes find ahead, while this one applies the rules to what came before.

They take from the end of what is expected, in small portions, while this one begins at its front. Nobody waits for
anybody: a signer that is not known yet when it is needed is found here. So a process that is late, or dies, costs time.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import sys
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from node.signer_process import LENGTH, operations_frame
from protocol.identity.ids import Address
from protocol.settlement import ledger_domain
from protocol.settlement.operations import SignedOp
from protocol.settlement.signatures import KnownSigners

__all__ = ["SignersAhead", "processes_here"]

_PORTIONS = 4
"""Frames that a process has at a time, so that it need not wait for the next one."""
_PIPE_BYTES = 1 << 20
"""Room for all of these, which are some 30 kB each: what does not fit waits until this process looks again."""
_LOOK_EVERY = 16
"""Operations between two looks at what was answered, and who has nothing to do."""
_MOST_PROCESSES = 4
_ADDRESS_BYTES = 20
_log = logging.getLogger(__name__)


def processes_here() -> int:
    """How many cores this process may use, within reason."""
    return min(_MOST_PROCESSES, len(os.sched_getaffinity(0)))


class _Helper:
    """One process, and what it has not answered yet."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.portions: deque[list[SignedOp]] = deque()

    @classmethod
    async def start(cls, verifier_key: str) -> Self:
        # -P: whatever lies in the working directory must not stand in for a module.
        command = (sys.executable, "-P", "-m", "node.signer_process", verifier_key)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        if process.stdin is not None:
            with contextlib.suppress(AttributeError, OSError):  # not on Linux, or no more is allowed
                fcntl.fcntl(process.stdin.transport.get_extra_info("pipe"), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return cls(process)

    def ask(self, portion: list[SignedOp]) -> None:
        self.portions.append(portion)
        if self._process.stdin is not None:
            self._process.stdin.write(operations_frame(portion))

    async def answer(self) -> bytes:
        """The next one. Raises IncompleteReadError where the process has ended."""
        if self._process.stdout is None:
            raise RuntimeError("the process was started with pipes")
        (length,) = LENGTH.unpack(await self._process.stdout.readexactly(LENGTH.size))
        return await self._process.stdout.readexactly(length)

    async def end(self) -> None:
        """At once, whatever it is at: it has nothing to lose."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class SignersAhead:
    """Use as an async context manager; `recover` is what the rules take to find signers.

    Args:
        verifier_key: of the ledger that the operations are for.
        processes: how many work, this one counted; with 1 there is no other.
        portion: operations that a process is handed at a time. The others are started once four times as many are
            expected: most ledgers never need them.
    """

    def __init__(self, verifier_key: str, processes: int, *, portion: int) -> None:
        self.recover = KnownSigners(ledger_domain(verifier_key))
        self._verifier_key = verifier_key
        self._others = processes - 1
        self._portion = portion
        self._helpers: list[_Helper] = []
        self._expected: dict[bytes, SignedOp] = {}
        """By signature, in order: those that nobody has begun with."""
        self._needed = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._serving: set[asyncio.Task[None]] = set()
        """Those that have not begun to end."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None,
                        trace: TracebackType | None) -> None:  # fmt: skip
        await self.close()

    async def close(self) -> None:
        """End the other processes."""
        self._others = 0
        for task in self._serving:  # one that is ending its process is left to it
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def expect(self, operations: Iterable[SignedOp]) -> None:
        """Say what will be needed, in order."""
        if self._others <= 0:
            return
        self._expected.update((signed.signature, signed) for signed in operations)
        if not self._tasks and len(self._expected) >= 4 * self._portion:
            self._tasks = [asyncio.create_task(self._serve(), name="signers") for _ in range(self._others)]
            self._serving.update(self._tasks)
        self._hand_out()

    async def need(self, signed: SignedOp) -> None:
        """Say that an operation's turn has come, and let answers in, and others run."""
        self._expected.pop(signed.signature, None)
        self._needed += 1
        if self._needed % _LOOK_EVERY == 0:
            await asyncio.sleep(0)

    def _hand_out(self) -> None:
        for helper in self._helpers:
            while len(self._expected) >= self._portion and len(helper.portions) < _PORTIONS:
                helper.ask([self._expected.popitem()[1] for _ in range(self._portion)])

    async def _serve(self) -> None:
        """One of the other processes, from its start to its end."""
        starting = asyncio.create_task(_Helper.start(self._verifier_key), name="start of a process for signers")
        try:
            helper = await asyncio.shield(starting)  # half a start would leave a process behind
            self._helpers.append(helper)
            while True:
                self._hand_out()
                answer = await helper.answer()
                self._take(helper.portions.popleft(), answer)
        except (OSError, asyncio.IncompleteReadError) as error:
            _log.warning("a process that finds signers has ended, and the ledger goes on without it: %s", error)
        finally:
            self._serving = {each for each in self._serving if each is not asyncio.current_task()}
            self._others -= 1
            if self._others <= 0:
                self._expected.clear()
            with contextlib.suppress(OSError):
                helper = await starting
                if helper in self._helpers:
                    self._helpers.remove(helper)
                await helper.end()

    def _take(self, portion: list[SignedOp], answer: bytes) -> None:
        found = (Address(answer[at : at + _ADDRESS_BYTES]) for at in range(0, len(answer), _ADDRESS_BYTES))
        for signed in portion:
            self.recover.learn(signed, found)
