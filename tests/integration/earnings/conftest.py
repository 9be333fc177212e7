"""A ledger for tests of what nodes earn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from bank import Bank, open_bank


@pytest_asyncio.fixture
async def bank(tmp_path: Path) -> AsyncIterator[Bank]:
    async with open_bank(tmp_path) as opened:
        yield opened
