"""Sessions in one engine: room, rollback, reproducible draws, and strangers' rows that hurt nobody else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_ring import Ring, ok, reference_tokens

from node.engine.attention import CpuBackend
from node.engine.engine import Engine
from node.engine.kv import PAGE_TOKENS
from node.ports import Activations, StepInput
from protocol.errors import ConfigurationError, InvalidError, MalformedError, RefusedError
from protocol.session.terms import SamplingTerms

PROMPT = [7, 99, 3, 250, 18, 18, 41]
HIDDEN = 64


@pytest.fixture
def ring(checkpoint) -> Ring:
    return Ring(checkpoint("llama"), (0, 2, 4))


def item(session: bytes, position: int, data: object, length: int | None = None, *, draws: int = 0) -> StepInput:
    length = len(data) if length is None else length
    return StepInput(session=session, position=position, length=length, data=data, draws=draws)


def refusal(result: object) -> str:
    assert isinstance(result, MalformedError), result
    return result.code


def test_draws_do_not_depend_on_who_shares_the_batch(checkpoint) -> None:
    directory = checkpoint("qwen3")
    alone = Ring(directory, (0, 8))
    alone.open(b"s", sampling=SamplingTerms(temperature_milli=900, seed=11))
    expected = alone.generate(b"s", PROMPT, 30)
    crowd = Ring(directory, (0, 1, 6, 8))
    tokens: dict[bytes, list[int]] = {}
    for name, seed in ((b"s", 11), (b"same seed", 11), (b"other seed", 12)):
        crowd.open(name, sampling=SamplingTerms(temperature_milli=900, seed=seed))
        tokens[name] = [crowd.step({name: PROMPT})[name]]
    for _ in range(29):
        for name, token in crowd.step({name: drawn[-1:] for name, drawn in tokens.items()}).items():
            tokens[name].append(token)
    assert tokens[b"s"] == tokens[b"same seed"] == expected
    assert tokens[b"other seed"] != expected


def test_only_the_last_span_draws_and_only_when_asked(ring: Ring) -> None:
    ring.open(b"s")
    first, last = ring.engines
    early = ok(first.forward([item(b"s", 0, PROMPT, draws=1)])[0])
    assert early.tokens == ()
    assert ok(last.forward([item(b"s", 0, early.hidden[:4])])[0]).tokens == ()
    late = ok(last.forward([item(b"s", 4, early.hidden[4:], draws=1)])[0])
    assert len(late.tokens) == 1
    assert late.hidden.shape == (3, HIDDEN)
    assert late.hidden.dtype == np.dtype("<f4")


def test_rows_that_travelled_as_bytes_give_the_same_rows(ring: Ring) -> None:
    ring.open(b"s")
    first, last = ring.engines
    sent = ok(first.forward([item(b"s", 0, PROMPT)])[0]).hidden
    received = np.frombuffer(sent.tobytes(), dtype="<f4").reshape(len(PROMPT), -1)  # read-only
    here = ok(last.forward([item(b"s", 0, received)])[0]).hidden
    last.rollback(b"s", 0)
    assert np.array_equal(here, ok(last.forward([item(b"s", 0, sent)])[0]).hidden)


def test_room_is_reserved_at_opening_and_freed_at_closing(checkpoint) -> None:
    engine = Engine.load(checkpoint("llama"), 0, 1, kv_tokens=10 * PAGE_TOKENS + 3)
    assert engine.kv_capacity == engine.kv_free == 10 * PAGE_TOKENS
    engine.open(b"a", max_tokens=4 * PAGE_TOKENS)
    engine.open(b"b", max_tokens=4 * PAGE_TOKENS - 1)
    with pytest.raises(RefusedError) as refused:
        engine.open(b"c", max_tokens=2 * PAGE_TOKENS + 1)
    assert refused.value.code == "no-room"
    assert engine.kv_free == 2 * PAGE_TOKENS
    engine.close(b"a")
    engine.close(b"never opened")
    engine.open(b"c", max_tokens=6 * PAGE_TOKENS)
    assert engine.kv_free == 0
    for session in (b"b", b"c"):
        engine.close(session)
    assert engine.kv_free == engine.kv_capacity


@pytest.mark.parametrize(("kv_tokens", "says"), [(15, "room for 15 positions"), (2**50, "no memory")])
def test_a_room_that_cannot_be_had(checkpoint, kv_tokens: int, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as error:
        Engine.load(checkpoint("llama"), 0, 1, kv_tokens=kv_tokens)
    assert error.value.hint


def test_more_than_the_model_can_attend_to_is_refused(checkpoint) -> None:
    engine = Engine.load(checkpoint("llama"), 0, 1, kv_tokens=2048)
    engine.open(b"a", max_tokens=512)
    for too_many in (513, 0):
        with pytest.raises(RefusedError) as refused:
            engine.open(b"b", max_tokens=too_many)
        assert refused.value.code == "too-long"
    with pytest.raises(RefusedError) as refused:
        engine.open(b"a", max_tokens=5)
    assert refused.value.code == "session-open"


@pytest.mark.parametrize("variant", ["llama", "mistral-window"])
def test_scattered_pages_give_the_same_tokens(checkpoint, variant: str) -> None:
    directory = checkpoint(variant)
    blocks = 4 if variant == "llama" else 6
    ring = Ring(directory, (0, 2, blocks), kv_tokens=12 * PAGE_TOKENS)
    for i in range(12):
        ring.open(bytes([i]), max_tokens=PAGE_TOKENS)
    for i in (1, 4, 6, 9, 11):  # none beside another
        ring.close(bytes([i]))
    ring.open(b"scattered", max_tokens=5 * PAGE_TOKENS)
    assert ring.generate(b"scattered", PROMPT, 60) == reference_tokens(directory, PROMPT, 60)


def test_a_pass_takes_so_many_rows_and_not_one_more(checkpoint) -> None:
    """What waits for its turn is the pipeline's to know."""
    engine = Engine.load(checkpoint("llama"), 0, 1, kv_tokens=1024, max_rows=40)
    for session in (b"a", b"b"):
        engine.open(session, max_tokens=64)
    assert engine.max_rows == 40
    with pytest.raises(InvalidError, match="41 rows in one pass, 40 at most"):
        engine.forward([item(b"a", 0, [5] * 36), item(b"b", 0, [5] * 5)])
    assert engine.length(b"a") == engine.length(b"b") == 0
    for output in engine.forward([item(b"a", 0, [5] * 35), item(b"b", 0, [5] * 5)]):
        assert ok(output).tokens == ()


