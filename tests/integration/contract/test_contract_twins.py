"""The Python rules and the contract on a real chain take and refuse the same operations, and hold the same."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from anvil_chain import why_no_anvil
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from twin_machine import TwinMachine
from twins import twin_world

pytestmark = pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil())

LONG = os.environ.get("TWINS") == "long"
OPERATIONS = (
    "deposit",
    "withdraw",
    "open",
    "open for",
    "settle",
    "release",
    "close",
    "stake",
    "unstake",
    "unbond",
    "slash",
    "equivocation",
)


@pytest.mark.slow
def test_both_machines_agree(capsys: pytest.CaptureFixture[str]) -> None:
    """The short form draws the same each time; `make twins` draws anew."""
    TwinMachine.counts = Counter()
    with twin_world() as world:
        TwinMachine.world = world
        run_state_machine_as_test(
            TwinMachine,
            settings=settings(
                max_examples=400 if LONG else 60,
                stateful_step_count=50 if LONG else 12,
                deadline=None,
                derandomize=not LONG,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate, Phase.shrink] if LONG else [Phase.generate],
                database=None,
            ),
        )
    counts = TwinMachine.counts
    with capsys.disabled():
        taken = {name: counts[f"{name} taken"] for name in OPERATIONS}
        print(f"\ntwins: {sum(counts.values())} operations, taken: {taken}")
        if LONG:
            print("\n".join(f"  {count:6} {name}" for name, count in sorted(counts.items())))
    assert [name for name in OPERATIONS if not counts[f"{name} taken"]] == []
