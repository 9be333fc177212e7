"""What an engine promises its pipeline, tried on it, for whoever adds a model or a back end (`joule model check`).

Rows are compared as an audit compares them, by fingerprints of their windows, and held to the precision's tolerance; so
what passes here is what no honest auditor would complain of. An engine that lies about rows, rollbacks or draws fails.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np

from node.engine.claim import Claim
from node.engine.engine import Engine
from node.model_directory import ModelFacts
from node.ports import GREEDY, Activations, SpanEngine, StepInput, StepOutput
from protocol.errors import ConfigurationError, JoulemeshError, MalformedError, RefusedError
from protocol.identity.ids import BlockSpan
from protocol.models.precisions import PRECISIONS
from protocol.session.fingerprint import distance_ppm, sketch
from protocol.session.logprobs import check_said, unpack_said
from protocol.session.shaping import NOTHING_BEFORE, Shaping, TokenBias
from protocol.session.shaping_bounds import MAX_BIAS_MILLI, MAX_PENALTY_MILLI
from protocol.session.terms import SamplingTerms
from protocol.units import MICRO

__all__ = ["ROOM", "Conformance", "Reference", "against", "read_reference"]

WINDOW = 16
ROWS = 2 * WINDOW
"""Positions of the sequence that everything is tried with."""
ROOM = 8 * 4 * WINDOW
"""Positions that an engine needs room for."""
ROUGH_PPM = 60_000
"""What is allowed where a precision has no tolerance: three times what bf16 was seen to differ by."""
LOGITS_PPM = 200
"""By how much logits may differ from those of another implementation where rows have a tolerance."""
SEED = bytes(32)
MOST_REFERENCE_BYTES = 1 << 30

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reference:
    """What another implementation gave for some tokens."""

    ids: tuple[int, ...]
    logits: Activations
    """After each of them, ``[tokens, vocabulary]``."""


def read_reference(path: Path, facts: ModelFacts) -> Reference:
    """A file with two arrays of numpy's, ``ids`` and ``logits``. Raises ConfigurationError."""
    try:
        if path.stat().st_size > MOST_REFERENCE_BYTES:
            raise ValueError("it is too large")
        with np.load(path, allow_pickle=False) as arrays:
            ids, logits = arrays["ids"], arrays["logits"]
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or not 0 < len(ids) <= min(256, facts.max_context):
            raise ValueError("ids are not 1 to 256 whole numbers")
        if logits.shape != (len(ids), facts.vocabulary) or logits.dtype != np.float32:
            raise ValueError(f"logits are not fp32 [{len(ids)}, {facts.vocabulary}]")
        if not ((ids >= 0) & (ids < facts.vocabulary)).all() or not np.isfinite(logits).all():
            raise ValueError("it has ids outside of the vocabulary, or logits that are not finite")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        hint = "make it with scripts/reference_logits.py"
        raise ConfigurationError(f"{path} is no reference for this model: {error}", hint=hint) from None
    return Reference(tuple(int(each) for each in ids), logits)


def against(engine: Engine, reference: Reference, *, precision: str) -> Claim:
    """Whether a whole model's logits are those of another implementation."""
    length, session = len(reference.ids), b"reference"
    engine.open(session, max_tokens=length)
    try:
        item = StepInput(session=session, position=0, length=length, data=reference.ids, draws=0)
        (output,) = engine.forward([item])
    finally:
        engine.close(session)
    if not isinstance(output, StepOutput):
        raise output
    theirs = reference.logits - reference.logits.mean(1, keepdims=True)
    ours = engine.span.logits(output.hidden)
    ours = ours - ours.mean(1, keepdims=True)
    apart = np.linalg.norm(ours - theirs, axis=1) / np.maximum(np.linalg.norm(theirs, axis=1), 1e-30)
    ppm = min(MICRO, round(float(apart.max()) * MICRO))
    allowed = ROUGH_PPM if PRECISIONS[precision].tolerance is None else LOGITS_PPM
    return Claim(
        name="logits are those of the reference",
        holds=ppm <= allowed,
        apart_ppm=ppm,
        allowed_ppm=allowed,
        trouble="" if ppm <= allowed else "another model is computed",
    )


class Broken(Exception):
    """A promise was not kept."""


