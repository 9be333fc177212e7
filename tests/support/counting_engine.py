"""A span engine whose answers follow from arithmetic, so that pipeline tests need no model and know every token.

It keeps the contract of `node.ports.SpanEngine`: positions are contiguous, rows are fp32, a bad item spoils nobody
else's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from node.ports import StepInput, StepOutput
from protocol.errors import MalformedError, PeerError, RefusedError
from protocol.ids import BlockSpan

WIDTH = 4
VOCABULARY = 50


def next_token(token: int, position: int) -> int:
    """The token after `token` at `position`, when no seed is given; 0 is the stop token and never comes by itself."""
    return (token * 31 + position * 7) % (VOCABULARY - 1) + 1


class CountingEngine:
    def __init__(self, start: int, end: int, blocks: int, *, rooms: int = 1000) -> None:
        self._start, self._end, self._blocks, self._rooms = start, end, blocks, rooms
        self._lengths: dict[bytes, int] = {}
        self.passes: list[int] = []
        """Items in each forward pass, for tests of batching."""

    def open(
        self, session: bytes, *, max_tokens: int, temperature_milli: int, seed: int, blocks: BlockSpan | None = None
    ) -> None:
        if len(self._lengths) >= self._rooms:
            raise RefusedError("no room", code="no-room")
        self._lengths[session] = 0

    def close(self, session: bytes) -> None:
        self._lengths.pop(session, None)

    def length(self, session: bytes) -> int:
        if session not in self._lengths:
            raise MalformedError("not an open session")
        return self._lengths[session]

    def rollback(self, session: bytes, length: int) -> None:
        if length > self.length(session):
            raise MalformedError("no such position")
        self._lengths[session] = length

    @property
    def sessions(self) -> int:
        return len(self._lengths)

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
        if self._lengths.get(item.session) != item.position or len(item.data) != item.length:
            raise MalformedError("not the next position")
        if self._start == 0:
            if any(not 0 <= token < VOCABULARY for token in item.data):
                raise MalformedError("no such token")
            rows = np.zeros((item.length, WIDTH), dtype=np.float32)
            rows[:, 0] = item.data
        else:
            rows = np.array(item.data, dtype=np.float32)
        if not np.isfinite(rows).all():
            raise MalformedError("not a number")
        rows = rows + np.float32([0, self._end - self._start, 0, 0])
        self._lengths[item.session] = item.position + item.length
        first = item.length - item.draws
        tokens = tuple(
            next_token(int(rows[at, 0]), item.position + at) for at in range(first, item.length) if item.draws
        )
        return StepOutput(
            session=item.session,
            position=item.position,
            length=item.length,
            hidden=rows.astype(np.float32),
            tokens=tokens,
        )