def test_all_rows_of_a_draft_are_drawn_after_in_one_pass(checkpoint) -> None:
    """What verifies a draft: the token after each of its rows, beside other sessions, as if each had come alone."""
    directory = checkpoint("qwen3")
    alone = Ring(directory, (0, 8))
    alone.open(b"s", sampling=SamplingTerms(temperature_milli=700, seed=4))
    tokens = alone.generate(b"s", PROMPT, 12)
    engine = Engine.load(directory, 0, 8, kv_tokens=1024)
    for session, seed in ((b"other", 9), (b"s", 4)):
        engine.open(session, max_tokens=64, sampling=SamplingTerms(temperature_milli=700, seed=seed))
    other, drafted = (
        item(session, 0, PROMPT + tokens[:10], draws=draws) for session, draws in ((b"other", 2), (b"s", 11))
    )
    found = [ok(output) for output in engine.forward([other, drafted])]
    assert list(found[1].tokens) == tokens[:11]
    assert len(found[0].tokens) == 2
    engine.rollback(b"s", len(PROMPT) + 4)
    again = ok(engine.forward([item(b"s", len(PROMPT) + 4, tokens[4:8], draws=4)])[0])
    assert list(again.tokens) == tokens[5:9]


@pytest.mark.parametrize("draws", [-1, 3])
def test_draws_after_rows_that_are_not_there(checkpoint, draws: int) -> None:
    engine = Engine.load(checkpoint("llama"), 0, 4, kv_tokens=64)
    engine.open(b"s", max_tokens=16)
    (result,) = engine.forward([item(b"s", 0, [5, 6], draws=draws)])
    assert refusal(result) == "malformed"


class CountingBackend(CpuBackend):
    """Another back end, as a GPU's would be: rows pass through it on their way in and out."""

    def __init__(self) -> None:
        self.taken_in = self.given_out = 0

    def take_in(self, host: torch.Tensor) -> torch.Tensor:
        self.taken_in += 1
        return super().take_in(host)

    def give_out(self, computed: torch.Tensor) -> Activations:
        self.given_out += 1
        return super().give_out(computed)


def test_another_back_end_can_compute(checkpoint) -> None:
    backend = CountingBackend()
    engine = Engine.load(checkpoint("llama"), 0, 4, kv_tokens=64, backend=backend)
    loaded = backend.taken_in
    assert loaded > 4  # weights
    engine.open(b"s", max_tokens=16)
    ok(engine.forward([item(b"s", 0, PROMPT, draws=1)])[0])
    assert (backend.taken_in - loaded, backend.given_out) == (2, 2)  # token ids, and rows for the head


def spoilt(value: float) -> np.ndarray:
    rows = np.ones((2, HIDDEN), dtype=np.float32)
    rows[1, 5] = value
    return rows


