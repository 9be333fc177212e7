"""Every decoder of bytes from outside, on the inputs that once broke one and on a few thousand spoiled ones."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.errors import MalformedError
from scripts.fuzzing.campaign import Tally, campaign, explore, shares
from scripts.fuzzing.execution import Finding, execute
from scripts.fuzzing.registry import CORPUS, kept_inputs, registry
from scripts.fuzzing.samples import wire_messages

KEPT = sorted(path.relative_to(CORPUS).as_posix() for path in CORPUS.glob("*/*"))


@pytest.fixture(autouse=True)
def _without_garbage() -> Iterator[None]:
    """What other tests left is not searched within somebody's hundred milliseconds."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("kept", KEPT)
def test_what_once_broke_a_decoder_does_so_no_more(kept: str) -> None:
    target = registry()[Path(kept).parent.name]
    assert execute(target, (CORPUS / kept).read_bytes()).finding is None


@pytest.mark.parametrize("name", registry())
def test_a_valid_input_is_taken_in(name: str) -> None:
    target = registry()[name]
    outcomes = [execute(target, seed) for seed in target.seeds()]
    assert [outcome.finding for outcome in outcomes if outcome.finding is not None] == []
    assert any(not outcome.error for outcome in outcomes)


@pytest.mark.parametrize("name", registry())
def test_spoiled_inputs_meet_typed_errors_only(name: str) -> None:
    target = registry()[name]
    tally = explore(target, target.short // 4)
    assert [(finding.why, finding.data[:200]) for finding in tally.findings] == []


def test_every_message_has_a_target() -> None:
    assert {cls.kind.partition("/")[0] for cls in wire_messages()} <= set(registry())


def test_the_corpus_is_small_and_every_part_of_it_is_used() -> None:
    assert sum((CORPUS / kept).stat().st_size for kept in KEPT) < 700_000
    assert {path.name for path in CORPUS.iterdir()} <= set(registry())
    assert kept_inputs("settings-node")


# The invalid neighbours: decoders that break each promise are found out.


def _slow(data: bytes) -> None:
    sum(range(12_000_000))
    raise MalformedError("at last")


def _untyped(data: bytes) -> None:
    raise KeyError("a defect")


def _other(data: bytes) -> None:
    assert data == b"what it reads back"


@pytest.mark.parametrize(
    ("run", "why"),
    [(_slow, "processor time"), (_untyped, "KeyError"), (_other, "AssertionError")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_decoder_that_breaks_its_promise_is_found_out(run: object, why: str) -> None:
    target = replace(registry()["note"], run=run)  # type: ignore[arg-type]
    finding = execute(target, b"x").finding
    assert finding is not None
    assert why in finding.why


def test_a_share_runs_in_a_process_of_its_own_and_says_what_it_found() -> None:
    found = {}
    campaign(shares(["note", "tile-path"], 200), 2, lambda tally, _number: found.update({tally.target: tally}))
    assert {name: tally.executions for name, tally in found.items()} == {"note": 200, "tile-path": 200}
    assert all(not tally.findings and tally.errors["MalformedError"] for tally in found.values())


def test_a_tally_that_was_kept_says_the_same() -> None:
    tally = explore(registry()["note"], 300)
    tally.findings.append(Finding("note", "it was slow", b"\x00\xff"))
    kept = json.loads(json.dumps(tally.state()))
    assert Tally.from_state(kept) == tally
    with pytest.raises(TypeError):
        Tally.from_state({**kept, "another": 1})
