"""A `joule` for shells that starts at once: it is done in a process forked from one that has imported everything. So
are the processes in which tests run beside one another.

What it forks in its turn, a demo's ledger and nodes, is forked from the same one: there is no second to import it all.
The command on the PATH is a few lines that hand its arguments, environment, folder and descriptors to this process,
pass signals on, and end as the forked process ends.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from shared_forks import address_of_server, fork_from

import node.cli.accounts.key
from node.demo.forked import Command, fork
from node.keystore import LIGHT

_COMMAND = """#!{python} -ISB
import array, json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    told = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
    server.sendmsg([len(told).to_bytes(4, "big")], rights)
    server.sendall(told)
    process = int.from_bytes(server.recv(4), "big")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(process, number))
    status = int.from_bytes(server.recv(4), "big", signed=True)
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""


class Shared(Command):
    """A command that forks from where it was forked from itself: of that, every process has the descriptor already.

    Its new keys cost little to open: what a passphrase costs is not what whole pages of commands are run for.
    """

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self._server = address_of_server()

    def __call__(self) -> None:
        fork_from(self._server)
        super().__call__()

    def perform(self) -> None:
        node.cli.accounts.key.STANDARD = LIGHT  # type: ignore[misc]
        super().perform()


class Worker(Shared):
    """What pytest-xdist has a Python do, whose last argument is a program."""

    def perform(self) -> None:
        gc.unfreeze()  # hypothesis asks the collector about what is imported
        exec(self._arguments[-1], {"__name__": "__main__"})


@contextmanager
def forked_shell(kind: type[Shared] = Shared) -> Iterator[Path]:
    """A folder for the PATH, with `joule` in it, for as long as the block runs.

    Args:
        kind: what does something else with the arguments.
    """
    with tempfile.TemporaryDirectory(prefix="joule-") as name, socket.socket(socket.AF_UNIX) as listener:
        folder = Path(name)
        listener.bind(str(folder / "socket"))
        listener.listen()
        command = folder / "joule"
        command.write_text(_COMMAND.format(python=sys.executable, path=str(folder / "socket")))
        command.chmod(0o755)
        serving = threading.Thread(target=_serve, args=(listener, kind), daemon=True)
        serving.start()
        try:
            yield folder
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()


def _serve(listener: socket.socket, kind: type[Shared]) -> None:
    with suppress(OSError):  # closed
        while True:
            asker, _ = listener.accept()
            threading.Thread(target=_do, args=(asker, kind), daemon=True).start()


def _do(asker: socket.socket, kind: type[Shared]) -> None:
    with asker:
        length, standard, _, _ = socket.recv_fds(asker, 4, 3)
        told = _exactly(asker, struct.unpack(">I", length)[0])
        arguments, environment, folder = json.loads(told)
        process = fork(kind(arguments, environment, folder, standard), parent=True)
        for each in standard:
            os.close(each)
        asker.sendall(struct.pack(">I", process.pid or 0))
        if process.sentinel not in wait([process.sentinel, asker]):
            process.kill()  # whoever asked was
        process.join()
        with suppress(OSError):
            asker.sendall(struct.pack(">i", process.exitcode or 0))


def _exactly(asker: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        data += asker.recv(length - len(data))
    return data
