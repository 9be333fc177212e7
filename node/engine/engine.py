"""What a node's pipeline sees of a model: open a session, run rows of many sessions, close (`node.ports.SpanEngine`).

An engine belongs to one thread. It runs what it is given at once, within a bound on rows; what waits for its turn, the
pipeline knows. Rows from other nodes are checked here before they meet anyone else's: an item that fails gets its error
in its place, and the others run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import torch

from node.engine.attention import Backend
from node.engine.kv import PAGE_TOKENS, Batch, KvBook, Segment
from node.engine.loader import load_span
from node.engine.logprobs import say
from node.engine.sampling import Sampling, draw
from node.engine.span import Span
from node.model_directory import ModelFacts
from node.ports import GREEDY, Activations, StepInput, StepOutput
from protocol.errors import ConfigurationError, InvalidError, MalformedError, PeerError, RefusedError
from protocol.identity.ids import BlockSpan
from protocol.session.shaping import NOTHING_BEFORE, LookBack
from protocol.session.terms import SamplingTerms

__all__ = ["Engine"]


@dataclass(slots=True)
class _Work:
    """One checked item on its way through a pass."""

    item: StepInput
    data: Activations | Sequence[int]
    hidden: Activations | None = None
    """What came out, once it has run."""
    tokens: tuple[int, ...] = ()
    said: tuple[bytes, ...] = ()
    """Log probabilities, by token."""


class Engine:
    """A span, its KV store, and the sessions in it.

    Args:
        span: the blocks.
        kv_tokens: positions that the KV store has room for.
        max_rows: most rows in one call of `forward`.

    Raises:
        ConfigurationError: room for less than a page, or more than there is memory.
    """

    def __init__(self, span: Span, *, kv_tokens: int, max_rows: int = 512) -> None:
        if kv_tokens < PAGE_TOKENS:
            raise ConfigurationError(f"room for {kv_tokens} positions", hint=f"the least is {PAGE_TOKENS}")
        self.span = span
        self._book = KvBook(kv_tokens)
        self._store = span.new_store(kv_tokens)
        self.max_rows = max_rows
        """Most rows in one call of `forward`."""
        self._sampling: dict[bytes, Sampling] = {}
        self._blocks: dict[bytes, range] = {}

    @classmethod
    def load(
        cls,
        directory: Path,
        start: int,
        end: int,
        *,
        kv_tokens: int,
        dtype: str = "fp32",
        threads: int = 1,
        max_rows: int = 512,
        backend: Backend | None = None,
    ) -> Engine:
        """Load blocks ``[start, end)`` from a model directory. Raises ModelError or ConfigurationError.

        `threads` is torch's number for the whole process. More than there are idle cores is far slower than one.
        """
        torch.set_num_threads(threads)
        span = load_span(directory, start, end, dtype=dtype, backend=backend)
        return cls(span, kv_tokens=kv_tokens, max_rows=max_rows)

    def unload(self) -> None:
        """Give the memory of weights and attention cache back. It is the last that is asked of it."""
        del self.span, self._store

    @property
    def facts(self) -> ModelFacts:
        """Of the whole model."""
        return self.span.facts

    @property
    def kv_capacity(self) -> int:
        """Positions that the KV store has room for."""
        return self._book.capacity

    @property
    def kv_free(self) -> int:
        """Positions for which there are pages that no session has."""
        return self._book.free

    def open(
        self,
        session: bytes,
        *,
        max_tokens: int,
        sampling: SamplingTerms = GREEDY,
        blocks: BlockSpan | None = None,
        first: int | None = None,
    ) -> None:
        """Room for `max_tokens` positions through some of the blocks, all of them by default.

        Args:
            first: so many of them have pages from the beginning, by default all; for the others see `grow`.

        Raises:
            RefusedError: ``no-room``, ``too-long`` for the model, ``span`` not held, or ``session-open`` already.
        """
        through = self._through(blocks, self.span.blocks)
        self._require_fitting(max_tokens)
        self._book.reserve(session, max_tokens, first)
        self._sampling[session] = Sampling.of(sampling)
        self._blocks[session] = through

    def grow(self, session: bytes, tokens: int) -> None:
        """See that there are pages for a session's first `tokens` positions, or for all that it may have.

        Raises:
            RefusedError: ``no-room``; it is as it was.
            MalformedError: it is not open.
        """
        move = self._book.grow(session, tokens)
        if move is not None:
            self.span.move(self._store, move)

    def empty(self, session: bytes) -> None:
        """Free all pages of a session, which stays open and begins anew; one that is not open is ignored."""
        self._book.empty(session)

    def trim(self, session: bytes, length: int) -> int:
        """Forget positions from `length` on and free the room beyond them; the room that is kept, in positions.

        What a session that is over keeps until another goes on from there. Raises MalformedError when there are fewer.
        """
        return self._book.trim(session, length)

    def adopt(
        self,
        old: bytes,
        new: bytes,
        *,
        length: int,
        max_tokens: int,
        sampling: SamplingTerms = GREEDY,
        blocks: BlockSpan | None = None,
        first: int | None = None,
        keep: bool = False,
    ) -> None:
        """Open a session with the first `length` positions of one that is over, which is gone then.

        Args:
            keep: the old one stays as it is, and what both begin with is there twice.
            blocks: of those that the old one went through, all by default.
            first: as `open`.

        Raises:
            RefusedError: as `open`; the old session is as it was.
            MalformedError: it is not open, or has fewer positions.
        """
        self._book.length(old)
        through = self._through(blocks, self._blocks[old])
        self._require_fitting(max_tokens)
        move = self._book.adopt(old, new, length, max_tokens, keep=keep, first=first)
        if move is not None:
            self.span.move(self._store, move)
        if not keep:
            del self._sampling[old], self._blocks[old]
        self._sampling[new] = Sampling.of(sampling)
        self._blocks[new] = through

    def _through(self, blocks: BlockSpan | None, held: range) -> range:
        through = held if blocks is None else range(blocks.start, blocks.end)
        if through.start < held.start or through.stop > held.stop:
            raise RefusedError(f"blocks {blocks} are not all held here", code="span")
        return through

    def _require_fitting(self, tokens: int) -> None:
        if not 0 < tokens <= self.facts.max_context:
            raise RefusedError(f"{tokens} positions; the model has {self.facts.max_context}", code="too-long")

    def close(self, session: bytes) -> None:
        """Free a session's KV; unknown sessions are ignored."""
        self._book.release(session)
        self._sampling.pop(session, None)
        self._blocks.pop(session, None)

    def length(self, session: bytes) -> int:
        """Positions of a session that are in the KV. Raises MalformedError for one that is not open."""
        return self._book.length(session)

    def rollback(self, session: bytes, length: int) -> None:
        """Forget a session's positions from `length` on. Raises MalformedError when there are fewer."""
        self._book.rollback(session, length)

    def forward(self, items: Sequence[StepInput]) -> list[StepOutput | Exception]:
        """Run items of different sessions packed together, in one pass for all that go through the same blocks.

        An item for a position that its session has already takes the place of all from there on.

        Returns:
            In the order of `items`, each one's output, or the PeerError that it earned: MalformedError with code
            ``unknown-session``, ``out-of-order``, ``beyond-reservation``, ``not-finite`` or ``malformed``. After an
            error a session stands where it stood before, but for rows that overflow inside the blocks: what they were
            to replace is gone.

        Raises:
            InvalidError: more than `max_rows` rows; nothing has run.
        """
        if (rows := sum(item.length for item in items)) > self.max_rows:
            raise InvalidError(f"{rows} rows in one pass, {self.max_rows} at most")
        works: dict[bytes, _Work] = {}
        results: list[StepOutput | Exception | None] = [None] * len(items)
        for index, item in enumerate(items):
            try:
                if item.session in works:
                    raise MalformedError("two items of one session in one pass", code="out-of-order")
                works[item.session] = _Work(item, self._checked(item))
            except PeerError as error:
                results[index] = error
        self._run(list(works.values()))
        for index, item in enumerate(items):
            if results[index] is None:
                results[index] = self._output(works[item.session])
        return [result for result in results if result is not None]

    def _run(self, works: Sequence[_Work]) -> None:
        """Sessions that go through the same blocks share a pass, and all draws one product with the head."""
        by_blocks: dict[range, list[_Work]] = {}
        for work in works:
            by_blocks.setdefault(self._blocks[work.item.session], []).append(work)
        for blocks, sharing in by_blocks.items():
            self._run_pass(blocks, sharing)
        self._draw([work for work in works if self._draws(work)])

    def _run_pass(self, blocks: range, works: Sequence[_Work]) -> None:
        segments: list[Segment] = []
        row = 0
        for work in works:
            self._book.rollback(work.item.session, work.item.position)
            segments.append(self._book.segment(work.item.session, row, work.item.length))
            row += work.item.length
        inputs = [work.data for work in works]
        packed = [i for ids in inputs for i in ids] if blocks.start == 0 else np.concatenate(inputs)
        hidden = self.span.forward(Batch(tuple(segments)), packed, self._store, blocks)
        for work, segment in zip(works, segments, strict=True):
            rows = hidden[segment.row : segment.row + segment.length]
            if np.isfinite(rows).all():
                work.hidden = rows
                self._book.advance(work.item.session, work.item.length)

    def _draws(self, work: _Work) -> bool:
        """Whether tokens are drawn: not before the model's last block, and not after rows that overflowed."""
        last = self._blocks[work.item.session].stop == self.facts.blocks
        return last and work.hidden is not None and work.item.draws > 0

    def _draw(self, works: Sequence[_Work]) -> None:
        rows = [work.hidden[-work.item.draws :] for work in works if work.hidden is not None]
        if not rows:
            return
        all_logits, at = self.span.logits(np.concatenate(rows)), 0
        for work in works:
            logits = all_logits[at : at + work.item.draws]
            at += work.item.draws
            sampling, end = self._sampling[work.item.session], work.item.position + work.item.length
            # The token after a row stands one further on.
            positions = range(end - work.item.draws + 1, end + 1)
            if sampling.looks_back:
                work.tokens = _looking_back(logits, sampling, positions, work.item.before or NOTHING_BEFORE)
            else:
                work.tokens = tuple(map(draw, logits, repeat(sampling), positions))
            if sampling.logprobs is not None:
                work.said = tuple(map(say, logits, work.tokens, repeat(sampling.logprobs)))

    def _output(self, work: _Work) -> StepOutput | Exception:
        item = work.item
        if work.hidden is None:
            # Finite rows that overflow inside the blocks: passed on, they would look like this node's own fault.
            return MalformedError("the activations overflow", code="not-finite")
        return StepOutput(
            session=item.session,
            position=item.position,
            length=item.length,
            hidden=work.hidden,
            tokens=work.tokens,
            said=work.said,
        )

    def _checked(self, item: StepInput) -> Activations | Sequence[int]:
        self._book.check(item.session, item.position, item.length)
        if not 0 <= item.draws <= item.length:
            raise MalformedError(f"{item.draws} tokens to draw after {item.length} rows")
        if self._blocks[item.session].start == 0:
            return self._checked_tokens(item)
        rows = item.data
        if not isinstance(rows, np.ndarray) or rows.dtype != np.dtype("<f4"):
            raise MalformedError("the rows are not little-endian fp32 numbers")
        if rows.shape != (item.length, self.facts.hidden_size):
            raise MalformedError(f"rows {list(rows.shape)}, not {[item.length, self.facts.hidden_size]}")
        if not np.isfinite(rows).all():
            raise MalformedError("the activations hold a number that is not finite", code="not-finite")
        return rows

    def _checked_tokens(self, item: StepInput) -> Sequence[int]:
        ids = item.data
        if isinstance(ids, np.ndarray) or len(ids) != item.length:
            raise MalformedError(f"{len(ids)} token ids for {item.length} positions")
        if not all(type(i) is int and 0 <= i < self.facts.vocabulary for i in ids):
            raise MalformedError(f"a token id outside of the vocabulary of {self.facts.vocabulary}")
        return ids


def _looking_back(
    logits: Activations, sampling: Sampling, positions: Sequence[int], before: LookBack
) -> tuple[int, ...]:
    """Each draw looks back on those before it, as it would one by one: where a guess was another, it counts no more."""
    tokens: list[int] = []
    for each, position in zip(logits, positions, strict=True):
        so_far = LookBack(before.prompt, (*before.answer, *tokens))
        tokens.append(draw(each, sampling, position, so_far))
    return tuple(tokens)
