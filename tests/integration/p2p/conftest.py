"""A trio thread for each test, and hosts and data planes that are closed after it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest_asyncio

from node.p2p.direct import DataPlane, OnLink
from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime


@pytest_asyncio.fixture
async def runtime() -> AsyncIterator[TrioRuntime]:
    async with TrioRuntime() as running:
        yield running


@pytest_asyncio.fixture
async def new_host(runtime: TrioRuntime) -> AsyncIterator[Callable[..., Awaitable[P2PHost]]]:
    """Start hosts: ``await new_host(secret=..., listen=..., publish_rate=...)``."""
    async with AsyncExitStack() as stack:

        async def start(secret: bytes | None = None, **options: Any) -> P2PHost:
            return await stack.enter_async_context(P2PHost(runtime, secret or os.urandom(32), **options))

        yield start


@pytest_asyncio.fixture
async def new_plane() -> AsyncIterator[Callable[..., DataPlane]]:
    """Make data planes: ``new_plane(on_link, secret=...)``."""
    async with AsyncExitStack() as stack:

        def make(on_link: OnLink | None = None, *, secret: bytes | None = None, **options: Any) -> DataPlane:
            plane = DataPlane(secret or os.urandom(32), on_link, **options)
            stack.push_async_callback(plane.close)
            return plane

        yield make
