"""libp2p's log records, turned down: it reports ordinary refusals in several lines at ERROR.

They go to the logger `node.p2p.libp2p`, one line each, at DEBUG. Whoever sets LIBP2P_DEBUG gets libp2p's own logging
untouched. `multiaddr`, which libp2p parses addresses with, is kept to warnings, and trio's loop that accepts
connections to a line a minute. No other logger is changed.
"""

from __future__ import annotations

import logging
import os

from libp2p.network.connection import swarm_connection

__all__ = ["quiet_libp2p"]

log = logging.getLogger("node.p2p.libp2p")

_FULL_EVERY_S = 60.0


class _TurnedDown(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if log.isEnabledFor(logging.DEBUG):
            first_line = record.getMessage().partition("\n")[0]
            log.debug("%s (%s): %s", record.name, record.levelname, first_line)


class _OnceAMinute(logging.Filter):
    """One line a minute for what is logged ten times a second while the process has no descriptor left."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = None
        if record.created < self._next:
            return False
        self._next = record.created + _FULL_EVERY_S
        return True


def quiet_libp2p() -> None:
    """Turn libp2p's logging down, once for the process."""
    accepting = logging.getLogger("trio.serve_listeners")
    if not any(isinstance(each, _OnceAMinute) for each in accepting.filters):
        accepting.addFilter(_OnceAMinute())
    # This module logs through the root logger, whose first use installs a handler on the whole program's behalf.
    swarm_connection.logging = logging.getLogger("libp2p.network.connection.swarm_connection")
    logging.getLogger("multiaddr").setLevel(logging.WARNING)  # several records for each address that is parsed
    theirs = logging.getLogger("libp2p")
    if os.environ.get("LIBP2P_DEBUG") or any(isinstance(handler, _TurnedDown) for handler in theirs.handlers):
        return
    theirs.propagate = False
    theirs.addHandler(_TurnedDown())  # with no handler at all, warnings would go to stderr