class Conformance:
    """The promises of one engine.

    Args:
        engine: with room for `ROOM` positions, and nothing in it. It is as it was when all is done.
        facts: of the whole model.
        span: what the engine holds.
        precision: as it is sold.
    """

    def __init__(self, engine: SpanEngine, facts: ModelFacts, span: BlockSpan, *, precision: str) -> None:
        self._engine, self._facts, self._span = engine, facts, span
        tolerance = PRECISIONS[precision].tolerance
        self._exact = tolerance is not None
        self._allowed = ROUGH_PPM if tolerance is None else tolerance.distance_ppm
        self._margin = 0 if tolerance is None else tolerance.margin
        self._sessions = 0
        self._whole: Activations | None = None

    def run(self) -> Iterator[Claim]:
        """Every promise, one after the other."""
        for name, compared in (
            ("a prompt in pieces gives the rows of one in one piece", self._pieces),
            ("rows do not depend on the sessions beside them", self._beside),
            ("what was rolled back leaves no trace", self._rollback),
            ("a row for an earlier position takes the place of all from there on", self._replaced),
            ("blocks may be cut anywhere", self._cuts),
            ("a session goes on from what another one left", self._adopted),
        ):
            yield self._compared(name, compared)
        for name, looked in (
            ("draws depend on nothing but logits, seed and position", self._draws),
            ("what does not make sense is refused, and hurts nobody else", self._hostile),
            ("room is reserved at opening and given back at closing", self._room),
        ):
            yield self._looked(name, looked)

    # How promises are judged

    def _compared(self, name: str, work: Callable[[], Activations | Sequence[Activations]]) -> Claim:
        def apart() -> int:
            if self._whole is None:
                self._whole = self._rows_of(self._open(), 0, ROWS)
            found = work()
            each = [found] if isinstance(found, np.ndarray) else found
            return max(self._apart(rows) for rows in each)

        ppm, trouble = self._tried(apart)
        holds = ppm is not None and ppm <= self._allowed
        if ppm is not None and not holds:
            trouble = "the rows are others"
        return Claim(name=name, holds=holds, apart_ppm=ppm, allowed_ppm=self._allowed, trouble=trouble)

    def _looked(self, name: str, work: Callable[[], None]) -> Claim:
        _, trouble = self._tried(work)
        return Claim(name=name, holds=not trouble, apart_ppm=None, allowed_ppm=None, trouble=trouble)

    def _tried(self, work: Callable[[], T]) -> tuple[T | None, str]:
        try:
            return work(), ""
        except (JoulemeshError, Broken) as error:
            return None, str(error)
        finally:
            for number in range(self._sessions):
                self._engine.close(_name(number))
            self._sessions = 0

    def _apart(self, rows: Activations) -> int:
        """From the rows of one pass, over the worst window that both have."""
        assert self._whole is not None
        if not len(rows):
            raise Broken("no rows came out")
        return max(
            distance_ppm(
                sketch(np.ascontiguousarray(self._whole[at : min(at + WINDOW, len(rows))]), SEED),
                sketch(np.ascontiguousarray(rows[at : at + WINDOW]), SEED),
            )
            for at in range(0, len(rows), WINDOW)
        )

    # The engine, as the pipeline uses it

    def _open(self, *, sampling: SamplingTerms = GREEDY, blocks: BlockSpan | None = None) -> bytes:
        name = _name(self._sessions)
        self._sessions += 1
        tokens = min(2 * ROWS, self._facts.max_context)
        self._engine.open(name, max_tokens=tokens, sampling=sampling, blocks=blocks)
        return name

    def _data(self, start: int, end: int, salt: int = 0) -> Sequence[int] | Activations:
        """What enters at these positions: the same at every call, other things with another salt."""
        rows = [_numbers(salt, at) for at in range(start, end)]
        if self._span.start == 0:
            return [int(row.integers(self._facts.vocabulary)) for row in rows]
        width = self._facts.hidden_size
        return np.stack([row.standard_normal(width, dtype=np.float32) for row in rows])

    def _item(self, session: bytes, start: int, end: int, *, salt: int = 0, draws: int = 0) -> StepInput:
        data = self._data(start, end, salt)
        return StepInput(session=session, position=start, length=end - start, data=data, draws=draws)

    def _run(self, *items: StepInput) -> list[StepOutput]:
        outputs = self._engine.forward(items)
        if len(outputs) != len(items):
            raise Broken(f"{len(outputs)} outputs of {len(items)} items")
        good = []
        for item, output in zip(items, outputs, strict=True):
            if not isinstance(output, StepOutput):
                raise output
            if (output.session, output.position, output.length) != (item.session, item.position, item.length):
                raise Broken("an output is not that of its item")
            if output.hidden.shape != (item.length, self._facts.hidden_size):
                raise Broken(f"rows {list(output.hidden.shape)} of {item.length} positions")
            good.append(output)
        return good

    def _rows_of(self, session: bytes, start: int, end: int) -> Activations:
        return self._run(self._item(session, start, end))[0].hidden

    # Promises about rows

    def _pieces(self) -> Activations:
        session, ends = self._open(), (0, 1, 2, 7, WINDOW, WINDOW + 1, ROWS)
        return np.concatenate([self._rows_of(session, start, end) for start, end in pairwise(ends)])

    def _beside(self) -> list[Activations]:
        sessions = [self._open() for _ in range(3)]
        other = self._open()
        parts: list[list[Activations]] = [[] for _ in sessions]
        self._run(self._item(other, 0, WINDOW, salt=1))
        # One has its prompt in one piece, one row by row, one comes later: all beside another that decodes.
        for step in range(ROWS):
            items = [self._item(sessions[1], step, step + 1)]
            if step == 1:
                items.insert(0, self._item(sessions[0], 0, ROWS))
            if step >= ROWS - 2:
                start = ROWS // 2 * (step - (ROWS - 2))
                items.append(self._item(sessions[2], start, start + ROWS // 2))
            items.insert(len(items) // 2, self._item(other, WINDOW + step, WINDOW + step + 1, salt=1))
            for output in self._run(*items):
                if output.session in sessions:
                    parts[sessions.index(output.session)].append(output.hidden)
        return [np.concatenate(each) for each in parts]

    def _rollback(self) -> Activations:
        session = self._open()
        first = self._rows_of(session, 0, WINDOW)
        for _ in range(2):
            self._run(self._item(session, WINDOW, WINDOW + 5, salt=2))
            self._engine.rollback(session, WINDOW)
            if self._engine.length(session) != WINDOW:
                raise Broken(f"{self._engine.length(session)} positions after a rollback to {WINDOW}")
        return np.concatenate([first, self._rows_of(session, WINDOW, ROWS)])

    def _replaced(self) -> Activations:
        session = self._open()
        self._run(self._item(session, 0, ROWS, salt=3))
        first = self._rows_of(session, 0, 3)
        if self._engine.length(session) != 3:
            raise Broken(f"{self._engine.length(session)} positions where all but 3 were replaced")
        return np.concatenate([first, self._rows_of(session, 3, ROWS)])

    def _cuts(self) -> list[Activations]:
        start, end = self._span.start, self._span.end
        found = []
        for cut in sorted({start + 1, (start + end) // 2, end - 1} - {start, end}):
            data = self._data(0, ROWS)
            for blocks in (BlockSpan(start=start, end=cut), BlockSpan(start=cut, end=end)):
                session = self._open(blocks=blocks)
                item = StepInput(session=session, position=0, length=ROWS, data=data, draws=0)
                data = self._run(item)[0].hidden
                self._engine.close(session)
            found.append(data)
        assert self._whole is not None
        return [np.asarray(each) for each in found] or [self._whole]

    def _adopted(self) -> Activations:
        old, new = self._open(), _name(self._sessions)
        first = self._rows_of(old, 0, ROWS)[:WINDOW]
        tokens = min(2 * ROWS, self._facts.max_context)
        self._engine.trim(old, WINDOW)
        self._sessions += 1
        self._engine.adopt(old, new, length=WINDOW, max_tokens=tokens)
        return np.concatenate([first, self._rows_of(new, WINDOW, ROWS)])

    # Other promises

    def _draws(self) -> None:
        if self._span.end != self._facts.blocks:
            output = self._run(self._item(self._open(), 0, 2, draws=1))[0]
            if output.tokens:
                raise Broken("tokens were drawn before the last block")
            return
        alone, beside, at_once = (self._open(sampling=SamplingTerms(temperature_milli=900, seed=7)) for _ in range(3))
        other = self._open(sampling=SamplingTerms(temperature_milli=900, seed=8))
        one = [self._run(self._item(alone, at, at + 1, draws=1))[0].tokens for at in range(WINDOW)]
        two = []
        for at in range(WINDOW):
            outputs = self._run(self._item(other, at, at + 1, salt=4, draws=1), self._item(beside, at, at + 1, draws=1))
            two.append(outputs[1].tokens)
        three = self._run(self._item(at_once, 0, WINDOW, draws=WINDOW))[0].tokens
        tokens = tuple(token for each in one for token in each)
        if len(tokens) != WINDOW or len(three) != WINDOW:
            raise Broken("not as many tokens as were asked for")
        # Without a tolerance rounding may decide between two tokens.
        if self._exact and not tokens == tuple(token for each in two for token in each) == three:
            raise Broken("the same seed drew other tokens in another batch")
        self._shaped_draws()
        self._said()

    def _said(self) -> None:
        """What is said of tokens is the same one by one and at once, and nothing where nobody asks."""
        sampling = SamplingTerms(temperature_milli=900, seed=7, logprobs=3)
        alone, at_once, silent = self._open(sampling=sampling), self._open(sampling=sampling), self._open()
        one = [self._run(self._item(alone, at, at + 1, draws=1))[0] for at in range(WINDOW)]
        whole = self._run(self._item(at_once, 0, WINDOW, draws=WINDOW))[0]
        said = [each for output in one for each in output.said]
        if len(said) != WINDOW or len(whole.said) != WINDOW or self._run(self._item(silent, 0, 1, draws=1))[0].said:
            raise Broken("log probabilities of another number of tokens than were drawn")
        for token, each in zip([token for output in one for token in output.tokens], said, strict=True):
            check_said(each, token=token, top=3)
        first = [unpack_said(each)[1].millionths for each in (*said, *whole.said)]
        apart = max(abs(here - there) for here, there in zip(first[:WINDOW], first[WINDOW:], strict=True))
        if self._exact and apart > self._margin:
            raise Broken(f"log probabilities differ by {apart} millionths in another batch")

    def _shaped_draws(self) -> None:
        """Two tokens far above all others, of which the one that was said loses what it has above the other."""
        biases = (TokenBias(token=3, lift=2 * MAX_BIAS_MILLI), TokenBias(token=4, lift=2 * MAX_BIAS_MILLI - 1))
        shaping = Shaping(presence=2 * MAX_PENALTY_MILLI, frequency=2 * MAX_PENALTY_MILLI, biases=biases)
        session = self._open(sampling=GREEDY.replace(shaping=shaping))
        item = replace(self._item(session, 0, 1, draws=1), before=NOTHING_BEFORE)
        first = self._run(item)[0].tokens
        said = NOTHING_BEFORE.with_more(first * 20)
        second = self._run(replace(item, before=said))[0].tokens
        if first == second or {*first, *second} != {3, 4}:
            raise Broken("draws do not look back on what they are given, or pass over biases")

    def _hostile(self) -> None:
        good, bad = self._open(), self._open()
        expected = self._rows_of(good, 0, 4)
        self._engine.rollback(good, 0)
        unknown = self._item(b"nobody", 0, 1)
        early = self._item(bad, 3, 4)
        outputs = self._engine.forward([unknown, self._item(good, 0, 4), early])
        if not isinstance(outputs[1], StepOutput):
            raise Broken("a session failed for others' faults")
        if not all(isinstance(outputs[each], MalformedError) for each in (0, 2)):
            raise Broken("rows of no session, or out of order, were computed")
        if distance_ppm(sketch(expected, SEED), sketch(outputs[1].hidden, SEED)) > self._allowed:
            raise Broken("a session's rows changed beside items that were refused")
        if self._engine.length(bad) != 0:
            raise Broken("an item that was refused left something behind")
        if self._span.start > 0:
            rows = np.full((1, self._facts.hidden_size), np.nan, dtype=np.float32)
            (found,) = self._engine.forward([StepInput(session=bad, position=0, length=1, data=rows, draws=0)])
            if not isinstance(found, MalformedError):
                raise Broken("rows that are not finite were computed")

    def _room(self) -> None:
        before = self._engine.kv_free
        session = self._open()
        if not self._engine.kv_free < before:
            raise Broken("nothing was reserved for a session")
        most = self._facts.max_context
        try:
            self._engine.open(b"too long", max_tokens=most + 1)
        except RefusedError:
            pass
        else:
            self._engine.close(b"too long")
            raise Broken(f"a session of {most + 1} positions was taken, in a model of {most}")
        self._engine.close(session)
        if self._engine.kv_free != before:
            raise Broken("a session that is closed kept its room")


def _name(number: int) -> bytes:
    return f"check {number}".encode()


def _numbers(salt: int, position: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{salt} {position}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "big")))
