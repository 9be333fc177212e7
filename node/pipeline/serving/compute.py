"""The one place where waiting pieces of many sessions become one forward pass after another.

Continuous batching: whatever is ready when the compute thread is free runs together, decode steps before prompt chunks,
within a bound on rows. The engine runs in one thread of its own; everything else here belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from node.pipeline.leg import LegJob
from node.ports import EnergyAccount, SpanEngine, StepInput, StepOutput

__all__ = ["ComputeLoop"]

Finished = Callable[[list[tuple[LegJob, StepInput, StepOutput | Exception]]], None]


class ComputeLoop:
    """Runs the pieces of jobs through the engine.

    Args:
        finished: called in the event loop with each pass's results.
        max_rows: most positions in one pass; more than there can be sessions, so that prompts are never shut out.
    """

    def __init__(self, engine: SpanEngine, energy: EnergyAccount, finished: Finished, *, max_rows: int) -> None:
        self._engine = engine
        self._energy = energy
        self._finished = finished
        self._max_rows = max_rows
        self._ready: dict[bytes, LegJob] = {}
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    def poke(self, job: LegJob) -> None:
        """Something arrived or was paid: look at this job again."""
        self._ready[job.session] = job
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            batch = self._next_batch()
            if not batch:
                self._wake.clear()
                continue
            outputs = await loop.run_in_executor(self._thread, self._forward, [piece for _, piece in batch])
            for job, _ in batch:
                job.running = False
            self._finished([(job, piece, out) for (job, piece), out in zip(batch, outputs, strict=True)])

    def close(self) -> None:
        """End the engine's thread, after what it is doing."""
        self._thread.shutdown(wait=True)

    async def in_thread(self, call: Callable[[], None]) -> None:
        """Run an engine call in the engine's thread, between passes."""
        await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _next_batch(self) -> list[tuple[LegJob, StepInput]]:
        """Decode steps first, then prompt chunks, each kind in order of arrival; a chunk is cut to the room left."""
        jobs = sorted(self._ready.values(), key=lambda job: not job.is_decoding)
        self._ready.clear()
        batch: list[tuple[LegJob, StepInput]] = []
        room = self._max_rows
        for job in jobs:
            if room == 0:
                self._ready[job.session] = job
            elif (piece := job.next_piece(room)) is not None:
                room -= piece.length
                job.running = True
                batch.append((job, piece))
        return batch

    def _forward(self, pieces: list[StepInput]) -> list[StepOutput | Exception]:
        began = time.thread_time()
        outputs = self._engine.forward(pieces)
        self._energy.record(sum(piece.length for piece in pieces), time.thread_time() - began)
        return outputs
