"""A trio thread for each test, and hosts and data planes that are closed after it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest_asyncio

from node.p2p.direct import Allowances, DataPlane, Link, Listener, OnLink
from node.p2p.host import P2PHost
from node.p2p.link import MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES
from node.p2p.runtime import TrioRuntime
from node.ports import Allowance, LinkRank


@pytest_asyncio.fixture
async def runtime() -> AsyncIterator[TrioRuntime]:
    async with TrioRuntime.open() as running:
        yield running


@pytest_asyncio.fixture
async def new_host(runtime: TrioRuntime) -> AsyncIterator[Callable[..., Awaitable[P2PHost]]]:
    """Start hosts: ``await new_host(secret=..., listen=..., publish_rate=...)``."""
    async with AsyncExitStack() as stack:

        async def start(secret: bytes | None = None, **options: Any) -> P2PHost:
            return await stack.enter_async_context(P2PHost.open(runtime, secret or os.urandom(32), **options))

        yield start


TRUSTED = Allowance(header=MAX_HEADER_BYTES, payload=MAX_PAYLOAD_BYTES, rank=LinkRank.BUSY)
"""Everything that a link carries."""


class ServingPlane(DataPlane):
    """A data plane with somebody to serve its links. Its peers may send everything, unless a test says what."""

    def __init__(
        self, secret: bytes, on_link: OnLink | None, *, allowances: Allowances = lambda key: TRUSTED, **options: Any
    ) -> None:
        super().__init__(secret, **options)
        self._on_link = on_link
        self._allowances = allowances
        self._listeners = ExitStack()
        self.accepting: list[asyncio.Task[None]] = []

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Bind and serve; the address."""
        assert self._on_link is not None
        listener = self._listeners.enter_context(Listener.open(host, port))
        self.accepting.append(asyncio.create_task(self.serve(listener, self._on_link, allowances=self._allowances)))
        return listener.address

    async def connect(self, address: str, expected_public_key: bytes) -> Link:
        link = await super().connect(address, expected_public_key)
        link.allow(lambda: TRUSTED)
        return link

    async def close(self) -> None:
        for task in self.accepting:
            task.cancel()
        await asyncio.gather(*self.accepting, return_exceptions=True)
        self._listeners.close()
        await super().close()


@pytest_asyncio.fixture
async def new_plane() -> AsyncIterator[Callable[..., ServingPlane]]:
    """Make data planes: ``new_plane(on_link, secret=...)``."""
    async with AsyncExitStack() as stack:

        def make(on_link: OnLink | None = None, *, secret: bytes | None = None, **options: Any) -> ServingPlane:
            plane = ServingPlane(secret or os.urandom(32), on_link, **options)
            stack.push_async_callback(plane.close)
            return plane

        yield make
