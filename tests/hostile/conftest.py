"""A small network for the short form of the siege: a ledger, one node with a whole model, an honest client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from siege import surfaces
from siege.attack import ATTACKS, Surface
from siege.field import Field, Shape

surfaces.load()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    """Of a module's own `SHAPE`, if it has one."""
    shape = getattr(request.module, "SHAPE", Shape(spans=("0:6",), rest_s=0.5))
    async with Field.open(tmp_path_factory.mktemp("siege"), shape) as made:
        yield made


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with `attack` runs once for each on its module's `SURFACES` that the short form has."""
    if "attack" in metafunc.fixturenames:
        wanted: tuple[Surface, ...] = metafunc.module.SURFACES
        found = [each for surface in wanted for each in ATTACKS.values() if each.surface is surface and each.short]
        metafunc.parametrize("attack", found, ids=[each.name for each in found])
