"""A span engine whose answers follow from arithmetic, so that pipeline tests need no model and know every token.

It keeps the contract of `node.ports.SpanEngine`: positions are contiguous, rows are fp32, a bad item spoils nobody
else's. What it holds of a session counts: each leg writes a checksum of the tokens that it has had into its rows, and
where a later leg has had others, the tokens that are drawn are wrong from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from node.ports import GREEDY, StepInput, StepOutput
from protocol.errors import MalformedError, PeerError, RefusedError
from protocol.identity.ids import BlockSpan
from protocol.session.logprobs import LogProb, pack_said
from protocol.session.shaping import LookBack
from protocol.session.terms import SamplingTerms

WIDTH = 4
"""A row: its token, the blocks it has been through, the checksum of all tokens so far, and whether legs differed."""
VOCABULARY = 50
_CHECKSUMS = 251
"""So many, so that each is exact in bf16."""


def next_token(token: int, position: int) -> int:
    """The token after `token` at `position`, when no seed is given; 0 is the stop token and never comes by itself."""
    return (token * 31 + position * 7) % (VOCABULARY - 1) + 1


def looked_back(token: int, prompt: Sequence[int], answer: Sequence[int]) -> int:
    """What is drawn in a token's place where draws look back, on these ids of the prompt and the answer so far."""
    return (token + sum(map(int, prompt)) + 3 * sum(answer) + 5 * len(answer)) % (VOCABULARY - 1) + 1


def said_of(token: int, position: int, top: int) -> bytes:
    """What is said of a token that was drawn for a position: half of the tokens are the likeliest."""
    likely = 1000 + 10 * (position % 7)
    others = [LogProb((token + step) % VOCABULARY, likely + step) for step in range(position % 2, top + position % 2)]
    return pack_said([LogProb(token, likely if position % 2 == 0 else likely + top + 1), *others])


def checksums(tokens: Sequence[int], *, before: int = 0) -> list[int]:
    """Of all tokens up to each of these, after those whose checksum is `before`."""
    found = []
    for token in tokens:
        before = (before * 31 + token + 1) % _CHECKSUMS
        found.append(before)
    return found


@dataclass(slots=True)
class _Held:
    room: int
    blocks: BlockSpan
    paged: int
    """Of the room, positions that it has."""
    sampling: SamplingTerms = GREEDY
    sums: list[int] = field(default_factory=list)
    """The checksum after each position."""


