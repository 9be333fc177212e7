"""Somebody who collects traces over HTTP, and keeps what came."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

__all__ = ["Collector", "collector"]


class Collector:
    """Takes traces, or refuses them."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[dict[str, Any]] = []
        self.asked = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        self.asked.set()
        return web.json_response({}, status=self.status)

    @property
    def spans(self) -> list[dict[str, Any]]:
        scopes = [each for body in self.bodies for each in body["resourceSpans"][0]["scopeSpans"]]
        return [span for scope in scopes for span in scope["spans"]]


@contextlib.asynccontextmanager
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    made = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield made, f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    finally:
        await runner.cleanup()
