"""The one place where waiting pieces of many sessions become one forward pass after another.

Continuous batching: whatever is ready when the engine is free runs together, as the scheduler says. The engine runs in
a worker of its own; everything else here belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from node.pipeline.loop_clock import loop_us
from node.pipeline.serving.gathering import Gathering
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.pace import Pace
from node.pipeline.serving.scheduler import Customer, Scheduler
from node.ports import EnergyAccount, SpanEngine, StepInput, StepOutput, T, Worker
from protocol.energy.energy_shares import NOBODY, Worked

__all__ = ["ComputeLoop", "worked"]

Result = tuple[LegJob, StepInput, StepOutput | Exception]

FAULTY_PASSES = 8
"""In a row, of which nothing came but faults of the engine: then it is the engine, and no session in it."""

MakeRoom = Callable[[Collection[LegJob]], Awaitable[None]]
"""Sees that jobs which lack pages have them, as far as can be; called between passes."""

Finished = Callable[[list[Result]], Callable[[], None]]
"""Sends on at once what others wait for; what it returns is the rest, done while the next pass computes."""


class ComputeLoop:
    """Runs the pieces of jobs through the engine.

    Args:
        finished: called in the event loop with each pass's results; see there.
        failed: called with a job that could not be looked at, or given a turn, by a fault of this program.
        worker: the only one that touches the engine.
        max_rows: most positions in one pass.
        pace: what passes take here; it is told of each.
        core_wait_ns: for how long the calling thread has waited for a core in all.
        known: whether the client of a session has paid here before.
    """

    def __init__(
        self,
        engine: SpanEngine,
        energy: EnergyAccount,
        finished: Finished,
        failed: Callable[[LegJob, Exception], None],
        *,
        worker: Worker,
        max_rows: int,
        pace: Pace,
        core_wait_ns: Callable[[], int],
        known: Callable[[bytes], bool],
    ) -> None:
        self._engine = engine
        self._energy = energy
        self._finished = finished
        self._failed = failed
        self._faulty = 0
        """Passes in a row of which nothing came; the worker's."""
        self._worker = worker
        self._scheduler = Scheduler(max_rows, pace)
        self._pace = pace
        self._gathering = Gathering()
        self._core_wait_ns = core_wait_ns
        self._waited_ns = 0
        """Up to the end of the last pass; the worker's."""
        self._known = known
        self.make_room: MakeRoom | None = None
        """Where jobs have pages by and by."""
        self._short: dict[bytes, LegJob] = {}
        """Jobs that lack pages."""
        self._freed = False
        """Whether the engine was called since it was last tried to give them some."""
        self._poked: dict[bytes, LegJob] = {}
        self._jobs: dict[bytes, LegJob] = {}
        self._wake = asyncio.Event()

    def poke(self, job: LegJob) -> None:
        """Something arrived or was paid: look at this job again."""
        if not self._poked:  # else whoever sleeps has been woken
            self._wake.set()
        self._poked[job.session] = job

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        rest = _nothing
        while True:
            if self._poked:
                self._look()
            if self.make_room is not None:
                await self._see_to_room(self.make_room)
            hold_us, batch = 0, []
            if len(self._scheduler):
                hold_us = self._hold_us()
                batch = [] if hold_us else self._next_batch()
            if not batch:
                rest()
                rest = _nothing
                if not self._poked and not self._freed:
                    await self._sleep(hold_us)
                continue
            pieces = [piece for _, piece in batch]
            began = loop.time()
            self._energy.begin()
            passing = self._worker.run(partial(self._forward, pieces))
            rest()
            outputs, kept_ns = await passing
            took_us = round((loop.time() - began) * 1e6)
            self._scheduler.took(took_us)
            self._gathering.passed(took_us, kept_ns // 1000)
            self._note_energy(batch)
            rest = self._finished([(job, piece, out) for (job, piece), out in zip(batch, outputs, strict=True)])
            for job, _ in batch:
                if job.ended or not job.idle:
                    self._poked[job.session] = job  # for the rows that were left over
                else:
                    self._jobs.pop(job.session, None)

    async def _see_to_room(self, make_room: MakeRoom) -> None:
        self._freed = False
        await make_room(tuple(self._short.values()))
        self._each(tuple(self._short.values()), self._note_short)
        if self._poked:
            self._look()

    @property
    def answering(self) -> bool:
        """Whether any answer is under way."""
        return self._scheduler.answering(loop_us())

    async def prepare(self, job: LegJob, worker: Worker) -> None:
        """See in another worker that a job's answer can be held to its grammar. Raises RefusedError."""
        looking_back = job.looking_back
        if (held := looking_back.to_prepare) is not None:
            await worker.run(partial(self._engine.prepare, *held))
            looking_back.prepares = False

    async def with_engine(self, call: Callable[[], T]) -> T:
        """Run an engine call between passes."""
        try:
            return await self._worker.run(call)
        finally:
            if self.make_room is not None:
                self._freed = True
                self._wake.set()

    async def making_room(self, call: Callable[[], T]) -> T:
        """The same for `make_room` itself, which is not to be called again because of it."""
        return await self._worker.run(call)

    def close(self) -> None:
        """End the worker, after what it is doing."""
        self._worker.close()

    def _forward(self, pieces: list[StepInput]) -> tuple[list[StepOutput | Exception], int]:
        """In the worker: what comes out, and for how long it had no core since the last pass, in nanoseconds.

        Raises what the engine raised, where nothing has come of it for many passes.
        """
        try:
            outputs = self._engine.forward(pieces)
            self._faulty = 0
        except Exception as error:
            outputs = [error] if len(pieces) == 1 else [self._alone(piece) for piece in pieces]
            some = any(isinstance(output, StepOutput) for output in outputs)
            self._faulty = 0 if some else self._faulty + 1
            if self._faulty >= FAULTY_PASSES:
                raise
        before, self._waited_ns = self._waited_ns, self._core_wait_ns()
        return outputs, self._waited_ns - before

    def _alone(self, piece: StepInput) -> StepOutput | Exception:
        try:
            return self._engine.forward([piece])[0]
        except Exception as error:  # noqa: BLE001 - it ends the session that the piece is of
            return error

    async def _sleep(self, hold_us: int) -> None:
        """Until something arrives; where answers are held back, not for longer than that."""
        self._wake.clear()
        if not hold_us:
            await self._wake.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(hold_us / 1e6):
                await self._wake.wait()

    def _hold_us(self) -> int:
        """For how long what waits should wait for more: answers alone, of sessions that begin their round here."""
        answers, prompts = self._scheduler.waiting()
        if prompts or not answers or not all(job.is_first for job in self._jobs.values()):
            return 0
        now = loop_us()
        live = self._scheduler.live(now)
        return self._gathering.hold_us(now, ready=answers, live=live, pass_us=self._pace.step_us)

    def _look(self) -> None:
        """What has changed of the jobs that were poked."""
        poked, self._poked = self._poked, {}
        self._each(poked.values(), self._look_at)

    def _each(self, jobs: Collection[LegJob], look: Callable[[LegJob], None]) -> None:
        for job in jobs:
            try:
                look(job)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is of one session
                self._fail(job, error)

    def _look_at(self, job: LegJob) -> None:
        if rows := job.ready_rows:
            self._jobs[job.session] = job
        else:
            self._jobs.pop(job.session, None)
        if self.make_room is not None:
            self._note_short(job)
        customer = Customer(job.order.session.client, self._known(job.session))
        self._scheduler.ready(job.session, rows, customer, answering=not job.prompt_left)
        if job.ended:
            self._scheduler.end(job.session)

    def _fail(self, job: LegJob, error: Exception) -> None:
        self._jobs.pop(job.session, None)
        self._short.pop(job.session, None)
        self._scheduler.end(job.session)
        self._failed(job, error)

    def _note_short(self, job: LegJob) -> None:
        if job.lacks:
            self._short[job.session] = job
        else:
            self._short.pop(job.session, None)

    def _next_batch(self) -> list[tuple[LegJob, StepInput]]:
        batch: list[tuple[LegJob, StepInput]] = []
        while not batch and (turns := self._scheduler.next_pass(loop_us())):
            for session, rows in turns:
                its_job = self._jobs.get(session)
                piece = None if its_job is None else self._next_piece(its_job, rows)
                if its_job is not None and piece is not None:
                    batch.append((its_job, piece))
                else:  # its rows were taken back, or it is over
                    self._jobs.pop(session, None)
        return batch

    def _next_piece(self, job: LegJob, rows: int) -> StepInput | None:
        try:
            return job.next_piece(rows)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is of one session
            self._fail(job, error)
            return None

    def _note_energy(self, batch: list[tuple[LegJob, StepInput]]) -> None:
        self._energy.record([worked(job, piece) for job, piece in batch])


def worked(job: LegJob, piece: StepInput) -> Worked:
    """What a pass has computed of a job."""
    before = job.plan.prompt - piece.position
    generated = piece.length if before <= 0 else max(0, piece.length - before)
    return Worked(NOBODY if job.ended else job.session, piece.length - generated, generated, len(job.span))


def _nothing() -> None:
    """Nothing is left to be done."""
