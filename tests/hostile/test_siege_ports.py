"""Attacks on ports, small: what `make siege` does at full size."""

from __future__ import annotations

import pytest
from siege.attack import Attack, Surface
from siege.field import Field
from siege.row import SHORT, measure

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
SURFACES = (Surface.DATA, Surface.LIBP2P, Surface.LEDGER)


async def test_honest_jobs_go_on_and_nothing_is_kept(field: Field, attack: Attack) -> None:
    row = await measure(field, attack, SHORT)
    assert row.missed == [], row
