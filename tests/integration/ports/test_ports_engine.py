"""`node.ports.SpanEngine`, of both kinds: real blocks on torch, and the counting one of the pipeline's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make_checkpoint
from counting_engine import WIDTH, CountingEngine

from node.engine.engine import Engine
from node.ports import SpanEngine, StepInput, StepOutput
from protocol.errors import MalformedError, PeerError

BLOCKS = 4
ONE, TWO = b"\x01" * 32, b"\x02" * 32
Make = Callable[[int, int], SpanEngine]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "llama"
    make_checkpoint(directory, "llama", layers=BLOCKS)
    return directory


@pytest.fixture(params=["counting", "torch"])
def make(request: pytest.FixtureRequest, llama: Path) -> Make:
    """An engine for some of the blocks."""
    if request.param == "counting":
        return lambda start, end: CountingEngine(start, end, BLOCKS)
    return lambda start, end: Engine.load(llama, start, end, kv_tokens=1024)


def opened(engine: SpanEngine, *sessions: bytes) -> SpanEngine:
    for session in sessions:
        engine.open(session, max_tokens=64, temperature_milli=0, seed=0)
    return engine


def step(session: bytes, position: int, data: tuple[int, ...], draws: int = 0) -> StepInput:
    return StepInput(session=session, position=position, length=len(data), data=data, draws=draws)


def ok(result: StepOutput | Exception) -> StepOutput:
    assert isinstance(result, StepOutput), result
    return result


def test_rows_and_tokens_come_in_the_order_of_the_inputs(make: Make) -> None:
    engine = opened(make(0, BLOCKS), ONE, TWO)
    first, second = map(ok, engine.forward([step(ONE, 0, (1, 2, 3), draws=2), step(TWO, 0, (4,))]))
    assert (first.session, first.position, first.length, len(first.tokens)) == (ONE, 0, 3, 2)
    assert (second.session, second.tokens) == (TWO, ())
    assert first.hidden.shape == (3, second.hidden.shape[1])
    assert (engine.length(ONE), engine.length(TWO)) == (3, 1)


@pytest.mark.parametrize("bad", [(ONE, 2, (1,)), (b"\x09" * 32, 0, (1,)), (ONE, 0, (2**31,))], ids=str)
def test_a_bad_item_spoils_nobody_elses(make: Make, bad: tuple[bytes, int, tuple[int, ...]]) -> None:
    engine, alone = opened(make(0, BLOCKS), ONE, TWO), opened(make(0, BLOCKS), TWO)
    wrong, good = engine.forward([step(*bad), step(TWO, 0, (5, 6), draws=1)])
    assert isinstance(wrong, PeerError)
    assert ok(good).tokens == ok(alone.forward([step(TWO, 0, (5, 6), draws=1)])[0]).tokens
    assert engine.length(ONE) == 0


def test_what_is_rolled_back_never_was(make: Make) -> None:
    engine = opened(make(0, BLOCKS), ONE)
    ok(engine.forward([step(ONE, 0, (1, 2, 3))])[0])
    before = ok(engine.forward([step(ONE, 3, (4, 5), draws=2)])[0])
    engine.rollback(ONE, 3)
    assert engine.length(ONE) == 3
    ok(engine.forward([step(ONE, 3, (7, 8, 9))])[0])
    engine.rollback(ONE, 3)
    again = ok(engine.forward([step(ONE, 3, (4, 5), draws=2)])[0])
    assert again.tokens == before.tokens
    assert np.array_equal(again.hidden, before.hidden)
    with pytest.raises(MalformedError):
        engine.rollback(ONE, 6)


def test_sessions_that_are_not_open(make: Make) -> None:
    engine = opened(make(0, BLOCKS), ONE)
    engine.close(ONE)
    engine.close(ONE)
    with pytest.raises(MalformedError):
        engine.length(ONE)
    with pytest.raises(MalformedError):
        engine.rollback(ONE, 0)


def test_spans_in_a_row_draw_what_the_whole_model_draws(make: Make) -> None:
    whole, front, back = make(0, BLOCKS), make(0, 1), make(1, BLOCKS)
    for engine in (whole, front, back):
        opened(engine, ONE)
    drawn = ok(whole.forward([step(ONE, 0, (1, 2, 3), draws=1)])[0])
    rows = ok(front.forward([step(ONE, 0, (1, 2, 3))])[0]).hidden
    after = StepInput(session=ONE, position=0, length=3, data=rows, draws=1)
    joined = ok(back.forward([after])[0])
    assert joined.tokens == drawn.tokens
    assert np.allclose(joined.hidden, drawn.hidden, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_no_numbers_are_refused(make: Make, value: float) -> None:
    front, back = opened(make(0, 1), ONE), opened(make(1, BLOCKS), ONE)
    rows = ok(front.forward([step(ONE, 0, (1, 2))])[0]).hidden.copy()
    assert rows.shape[1] >= WIDTH
    rows[1, 0] = value
    item = StepInput(session=ONE, position=0, length=2, data=rows, draws=0)
    assert isinstance(back.forward([item])[0], PeerError)
    assert back.length(ONE) == 0
