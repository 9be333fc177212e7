"""The live page over a real socket, of a state that a test makes up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from node.page.server import serve_page
from node.page.view import PageState

__all__ = ["served_page"]


@contextlib.asynccontextmanager
async def served_page(state: Callable[[], Awaitable[PageState]], **wanted: Any) -> AsyncIterator[str]:
    """A page's URL."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    given = {"host": "127.0.0.1", "port": 0, "password": None, **wanted}
    serving = asyncio.create_task(serve_page(state, ready=ready.set_result, **given))
    try:
        yield await ready
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