ROWS = np.ones((2, HIDDEN), dtype=np.float32)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (item(b"bad", 0, spoilt(np.nan)), "not-finite"),
        (item(b"bad", 0, spoilt(np.inf)), "not-finite"),
        (item(b"bad", 0, spoilt(3e38)), None),  # finite, but may overflow inside; either way only its own trouble
        (item(b"bad", 0, ROWS, 3), "malformed"),
        (item(b"bad", 0, ROWS[:, :-1]), "malformed"),
        (item(b"bad", 0, ROWS[0], 2), "malformed"),
        (item(b"bad", 0, ROWS.astype(np.float64)), "malformed"),
        (item(b"bad", 0, ROWS.astype(">f4")), "malformed"),
        (item(b"bad", 0, [1, 2]), "malformed"),
        (item(b"bad", 0, ROWS[:0]), "malformed"),
        (item(b"bad", 1, ROWS), "out-of-order"),
        (item(b"bad", 0, np.ones((33, HIDDEN), dtype=np.float32)), "beyond-reservation"),
        (item(b"who?", 0, ROWS), "unknown-session"),
        (item(b"good", 0, ROWS), "out-of-order"),
    ],
)
def test_hostile_rows_fail_alone(checkpoint, bad: StepInput, code: str | None) -> None:
    directory = checkpoint("llama")
    engine, pristine = (Engine.load(directory, 2, 4, kv_tokens=256) for _ in range(2))
    for each in (engine, pristine):
        each.open(b"bad", max_tokens=32)
        each.open(b"good", max_tokens=32)
    rows = np.random.default_rng(1).standard_normal((5, HIDDEN)).astype(np.float32)
    good = item(b"good", 0, rows, draws=1)
    expected = ok(pristine.forward([good])[0])
    first, second = engine.forward([good, bad])
    if code is not None:
        assert refusal(second) == code
        if bad.session == b"bad":
            assert engine.length(b"bad") == 0
    assert ok(first).tokens == expected.tokens
    np.testing.assert_allclose(ok(first).hidden, expected.hidden, rtol=1e-4, atol=1e-5)
    after = engine.forward([item(b"good", 5, rows[:1], draws=1)])
    assert ok(after[0]).tokens == ok(pristine.forward([item(b"good", 5, rows[:1], draws=1)])[0]).tokens


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_refused_before_they_run(checkpoint, value: float) -> None:
    engine = Engine.load(checkpoint("llama"), 2, 4, kv_tokens=64)
    engine.open(b"s", max_tokens=16)
    (result,) = engine.forward([item(b"s", 0, spoilt(value))])
    assert refusal(result) == "not-finite"
    assert "hold a number that is not finite" in str(result)


@pytest.mark.parametrize(
    "ids",
    [[320], [-1], [1.0], [True], [2**70], ROWS[0][:1], ["1"]],
    ids=["too high", "negative", "float", "bool", "huge", "array", "text"],
)
def test_token_ids_outside_of_the_vocabulary_fail_alone(checkpoint, ids: object) -> None:
    engine = Engine.load(checkpoint("llama-tied"), 0, 2, kv_tokens=64)
    for session in (b"bad", b"good"):
        engine.open(session, max_tokens=16)
    bad, good = engine.forward([item(b"bad", 0, ids), item(b"good", 0, PROMPT)])
    assert refusal(bad) == "malformed"
    assert ok(good).length == len(PROMPT)
    assert engine.length(b"bad") == 0


def test_rows_that_overflow_inside_are_their_senders_fault(checkpoint) -> None:
    """Passed on, the infinities would look like this node's own."""
    engine = Engine.load(checkpoint("llama"), 3, 4, kv_tokens=64)
    engine.open(b"s", max_tokens=16)
    matrix = engine.span.layers[0].down
    matrix.weight = matrix.weight * 3e38  # stands for weights that a huge row can reach
    (result,) = engine.forward([item(b"s", 0, ROWS, draws=1)])
    assert refusal(result) == "not-finite"
    assert engine.length(b"s") == 0


def test_an_empty_call_gives_nothing(checkpoint) -> None:
    assert Engine.load(checkpoint("llama"), 0, 1, kv_tokens=64).forward([]) == []


def test_bf16_runs_and_stays_near_fp32(checkpoint) -> None:
    directory = checkpoint("qwen2")
    fp32, bf16 = (Engine.load(directory, 0, 1, kv_tokens=64, dtype=dtype) for dtype in ("fp32", "bf16"))
    rows = []
    for engine in (fp32, bf16):
        engine.open(b"s", max_tokens=32)
        rows.append(ok(engine.forward([item(b"s", 0, PROMPT)])[0]).hidden)
    assert rows[1].dtype == np.float32
    apart = np.linalg.norm(rows[0] - rows[1]) / np.linalg.norm(rows[0])
    assert 1e-5 < apart < 0.05
    whole = Engine.load(directory, 0, 4, kv_tokens=64, dtype="bf16")
    whole.open(b"s", max_tokens=32)
    out = ok(whole.forward([item(b"s", 0, PROMPT, draws=1)])[0])
    assert len(out.tokens) == 1
    assert whole.span.logits(out.hidden[-1:]).dtype == np.float32
