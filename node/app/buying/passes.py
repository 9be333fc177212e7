"""An engine of one's own, shared by whoever asks at once: what waits goes into one pass, one after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial

from node.ports import SpanEngine, StepInput, StepOutput, Worker
from protocol.session.shaping import LookBack
from protocol.session.terms import SamplingTerms

__all__ = ["Passes"]

PIECE = 128
"""Rows of a prompt that go into one pass, so that answers beside it go on."""


class Passes:
    """Belongs to one event loop, and the engine to its worker.

    Args:
        engine: of a whole model.
        most_rows: in one pass.
    """

    def __init__(self, engine: SpanEngine, worker: Worker, *, most_rows: int = 512) -> None:
        self._engine = engine
        self._worker = worker
        self._most_rows = most_rows
        self._waiting: deque[tuple[StepInput, asyncio.Future[StepOutput]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def open(self, session: bytes, *, most: int, sampling: SamplingTerms) -> None:
        """Room for a sequence of at most so many tokens. Raises RefusedError without."""
        await self._worker.run(partial(self._engine.open, session, max_tokens=most, sampling=sampling))

    async def close(self, session: bytes) -> None:
        """Free it."""
        await self._worker.run(partial(self._engine.close, session))

    async def next(
        self, session: bytes, position: int, tokens: Sequence[int], before: LookBack | None = None
    ) -> tuple[int, tuple[bytes, ...]]:
        """What is drawn after these tokens, which stand at a position, and its log probabilities where the session asks
        for them. Raises PeerError for what cannot be computed.

        Args:
            before: where draws look back, on what.
        """
        drawn: StepOutput | None = None
        for start in range(0, len(tokens), PIECE):
            part = tuple(tokens[start : start + PIECE])
            draws = int(start + len(part) == len(tokens))
            at = position + start
            drawn = await self._step(
                StepInput(session=session, position=at, length=len(part), data=part, draws=draws, before=before)
            )
        if drawn is None or not drawn.tokens:
            raise RuntimeError("a pass that was to draw has drawn nothing")
        return drawn.tokens[0], drawn.said

    async def _step(self, item: StepInput) -> StepOutput:
        over: asyncio.Future[StepOutput] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, over))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="passes")
        return await over

    async def _run(self) -> None:
        try:
            while batch := self._batch():
                try:
                    outputs = await self._worker.run(partial(self._engine.forward, [item for item, _ in batch]))
                except Exception as error:  # noqa: BLE001 - raised again where each of them is awaited
                    outputs = [error] * len(batch)
                for (_, over), output in zip(batch, outputs, strict=True):
                    if over.done():  # its reader has gone
                        continue
                    if isinstance(output, Exception):
                        over.set_exception(output)
                    else:
                        over.set_result(output)
                await asyncio.sleep(0)  # whoever has a token asks for its next: it joins those that waited meanwhile
        finally:
            self._running = None

    def _batch(self) -> list[tuple[StepInput, asyncio.Future[StepOutput]]]:
        """What goes into the next pass, in the order that it came."""
        batch, rows = list[tuple[StepInput, asyncio.Future[StepOutput]]](), 0
        while self._waiting:
            item, over = self._waiting[0]
            if rows + item.length > self._most_rows:
                break
            self._waiting.popleft()
            if not over.done():
                batch.append((item, over))
                rows += item.length
        return batch
