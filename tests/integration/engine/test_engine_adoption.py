"""Sessions that go back, end, and are gone on from by others: whatever happens, what is held is what was fed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest
from engine_ring import ok, reference_tokens

from node.engine.engine import Engine
from node.engine.kv import PAGE_TOKENS
from node.ports import StepInput
from protocol.errors import MalformedError, RefusedError
from protocol.identity.ids import BlockSpan

PAGES = 20
STEPS = 2000
LONGEST = 6 * PAGE_TOKENS
VOCABULARY = 320


def item(session: bytes, position: int, ids: list[int], *, draws: int = 0) -> StepInput:
    return StepInput(session=session, position=position, length=len(ids), data=ids, draws=draws)


@dataclass
class Session:
    room: int
    ids: list[int] = field(default_factory=list)
    over: bool = False


class World:
    """An engine, what each session was fed, and another engine that computes all of it again."""

    def __init__(self, engine: Engine, fresh: Engine, seed: int) -> None:
        self.engine, self.fresh = engine, fresh
        self.dice = random.Random(seed)
        self.sessions: dict[bytes, Session] = {}
        self.count = 0

    def new(self) -> bytes:
        self.count += 1
        return self.count.to_bytes(4, "big")

    def some(self, *, over: bool) -> bytes | None:
        found = [name for name, session in self.sessions.items() if session.over is over]
        return self.dice.choice(found) if found else None

    def pages(self) -> int:
        return sum(max(1, -(-session.room // PAGE_TOKENS)) for session in self.sessions.values())

    def open(self) -> None:
        name, room = self.new(), self.dice.randint(1, LONGEST)
        fits = self.pages() + -(-room // PAGE_TOKENS) <= PAGES
        try:
            self.engine.open(name, max_tokens=room)
        except RefusedError:
            assert not fits
        else:
            assert fits
            self.sessions[name] = Session(room)

    def forward(self) -> None:
        name = self.some(over=False)
        if name is None:
            return
        session = self.sessions[name]
        position = self.dice.choice([len(session.ids), self.dice.randint(0, len(session.ids))])
        rows = self.dice.randint(1, 24)
        ids = [self.dice.randrange(VOCABULARY) for _ in range(rows)]
        (result,) = self.engine.forward([item(name, position, ids, draws=1)])
        if position + rows > session.room:
            assert isinstance(result, MalformedError)
            return
        session.ids[position:] = ids
        if self.dice.random() < 0.25:
            np.testing.assert_allclose(ok(result).hidden, self.again(session.ids)[position:], rtol=1e-3, atol=1e-4)

    def again(self, ids: list[int]) -> np.ndarray:
        self.fresh.open(b"again", max_tokens=len(ids))
        rows = ok(self.fresh.forward([item(b"again", 0, ids)])[0]).hidden
        self.fresh.close(b"again")
        return rows

    def rollback(self) -> None:
        if (name := self.some(over=False)) is not None:
            length = self.dice.randint(0, len(self.sessions[name].ids))
            self.engine.rollback(name, length)
            del self.sessions[name].ids[length:]

    def trim(self) -> None:
        if (name := self.some(over=False)) is not None:
            length = self.dice.randint(0, len(self.sessions[name].ids))
            self.engine.trim(name, length)
            self.sessions[name] = Session(length, self.sessions[name].ids[:length], over=True)

    def adopt(self) -> None:
        old = self.some(over=self.dice.random() < 0.8)
        if old is None:
            return
        new, session = self.new(), self.sessions[old]
        length = self.dice.randint(0, len(session.ids))
        room, keep = max(1, length + self.dice.randint(0, 3 * PAGE_TOKENS)), self.dice.random() < 0.4
        try:
            self.engine.adopt(old, new, length=length, max_tokens=room, keep=keep)
        except RefusedError:
            assert self.engine.length(old) == len(session.ids)
            return
        if not keep:
            del self.sessions[old]
        self.sessions[new] = Session(room, session.ids[:length])

    def close(self) -> None:
        name = self.some(over=self.dice.random() < 0.5)
        if name is not None:
            self.engine.close(name)
            del self.sessions[name]

    def step(self) -> None:
        what = [self.open, self.forward, self.rollback, self.trim, self.adopt, self.close]
        self.dice.choices(what, weights=[4, 12, 2, 2, 4, 2])[0]()
        assert self.engine.kv_free == (PAGES - self.pages()) * PAGE_TOKENS


@pytest.mark.parametrize("variant", ["llama", "mistral-window"])
def test_whatever_happens_to_sessions_equals_computing_it_again(checkpoint, variant: str) -> None:
    engine, fresh = (Engine.load(checkpoint(variant), 0, 2, kv_tokens=PAGES * PAGE_TOKENS) for _ in range(2))
    world = World(engine, fresh, seed=7)
    for _ in range(STEPS):
        world.step()
    assert world.count > STEPS // 10
    for name, session in list(world.sessions.items()):
        assert engine.length(name) == len(session.ids)
        engine.close(name)
    assert engine.kv_free == engine.kv_capacity


def test_what_was_answered_is_gone_on_from(checkpoint) -> None:
    """The second turn of a chat, on pages that have to move since others lie behind them."""
    engine = Engine.load(checkpoint("llama"), 0, 4, kv_tokens=PAGES * PAGE_TOKENS)
    prompt = [7, 99, 3, 250, 18, 18, 41] * 4
    for session in (b"first", b"behind"):
        engine.open(session, max_tokens=2 * PAGE_TOKENS)
    ok(engine.forward([item(b"first", 0, prompt), item(b"behind", 0, prompt)])[0])
    engine.adopt(b"first", b"second", length=20, max_tokens=6 * PAGE_TOKENS)
    tokens = list(ok(engine.forward([item(b"second", 20, prompt[20:], draws=1)])[0]).tokens)
    while len(tokens) < 20:
        drawn = ok(engine.forward([item(b"second", len(prompt) + len(tokens) - 1, tokens[-1:], draws=1)])[0])
        tokens.extend(drawn.tokens)
    assert tokens == reference_tokens(checkpoint("llama"), prompt, 20)
    assert engine.kv_free == (PAGES - 8) * PAGE_TOKENS


def test_only_blocks_that_a_session_went_through_are_handed_on(checkpoint) -> None:
    engine = Engine.load(checkpoint("llama"), 0, 3, kv_tokens=PAGES * PAGE_TOKENS)
    engine.open(b"a", max_tokens=16, blocks=BlockSpan(start=0, end=2))
    whole = ok(engine.forward([item(b"a", 0, [5, 6, 7])])[0]).hidden
    with pytest.raises(RefusedError) as refused:
        engine.adopt(b"a", b"b", length=3, max_tokens=16, blocks=BlockSpan(start=0, end=3))
    assert refused.value.code == "span"
    with pytest.raises(RefusedError) as refused:
        engine.adopt(b"a", b"b", length=3, max_tokens=10_000)
    assert refused.value.code == "too-long"
    engine.adopt(b"a", b"b", length=2, max_tokens=16)
    np.testing.assert_allclose(ok(engine.forward([item(b"b", 2, [7])])[0]).hidden, whole[2:], rtol=1e-4, atol=1e-5)


def test_rows_that_overflow_take_back_what_they_were_to_replace(checkpoint) -> None:
    engine = Engine.load(checkpoint("llama"), 3, 4, kv_tokens=64)
    engine.open(b"s", max_tokens=16)
    rows = np.ones((4, 64), dtype=np.float32)
    ok(engine.forward([StepInput(session=b"s", position=0, length=4, data=rows, draws=0)])[0])
    engine.span.layers[0].down.weight = engine.span.layers[0].down.weight * 3e38
    (result,) = engine.forward([StepInput(session=b"s", position=2, length=2, data=rows[2:], draws=0)])
    assert isinstance(result, MalformedError)
    assert result.code == "not-finite"
    assert engine.length(b"s") == 2
