"""Metrics over HTTP, for whoever collects them on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from node.metrics.counting import Metrics
from protocol.errors import ListenError

__all__ = ["serving_metrics"]

HOST = "127.0.0.1"
_NAMES = ("127.0.0.1", "localhost")
"""Under others a web page may have had a browser look here."""


@asynccontextmanager
async def serving_metrics(metrics: Metrics, port: int | None) -> AsyncIterator[str]:
    """Serve `/metrics` on this machine until the block is left, where there is a port for it; its URL, or nothing.

    Raises ListenError.
    """
    if port is None:
        yield ""
        return

    async def show(request: web.Request) -> web.Response:
        if request.host.partition(":")[0] not in _NAMES or "Origin" in request.headers:
            raise web.HTTPForbidden
        text = await asyncio.to_thread(generate_latest, metrics.registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application(client_max_size=1024)
    app.router.add_get("/metrics", show)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=75, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port)
        try:
            await site.start()
        except OSError as error:
            hint = "choose another --metrics-port"
            raise ListenError(f"cannot listen on {HOST}:{port}: {error.strerror}", hint=hint) from error
        yield f"http://{HOST}:{runner.addresses[0][1]}/metrics"
    finally:
        await runner.cleanup()
