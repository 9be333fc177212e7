"""One process that everything is forked from, for all workers of a test run: to import it all takes six CPU seconds."""

from __future__ import annotations

import os
from multiprocessing import forkserver, resource_tracker

import node.demo.forked  # noqa: F401 - says what that process has imported

__all__ = ["address_of_server", "fork_from"]

_server = forkserver._forkserver


def address_of_server() -> str:
    """Of the one that this process forks from, which is started where there is none."""
    _server.ensure_running()
    return str(vars(_server)["_forkserver_address"])


def fork_from(address: str) -> None:
    """From now on this process forks from another's server, which ends with whoever started it."""
    alive = vars(_server)["_forkserver_alive_fd"]
    vars(_server).update(
        _forkserver_address=address,
        _forkserver_alive_fd=os.open(os.devnull, os.O_WRONLY) if alive is None else alive,
        ensure_running=resource_tracker.ensure_running,
    )
