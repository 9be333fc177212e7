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
from protocol.errors import MalformedError, PeerError, RefusedError

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
        return lambda start, end: CountingEngine(start, end, BLOCKS, kv_tokens=1024)
    return lambda start, end: Engine.load(llama, start, end, kv_tokens=1024)


def opened(engine: SpanEngine, *sessions: bytes) -> SpanEngine:
    for session in sessions:
        engine.open(session, max_tokens=64)
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


def test_rows_for_an_earlier_position_take_the_place_of_all_from_there(make: Make) -> None:
    engine, other = opened(make(0, BLOCKS), ONE), opened(make(0, BLOCKS), ONE)
    ok(engine.forward([step(ONE, 0, (1, 2, 3, 4, 5))])[0])
    again = ok(engine.forward([step(ONE, 2, (7, 8), draws=2)])[0])
    assert engine.length(ONE) == 4
    ok(other.forward([step(ONE, 0, (1, 2))])[0])
    once = ok(other.forward([step(ONE, 2, (7, 8), draws=2)])[0])
    assert again.tokens == once.tokens
    assert np.allclose(again.hidden, once.hidden, rtol=1e-4, atol=1e-5)
    assert isinstance(engine.forward([step(ONE, 5, (1,))])[0], MalformedError)
    assert isinstance(engine.forward([step(ONE, 1, (2**31,))])[0], PeerError)
    assert engine.length(ONE) == 4  # what is wrong takes nothing back


def adopt(engine: SpanEngine, old: bytes, new: bytes, length: int, max_tokens: int = 64) -> None:
    engine.adopt(old, new, length=length, max_tokens=max_tokens)


def test_a_session_goes_on_from_what_another_left(make: Make) -> None:
    engine, whole = opened(make(0, BLOCKS), ONE), opened(make(0, BLOCKS), TWO)
    ok(engine.forward([step(ONE, 0, (1, 2, 3, 4, 5))])[0])
    free = engine.kv_free
    kept = engine.trim(ONE, 4)
    assert kept >= 4
    assert engine.kv_free > free
    assert isinstance(engine.forward([step(ONE, 4, (5,))])[0], PeerError)  # it is over
    adopt(engine, ONE, TWO, 3)
    assert engine.length(TWO) == 3
    assert engine.kv_free == free
    with pytest.raises(MalformedError):
        engine.length(ONE)
    went_on = ok(engine.forward([step(TWO, 3, (9, 8), draws=2)])[0])
    ok(whole.forward([step(TWO, 0, (1, 2, 3))])[0])
    afresh = ok(whole.forward([step(TWO, 3, (9, 8), draws=2)])[0])
    assert went_on.tokens == afresh.tokens
    assert np.allclose(went_on.hidden, afresh.hidden, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_adopted_stays_as_it_was(make: Make) -> None:
    engine = opened(make(0, BLOCKS), ONE, TWO)
    ok(engine.forward([step(ONE, 0, (1, 2, 3))])[0])
    third, free = b"\x03" * 32, engine.kv_free
    with pytest.raises(RefusedError) as refused:
        adopt(engine, ONE, TWO, 3)
    assert refused.value.code == "session-open"
    for new, length, room in ((third, 4, 64), (third, 3, 2)):
        with pytest.raises(MalformedError):
            adopt(engine, ONE, new, length, room)
    with pytest.raises(MalformedError):
        adopt(engine, b"\x09" * 32, third, 0)
    with pytest.raises(MalformedError):
        engine.trim(ONE, 4)
    for session in range(20, 100):  # until there is no room left
        try:
            engine.open(bytes([session]) * 32, max_tokens=64)
        except RefusedError:
            break
    with pytest.raises(RefusedError) as refused:
        adopt(engine, ONE, third, 3, 200)
    assert refused.value.code == "no-room"
    assert engine.length(ONE) == 3
    ok(engine.forward([step(ONE, 3, (4,), draws=1)])[0])
    assert engine.kv_free < free


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
