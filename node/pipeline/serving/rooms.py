"""The KV of jobs: reserved for a whole job when it begins, kept warm when it is over as long as nobody needs it.

A job that continues another session of the same client goes on with what this one left: with its pages; or, where it
begins alike and goes on otherwise, with a copy if there is room, so that others can begin alike, too. All decisions
belong to the event loop; the engine is called through `ComputeLoop`, in the order in which they were made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from node.pipeline.serving.compute import ComputeLoop
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.trail import Trail, Trails
from node.pipeline.serving.warm import Ended, Origin, Warm
from node.ports import Cut, SpanEngine
from protocol.errors import MalformedError, RefusedError
from protocol.identity.ids import Address, BlockSpan

__all__ = ["Rooms"]

MOST_ORIGINS = 3
"""Sessions, one continuing the other, under whose names what is left of the last one is found, too."""


class Rooms:
    """Opens and closes sessions in the engine."""

    def __init__(self, engine: SpanEngine, compute: ComputeLoop, warm: Warm, trails: Trails) -> None:
        self._engine = engine
        self._trails = trails
        self._compute = compute
        self._warm = warm

    @property
    def free(self) -> int:
        """Positions that a new session could have: those of sessions that are kept warm are anybody's."""
        return self._engine.kv_free + self._warm.room

    async def take(self, job: LegJob, blocks: BlockSpan) -> None:
        """Reserve what a job's whole plan needs, and give it what its leg still holds of its sequence.

        Raises RefusedError where there is no room, even in place of all that are kept warm.
        """
        ended, copies = self._earlier(job)
        missing = _room_of(job) - self._engine.kv_free - (0 if ended is None or copies else ended.room)
        leaving = self._warm.make_room(missing)
        trail = None if ended is None or ended.trail is None or not copies else self._copied(ended.trail, job)
        try:
            held = await self._compute.with_engine(partial(self._reserve, job, blocks, ended, leaving, copies))
        except RefusedError:
            if trail is not None:
                trail.end()
            if ended is not None and not copies:
                await self._close(self._warm.keep(ended))
            raise
        job.origins = _origins(job, ended)
        if ended is not None:
            job.take_over(_trail_of(job, replace(ended, trail=trail) if copies else ended), held)

    def leave(self, job: LegJob) -> Callable[[], None]:
        """A job is over: what the engine has to be called with. From now on its client may go on from there."""
        if job.is_last or job.place is None or not job.held:
            job.trail.end()
        if job.place is None or not job.held:
            return partial(self._engine.close, job.session)
        ended = _left_by(job)
        return partial(self._trim, ended, self._warm.keep(ended))

    async def close(self) -> None:
        """Keep nothing any more."""
        await self._close(self._warm.make_room(self._warm.room))

    async def lapse(self) -> None:
        """Close the sessions that were kept warm for long enough."""
        await self._close(self._warm.lapsed())

    def held(self, job: LegJob) -> int:
        """Positions of a job that is about to begin which are here already."""
        continues = job.terms.continues
        if continues is None or job.place is None:
            return 0
        found = self._warm.find(continues.session, Address(job.order.session.client), job.span)
        return 0 if found is None else min(found.shared_with(continues.session), continues.positions)

    def _earlier(self, job: LegJob) -> tuple[Ended | None, bool]:
        """What is left here of the session that a job continues, and whether it stays. A standby has said: nothing."""
        continues = job.terms.continues
        if continues is None or job.place is None:
            return None, False
        name, client = continues.session, Address(job.order.session.client)
        found = self._warm.find(name, client, job.span)
        if found is None:
            return None, False
        if self.held(job) < found.length and _room_of(job) <= self._engine.kv_free:
            return found, True
        return self._warm.take(name, client, job.span), False

    def _copied(self, trail: Trail, job: LegJob) -> Trail:
        return self._trails.copy(trail, 0 if job.terms.continues is None else job.terms.continues.positions)

    def _reserve(
        self, job: LegJob, blocks: BlockSpan, ended: Ended | None, leaving: Sequence[bytes], copies: bool
    ) -> int:
        """In the engine's worker: positions that the job has from the beginning."""
        for session in leaving:
            self._engine.close(session)
        sampling = job.terms.sampling
        opening = partial(
            self._engine.open if ended is None else partial(self._engine.adopt, ended.session),
            job.session,
            max_tokens=_room_of(job),
            temperature_milli=sampling.temperature_milli,
            seed=sampling.seed,
            cut=Cut(sampling.top_p_ppm, sampling.top_k),
            blocks=blocks,
        )
        if ended is None or job.terms.continues is None:
            opening()
            return 0
        shared = ended.shared_with(job.terms.continues.session)
        held = min(self._engine.length(ended.session), shared, job.terms.continues.positions)
        opening(length=held, keep=copies)
        return held

    def _trim(self, ended: Ended, leaving: Sequence[bytes]) -> None:
        with contextlib.suppress(MalformedError):  # others have its pages by now, or it goes on already
            self._engine.trim(ended.session, min(self._engine.length(ended.session), ended.length))
        for session in leaving:
            self._engine.close(session)

    async def _close(self, sessions: Sequence[bytes]) -> None:
        for session in sessions:
            await self._compute.with_engine(partial(self._engine.close, session))


def _room_of(job: LegJob) -> int:
    """Positions that its whole plan needs."""
    return job.plan.prompt + job.plan.most


def _left_by(job: LegJob) -> Ended:
    return Ended(
        session=job.session,
        origins=job.origins,
        client=Address(job.order.session.client),
        blocks=job.span,
        length=job.held,
        room=job.held,
        activations=job.terms.activations,
        trail=None if job.is_last else job.trail,
    )


def _origins(job: LegJob, ended: Ended | None) -> tuple[Origin, ...]:
    """The sessions under whose names this job's client may look for what is left of it one day."""
    continues = job.terms.continues
    if continues is None:
        return ()
    named, shared = Origin(continues.session, continues.positions), continues.positions
    if ended is None:
        return (named,)
    shared = min(shared, ended.shared_with(continues.session))
    others = (Origin(ended.session, ended.length), *ended.origins)
    rest = [Origin(each.session, min(each.positions, shared)) for each in others if each.session != named.session]
    return (named, *rest[: MOST_ORIGINS - 1])


def _trail_of(job: LegJob, ended: Ended) -> Trail:
    """The one that a job goes on with: its own, which is empty, where the rows of the other are in another form."""
    if ended.trail is None or ended.activations is not job.terms.activations:
        if ended.trail is not None:
            ended.trail.end()
        return job.trail
    job.trail.end()
    return ended.trail
