"""The gas that operations cost on a real chain is that of the snapshot in git, and within the targets."""

from __future__ import annotations

import json

import pytest
from anvil_chain import running_chain, why_no_anvil

from scripts.measure_gas import SNAPSHOT, TARGETS, measure

pytestmark = pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil())


def test_gas_is_as_it_was() -> None:
    with running_chain() as chain:
        gas = measure(chain)
    before = json.loads(SNAPSHOT.read_text())
    assert gas.keys() == before.keys()
    off = {row: (amount, before[row]) for row, amount in gas.items() if abs(amount - before[row]) > before[row] / 200}
    assert not off, "run `make gas` and commit what it writes"
    assert not {row: gas[row] for row, most in TARGETS.items() if gas[row] > most}
