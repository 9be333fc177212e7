"""The one place where waiting pieces of many sessions become one forward pass after another.

Continuous batching: whatever is ready when the engine is free runs together, as the scheduler says. The engine runs in
a worker of its own; everything else here belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from node.pipeline.loop_clock import loop_us
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.pace import Pace
from node.pipeline.serving.scheduler import Customer, Scheduler
from node.ports import EnergyAccount, SpanEngine, StepInput, StepOutput, T, Worker

__all__ = ["ComputeLoop"]

Result = tuple[LegJob, StepInput, StepOutput | Exception]

Finished = Callable[[list[Result]], Callable[[], None]]
"""Sends on at once what others wait for; what it returns is the rest, done while the next pass computes."""


class ComputeLoop:
    """Runs the pieces of jobs through the engine.

    Args:
        finished: called in the event loop with each pass's results; see there.
        worker: the only one that touches the engine.
        max_rows: most positions in one pass.
        pace: what passes take here; it is told of each.
        known: whether the client of a session has paid here before.
    """

    def __init__(
        self,
        engine: SpanEngine,
        energy: EnergyAccount,
        finished: Finished,
        *,
        worker: Worker,
        max_rows: int,
        pace: Pace,
        known: Callable[[bytes], bool],
    ) -> None:
        self._engine = engine
        self._energy = energy
        self._finished = finished
        self._worker = worker
        self._scheduler = Scheduler(max_rows, pace)
        self._known = known
        self._poked: dict[bytes, LegJob] = {}
        self._jobs: dict[bytes, LegJob] = {}
        self._wake = asyncio.Event()

    def poke(self, job: LegJob) -> None:
        """Something arrived or was paid: look at this job again."""
        self._poked[job.session] = job
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        rest = _nothing
        while True:
            batch = self._next_batch()
            if not batch:
                rest()
                rest = _nothing
                if not self._poked:
                    self._wake.clear()
                    await self._wake.wait()
                continue
            pieces = [piece for _, piece in batch]
            began = loop.time()
            self._energy.begin()
            passing = self._worker.run(lambda: self._engine.forward(pieces))  # noqa: B023 - awaited here
            rest()
            outputs = await passing
            took_s = loop.time() - began
            self._scheduler.took(round(took_s * 1e6))
            self._note_energy(batch)
            rest = self._finished([(job, piece, out) for (job, piece), out in zip(batch, outputs, strict=True)])
            for job, _ in batch:
                if job.ended or not job.idle:
                    self._poked[job.session] = job  # for the rows that were left over
                else:
                    self._jobs.pop(job.session, None)

    @property
    def answering(self) -> bool:
        """Whether any answer is under way."""
        return self._scheduler.answering(loop_us())

    async def with_engine(self, call: Callable[[], T]) -> T:
        """Run an engine call between passes."""
        return await self._worker.run(call)

    def close(self) -> None:
        """End the worker, after what it is doing."""
        self._worker.close()

    def _next_batch(self) -> list[tuple[LegJob, StepInput]]:
        batch: list[tuple[LegJob, StepInput]] = []
        for job in self._poked.values():
            if rows := job.ready_rows:
                self._jobs[job.session] = job
            else:
                self._jobs.pop(job.session, None)
            customer = Customer(job.order.session.client, self._known(job.session))
            self._scheduler.ready(job.session, rows, customer, answering=job.prompt_left == 0)
            if job.ended:
                self._scheduler.end(job.session)
        self._poked.clear()
        while not batch and (turns := self._scheduler.next_pass(loop_us())):
            for session, rows in turns:
                its_job = self._jobs.get(session)
                if its_job is not None and (piece := its_job.next_piece(rows)) is not None:
                    batch.append((its_job, piece))
                else:  # its rows were taken back, or it is over
                    self._jobs.pop(session, None)
        return batch

    def _note_energy(self, batch: list[tuple[LegJob, StepInput]]) -> None:
        self._energy.record([job.worked(piece) for job, piece in batch])


def _nothing() -> None:
    """Nothing is left to be done."""
