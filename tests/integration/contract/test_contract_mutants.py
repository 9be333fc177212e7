"""The test of twins sees: each small fault in either twin is found. Minutes long, so only `make twins` runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from anvil_chain import why_no_anvil, why_no_solc
from brevity import at_length
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from twin_machine import TwinMachine
from twin_mutants import CONTRACT, PYTHON, Mutant, mutated_contract, mutated_rules
from twins import World, twin_world

pytestmark = [
    pytest.mark.skipif(os.environ.get("TWINS") != "long", reason="takes minutes: `make twins` runs it"),
    pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil()),
    pytest.mark.slow,
]


def disagreement(world: World) -> str:
    """What a run of at most so many examples finds; empty where it finds nothing."""
    TwinMachine.world = world
    try:
        run_state_machine_as_test(
            TwinMachine,
            settings=settings(
                max_examples=at_length(400),
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
                database=None,
                report_multiple_bugs=False,
            ),
        )
    except AssertionError as error:
        return str(error) or "an assertion"
    return ""


@pytest.mark.skipif(bool(why_no_solc()), reason=why_no_solc())
@pytest.mark.parametrize("mutant", CONTRACT, ids=lambda mutant: mutant.name)
def test_a_contract_with_a_fault_is_found(mutant: Mutant, tmp_path: Path) -> None:
    with twin_world(mutated_contract(mutant, tmp_path)) as world:
        assert disagreement(world)


@pytest.mark.parametrize("mutant", PYTHON, ids=lambda mutant: mutant.name)
def test_rules_with_a_fault_are_found(mutant: Mutant) -> None:
    with twin_world() as world, mutated_rules(mutant):
        assert disagreement(world)
