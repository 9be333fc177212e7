"""Markets in memory on a virtual clock: three nodes with a third of the model each, or one with all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from small_market import SmallMarket


@pytest_asyncio.fixture
async def market(tmp_path: Path) -> AsyncIterator[SmallMarket]:
    async with SmallMarket(tmp_path) as made:
        yield made


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[SmallMarket]:
    """One node with the whole model, for clients that are driven by hand."""
    async with SmallMarket(tmp_path, spans=((0, 6),)) as made:
        yield made
