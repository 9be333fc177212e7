"""What is tried once: full disks, forks, clocks, files that mean harm."""

from __future__ import annotations

from pathlib import Path

import pytest
from siege import trial
from siege.field import Field, Shape
from siege.trial import TRIALS, Bench, CannotBeTried, Trial

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

SHAPE = Shape(spans=("0:6",), rest_s=0.5, own_disks=True)

trial.load()


@pytest.mark.parametrize("tried", TRIALS.values(), ids=lambda each: each.name)
async def test_it_is_survived(field: Field, tmp_path: Path, tried: Trial) -> None:
    try:
        await tried.act(Bench(tmp_path, field))
    except CannotBeTried as reason:
        pytest.skip(str(reason))
