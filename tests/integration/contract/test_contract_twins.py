"""The Python rules and the contract on a real chain take and refuse the same operations, and hold the same."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from anvil_chain import why_no_anvil
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from twin_machine import TwinMachine
from twins import PARTIES, twin_world

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


def each_operation_once() -> None:
    """So that the short form does not depend on what is drawn."""
    machine, (one, other, third, _) = TwinMachine(), PARTIES
    machine.begin(number=1, rich=False)
    whole = {"parts": [3, 5, 1], "more": [10, 9, 0], "said": 11, "end": "close", "flaw": ""}
    for relayed in (False, True):
        machine.a_whole_session(client=one, drawn=[(other, 20), (third, 20)], offset=1, relayed=relayed, **whole)
    machine.a_whole_stake(key=one, amount=30, again=True, offset=0)
    machine.a_proof(one, other, third, stakes=30, leaving=True, flaw="", when="at once", second=False)
    machine.an_equivocation(accused=one, actor=other, stakes=8, flaw="")
    machine.withdraw(key=other, amount=1, all_of_it=True)


@pytest.mark.slow
def test_both_machines_agree(capsys: pytest.CaptureFixture[str]) -> None:
    """The short form draws the same each time; `make twins` draws anew."""
    TwinMachine.counts = Counter()
    with twin_world() as world:
        TwinMachine.world = world
        each_operation_once()
        run_state_machine_as_test(
            TwinMachine,
            settings=settings(
                max_examples=400 if LONG else 40,
                stateful_step_count=50 if LONG else 20,
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
