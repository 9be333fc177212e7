"""Which event loop a test runs on: a virtual clock where all lives in memory, else asyncio's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from virtual_loop import VirtualLoop

VIRTUAL = Path(__file__).parent / "unit" / "pipeline"


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if VIRTUAL in item.path.parents:
        return {"virtual": VirtualLoop}
    return {"asyncio": asyncio.new_event_loop}
