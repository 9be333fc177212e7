"""`joule` commands, and calls, in processes that start at once: forked from one that has imported what they need.

Importing takes longer than all else that a short command does; so a demo with five processes imports once. That one
process (`multiprocessing.forkserver`) runs nothing itself, and ends with its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

from node.demo.wan import set_namespace
from protocol.errors import LocalError

__all__ = ["Command", "Forked", "call_forked", "fork", "stand_apart", "weigh_by_niceness"]

P = ParamSpec("P")
T = TypeVar("T")

SAFE_PATH = "PYTHONSAFEPATH"
"""Environment variable: whether Python leaves the folder it is started in out of where it looks for modules."""

_one_at_a_time = threading.Lock()
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["node.demo.imported"])


class Forked:
    """One `joule` command, with the interface of `asyncio.subprocess.Process`."""

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        self._ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(process.sentinel, self._note_end, loop)

    @classmethod
    async def start(
        cls,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        namespace: int | None = None,
        kind: type[Command] | None = None,
    ) -> Self:
        """Start ``joule`` with these arguments.

        Args:
            environment: of the process, beside this one's own.
            namespace: descriptor of the network namespace that it is in; this process's own where None.
            kind: what does something else with the arguments.

        Raises LocalError where this machine cannot.
        """
        process, (stdin, stdout, stderr) = await asyncio.to_thread(
            _piped, kind or Command, arguments, environment, namespace
        )
        self = cls(process)
        self.stdin, self.stdout, self.stderr = await _writer(stdin), await _reader(stdout), await _reader(stderr)
        return self

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        return self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """Its exit status, less than 0 for a signal; None while it runs."""
        return self._process.exitcode if self._ended.is_set() else None

    def _note_end(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._process.sentinel)
        self._process.join()
        self._ended.set()

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        await self._ended.wait()
        return self._process.exitcode or 0

    async def communicate(self, said: bytes = b"") -> tuple[bytes, bytes]:
        """All that it writes, after it was told this and no more."""
        with contextlib.suppress(ConnectionError):
            self.stdin.write(said)
            await self.stdin.drain()
        self.stdin.close()
        out, err = await asyncio.gather(self.stdout.read(), self.stderr.read())
        await self.wait()
        return out, err

    def send_signal(self, number: int) -> None:
        """Raises ProcessLookupError where it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Raises ProcessLookupError where it has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Raises ProcessLookupError where it has ended."""
        self.send_signal(signal.SIGKILL)


def _piped(
    kind: type[Command], arguments: Sequence[str], environment: Mapping[str, str], namespace: int | None
) -> tuple[BaseProcess, tuple[int, int, int]]:
    """The process, and this side's ends of its pipes: all in one call, so that who waits for it may be cancelled."""
    with contextlib.ExitStack() as closing, contextlib.ExitStack() as kept:
        (stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr) = (os.pipe() for _ in range(3))
        theirs, ours = (stdin, stdout, stderr), (to_stdin, from_stdout, from_stderr)
        for each in theirs:
            closing.callback(os.close, each)
        for each in ours:
            kept.callback(os.close, each)
        folder = os.getcwd()  # noqa: PTH109 - as it is, links and all
        process = fork(kind(arguments, {**os.environ, **environment}, folder, theirs, namespace))
        kept.pop_all()
        return process, ours


def fork(command: Callable[[], None], *, parent: bool = False) -> BaseProcess:
    """The process that does it, started; it ends with this one. Raises LocalError where this machine cannot.

    Args:
        parent: whether it may fork others. Then this process, when it ends by itself, waits for it.
    """
    process = _forks.Process(target=command, daemon=not parent)
    try:
        with _safe_path():
            process.start()
    except (OSError, EOFError) as error:
        raise LocalError(
            f"a process could not be started ({error or 'the one that it is forked from has ended'})",
            hint="is the temporary folder (TMPDIR) writable, and its path shorter than 80 characters?",
        ) from None
    return process


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """The process that others are forked from, if it is started in the block, imports nothing from the folder that it
    is started in, as ``python -c`` would: what lies there may be anybody's.
    """
    with _one_at_a_time:
        before = os.environ.get(SAFE_PATH)
        os.environ[SAFE_PATH] = "1"
        try:
            yield
        finally:
            del os.environ[SAFE_PATH]
            if before is not None:
                os.environ[SAFE_PATH] = before


class Command:
    """One `joule` command; made in its parent, called in the process that does it.

    Args:
        environment: all of it.
        folder: where it is done.
        standard: descriptors of its input, output and errors: the parent's here, and the process's own once it has been
            sent.
        namespace: descriptor of the network namespace that it is in; the parent's own where None.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: str,
        standard: Sequence[int],
        namespace: int | None = None,
    ) -> None:
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self._folder = folder
        self._standard: Any = standard
        self._namespace: Any = namespace

    def __getstate__(self) -> dict[str, Any]:
        standard, namespace = [DupFd(each) for each in self._standard], self._namespace
        return {**vars(self), "_standard": standard, "_namespace": None if namespace is None else DupFd(namespace)}

    def __call__(self) -> None:
        stand_apart()
        if self._namespace is not None:
            set_namespace(self._namespace.detach())
        for number, each in enumerate(self._standard):
            os.dup2(each.detach(), number)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for as long as the process lives
        os.environ.clear()
        os.environ.update(self._environment)
        os.chdir(self._folder)
        tempfile.tempdir = None  # looked up anew, in this environment
        sys.argv = ["joule", *self._arguments]
        self.perform()

    def perform(self) -> None:
        """What it is for, with its arguments in `sys.argv`."""
        from node.cli import main

        main()


async def call_forked(call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What the call returns or raises, done in a process of its own; all of it has to be picklable."""
    pool = ProcessPoolExecutor(1, mp_context=_forks, initializer=stand_apart)
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, partial(call, *arguments, **named))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def stand_apart() -> None:
    """Leave the terminal's group, and end (SIGTERM) when the process ends that this one was forked for."""
    os.setsid()  # out of the terminal's group
    weigh_by_niceness()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def weigh_by_niceness() -> None:
    """Have this process's niceness count beside other sessions: Linux shares processors between sessions first, and
    each new one has a whole share, whatever niceness its processes have within.
    """
    with contextlib.suppress(OSError):  # a system that does not, or not twice in so short a time
        Path("/proc/self/autogroup").write_text(str(os.nice(0)))


def _end_with_parent() -> None:
    """However the parent ends: the process that this one was forked from outlives it as long as there are others."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb", 0))
    return reader


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())  # for its flow control
    transport, _ = await loop.connect_write_pipe(lambda: protocol, os.fdopen(descriptor, "wb", 0))
    return asyncio.StreamWriter(transport, protocol, None, loop)
