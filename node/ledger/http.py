"""What the ledger's HTTP service and a witness's have in common: how they listen, and what aiohttp may take."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Sequence

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from node.ledger.door import IDLE_S, open_sockets
from node.ledger.quiet_log import Repeated
from protocol.errors import ListenError

__all__ = ["listen", "make_runner", "url_of"]

_MAX_HEAD_LINE_BYTES = 4 * 1024
_MAX_HEADERS = 64
_SHUTDOWN_SECONDS = 5


def make_runner(app: web.Application) -> web.AppRunner:
    """A runner for `app`, whose server goes behind a `Door`."""
    log = logging.getLogger("node.ledger.http")
    if not log.filters:
        log.addFilter(Repeated((HttpProcessingError, ConnectionError), time.monotonic))
    return web.AppRunner(
        app,
        access_log=None,
        logger=log,
        keepalive_timeout=IDLE_S,
        lingering_time=0,  # what nobody asked for is not read to its end
        max_line_size=_MAX_HEAD_LINE_BYTES,
        max_field_size=_MAX_HEAD_LINE_BYTES,
        max_headers=_MAX_HEADERS,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )


async def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets at every address of `host`; port 0 takes any free one. Raises ListenError."""
    try:
        return await open_sockets(host, port)
    except OSError as error:
        raise ListenError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="is another one running there? choose another port",
        ) from error


def url_of(host: str, sockets: Sequence[socket.socket]) -> str:
    """Where these sockets are reached."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{sockets[0].getsockname()[1]}"
