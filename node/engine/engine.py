"""What a node's pipeline sees of a model: open a session, run rows of many sessions, close (`node.ports.SpanEngine`).

An engine belongs to one thread. Rows from other nodes are checked here before they meet anyone else's: an item that
fails gets its error in its place, and the others run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from node.engine.kv import PAGE_TOKENS, Batch, KvBook, Segment
from node.engine.loader import load_span
from node.engine.sampling import Sampling, draw
from node.engine.scheduler import Item, Scheduler
from node.engine.span import Span
from node.model_directory import ModelFacts
from node.ports import Activations, StepInput, StepOutput
from protocol.errors import ConfigurationError, MalformedError, PeerError, RefusedError
from protocol.ids import BlockSpan

__all__ = ["Engine"]


@dataclass(slots=True)
class _Work:
    """One checked item on its way through the passes that it takes."""

    item: StepInput
    data: Activations | Sequence[int]
    done: list[Activations] = field(default_factory=list)


class Engine:
    """A span, its KV store, and the sessions in it.

    Args:
        span: the blocks.
        kv_tokens: positions that the KV store has room for.
        max_batched_tokens: most rows in one pass; longer calls take several.

    Raises:
        ConfigurationError: room for less than a page, or more than there is memory.
    """

    def __init__(self, span: Span, *, kv_tokens: int, max_batched_tokens: int = 512) -> None:
        if kv_tokens < PAGE_TOKENS:
            raise ConfigurationError(f"room for {kv_tokens} positions", hint=f"the least is {PAGE_TOKENS}")
        self.span = span
        self._book = KvBook(kv_tokens)
        self._store = span.new_store(kv_tokens)
        self._max_batched_tokens = max_batched_tokens
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
        max_batched_tokens: int = 512,
    ) -> Engine:
        """Load blocks ``[start, end)`` from a model directory. Raises ModelError or ConfigurationError.

        `threads` is torch's number for the whole process. More than there are idle cores is far slower than one.
        """
        torch.set_num_threads(threads)
        span = load_span(directory, start, end, dtype=dtype)
        return cls(span, kv_tokens=kv_tokens, max_batched_tokens=max_batched_tokens)

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
        """Positions that no session has reserved."""
        return self._book.free

    def open(
        self, session: bytes, *, max_tokens: int, temperature_milli: int, seed: int, blocks: BlockSpan | None = None
    ) -> None:
        """Reserve KV for `max_tokens` positions through some of the blocks, all of them by default.

        Raises:
            RefusedError: ``no-room``, ``too-long`` for the model, ``span`` not held, or ``session-open`` already.
        """
        through = self.span.blocks if blocks is None else range(blocks.start, blocks.end)
        if through.start < self.span.blocks.start or through.stop > self.span.blocks.stop:
            raise RefusedError(f"blocks {blocks} are not all held here", code="span")
        if not 0 < max_tokens <= self.facts.max_context:
            raise RefusedError(f"{max_tokens} positions; the model has {self.facts.max_context}", code="too-long")
        sampling = Sampling(temperature_milli, seed)
        self._book.reserve(session, max_tokens)
        self._sampling[session] = sampling
        self._blocks[session] = through

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
        """Run items of different sessions packed together.

        Returns:
            In the order of `items`, each one's output, or the PeerError that it earned: MalformedError with code
            ``unknown-session``, ``out-of-order``, ``beyond-reservation``, ``not-finite`` or ``malformed``. After an
            error a session stands where it stood before.
        """
        works: dict[bytes, _Work] = {}
        results: list[StepOutput | Exception | None] = [None] * len(items)
        for index, item in enumerate(items):
            try:
                if item.session in works:
                    raise MalformedError("two items of one session in one pass", code="out-of-order")
                works[item.session] = _Work(item, self._checked(item))
            except PeerError as error:
                results[index] = error
        self._run(works)
        for index, item in enumerate(items):
            if results[index] is None:
                results[index] = self._output(works[item.session])
        return [result for result in results if result is not None]

    def _run(self, works: dict[bytes, _Work]) -> None:
        """Sessions that go through the same blocks share passes."""
        schedulers: dict[range, Scheduler] = {}
        for session, work in works.items():
            scheduler = schedulers.setdefault(self._blocks[session], Scheduler(self._max_batched_tokens))
            scheduler.add(Item(session, work.item.position, work.item.length))
        for blocks, scheduler in schedulers.items():
            while pieces := scheduler.next_batch():
                self._run_pass(blocks, pieces, works)

    def _run_pass(self, blocks: range, pieces: Sequence[Item], works: dict[bytes, _Work]) -> None:
        segments: list[Segment] = []
        inputs: list[Activations | Sequence[int]] = []
        row = 0
        for piece in pieces:
            work = works[piece.session]
            at = piece.position - work.item.position
            inputs.append(work.data[at : at + piece.length])
            segments.append(self._book.segment(piece.session, row, piece.length))
            row += piece.length
        packed = [i for ids in inputs for i in ids] if blocks.start == 0 else np.concatenate(inputs)
        hidden = self.span.forward(Batch(tuple(segments)), packed, self._store, blocks)
        for piece, segment in zip(pieces, segments, strict=True):
            works[piece.session].done.append(hidden[segment.row : segment.row + segment.length])
            self._book.advance(piece.session, piece.length)

    def _output(self, work: _Work) -> StepOutput | Exception:
        item = work.item
        hidden = work.done[0] if len(work.done) == 1 else np.concatenate(work.done)
        if not np.isfinite(hidden).all():
            # Finite rows that overflow inside the blocks: passed on, they would look like this node's own fault.
            self._book.rollback(item.session, item.position)
            return MalformedError("the activations overflow", code="not-finite")
        tokens: tuple[int, ...] = ()
        if item.draws and self._blocks[item.session].stop == self.facts.blocks:
            first, sampling = item.position + item.length - item.draws + 1, self._sampling[item.session]
            logits = self.span.logits(hidden[-item.draws :])
            tokens = tuple(draw(row, sampling, at) for at, row in enumerate(logits, first))
        return StepOutput(
            session=item.session, position=item.position, length=item.length, hidden=hidden, tokens=tokens
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