class CountingEngine:
    def __init__(self, start: int, end: int, blocks: int, *, kv_tokens: int = 1_000_000) -> None:
        self._start, self._end, self._blocks, self._kv_tokens = start, end, blocks, kv_tokens
        self._held: dict[bytes, _Held] = {}
        self.passes: list[int] = []
        """Items in each forward pass, for tests of batching."""
        self.rows = 0
        """In all passes."""
        self.grain = 0.0
        """By so much, and more in longer pieces, a row differs when it is computed again: as real ones do in their last
        digits.
        """

    def open(
        self,
        session: bytes,
        *,
        max_tokens: int,
        sampling: SamplingTerms = GREEDY,
        blocks: BlockSpan | None = None,
        first: int | None = None,
    ) -> None:
        first = max_tokens if first is None else min(first, max_tokens)
        if first > self.kv_free:
            raise RefusedError("no room", code="no-room")
        self._held[session] = _Held(max_tokens, blocks or BlockSpan(start=self._start, end=self._end), first, sampling)

    def grow(self, session: bytes, tokens: int) -> None:
        self.length(session)
        held = self._held[session]
        paged = max(held.paged, min(tokens, held.room))
        if paged - held.paged > self.kv_free:
            raise RefusedError("no room", code="no-room")
        held.paged = paged

    def empty(self, session: bytes) -> None:
        if (held := self._held.get(session)) is not None:
            held.paged, held.sums = 0, []

    def fill(self, kv_tokens: int = 0) -> None:
        """From now on there is no room for anybody else, or for so many positions in all."""
        self._kv_tokens = kv_tokens

    @property
    def kv_capacity(self) -> int:
        return self._kv_tokens

    @property
    def kv_free(self) -> int:
        return self._kv_tokens - sum(held.paged for held in self._held.values())

    def trim(self, session: bytes, length: int) -> int:
        self.rollback(session, length)
        self._held[session].room = self._held[session].paged = length
        return length

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
        if length > min(self.length(old), max_tokens):
            raise MalformedError("no such position")
        if new in self._held:
            raise RefusedError("it is open already", code="session-open")
        first = max_tokens if first is None else max(length, min(first, max_tokens))
        if first > self.kv_free + (0 if keep else self._held[old].paged):
            raise RefusedError("no room", code="no-room")
        span = blocks or BlockSpan(start=self._start, end=self._end)
        before = self._held[old] if keep else self._held.pop(old)
        self._held[new] = _Held(max_tokens, span, first, sampling, before.sums[:length])

    def close(self, session: bytes) -> None:
        self._held.pop(session, None)

    def length(self, session: bytes) -> int:
        if session not in self._held:
            raise MalformedError("not an open session")
        return len(self._held[session].sums)

    def rollback(self, session: bytes, length: int) -> None:
        if length > self.length(session):
            raise MalformedError("no such position")
        del self._held[session].sums[length:]

    @property
    def sessions(self) -> int:
        return len(self._held)

    def forward(self, items: Sequence[StepInput]) -> list[StepOutput | Exception]:
        self.passes.append(len(items))
        outputs: list[StepOutput | Exception] = []
        for item in items:
            try:
                outputs.append(self._one(item))
            except PeerError as error:
                outputs.append(error)
        return outputs

    def _one(self, item: StepInput) -> StepOutput:
        if item.position > self.length(item.session) or len(item.data) != item.length:
            raise MalformedError("not the next position")
        if item.position + item.length > self._held[item.session].paged:
            raise MalformedError("more than was reserved")
        span = self._held[item.session].blocks
        if span.start == 0:
            if any(not 0 <= token < VOCABULARY for token in item.data):
                raise MalformedError("no such token")
            rows = np.zeros((item.length, WIDTH), dtype=np.float32)
            rows[:, 0] = item.data
        else:
            rows = np.array(item.data, dtype=np.float32)
        if not np.isfinite(rows).all():
            raise MalformedError("not a number")
        self.rows += item.length
        rows = rows + np.float32([0, len(span) + self.grain * item.length, 0, 0])
        self._check_history(item, rows)
        first = item.length - item.draws
        tokens = tuple(_drawn(rows[at], item.position + at) for at in range(first, item.length) if item.draws)
        sampling = self._held[item.session].sampling
        if item.draws and sampling.looks_back:
            tokens = _looking_back(tokens, item.before)
        top, at = sampling.logprobs, item.position + first + 1
        return StepOutput(
            session=item.session,
            position=item.position,
            length=item.length,
            hidden=rows.astype(np.float32),
            tokens=tokens,
            said=() if top is None else tuple(said_of(token, at + each, top) for each, token in enumerate(tokens)),
        )

    def _check_history(self, item: StepInput, rows: np.ndarray) -> None:
        sums = self._held[item.session].sums
        del sums[item.position :]
        new = checksums([int(token) for token in rows[:, 0]], before=sums[-1] if sums else 0)
        sums.extend(new)
        if self._held[item.session].blocks.start == 0:
            rows[:, 2] = new
        rows[rows[:, 2] != new, 3] = 1


def _drawn(row: np.ndarray, position: int) -> int:
    token = next_token(int(row[0]), position)
    return token % (VOCABULARY - 1) + 1 if row[3] else token


def _looking_back(tokens: Sequence[int], before: LookBack | None) -> tuple[int, ...]:
    if before is None:
        raise MalformedError("nobody said what to look back on")
    found: list[int] = []
    for token in tokens:
        found.append(looked_back(token, before.prompt, (*before.answer, *found)))
    return tuple(found)
