"""The KV of jobs: reserved for a whole job when it begins, or by and by where more is promised than there is
(`pages`), and kept warm when it is over as long as nobody needs it.

A job that continues another session of the same client goes on with what this one left: with its pages; or, where it
begins alike and goes on otherwise, with a copy if there is room, so that others can begin alike, too. All decisions
belong to the event loop; the engine is called through `ComputeLoop`, in the order in which they were made.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial

from node.pipeline.serving.compute import ComputeLoop
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.pages import EVERYTHING, Pages, room_of, set_aside
from node.pipeline.serving.trail import Trail, Trails
from node.pipeline.serving.warm import Ended, Origin, Warm
from node.ports import SpanEngine
from protocol.errors import MalformedError, PeerError, RefusedError
from protocol.identity.ids import Address, BlockSpan

__all__ = ["Rooms"]

_log = logging.getLogger(__name__)

MOST_ORIGINS = 3
"""Sessions, one continuing the other, under whose names what is left of the last one is found, too."""


class Rooms:
    """Opens and closes sessions in the engine.

    Args:
        call_back: tells the client of a job that was set aside that there is room for it again.
        failed: called with a job that could be given no pages, or could not give them up, by a fault of this program.
        overcommit: positions that may be promised, in percent of those that there are.
    """

    def __init__(
        self,
        engine: SpanEngine,
        compute: ComputeLoop,
        warm: Warm,
        trails: Trails,
        call_back: Callable[[LegJob], None],
        failed: Callable[[LegJob, Exception], None],
        *,
        overcommit: int = EVERYTHING,
    ) -> None:
        self._engine = engine
        self._trails = trails
        self._compute = compute
        self._warm = warm
        self._call_back = call_back
        self._failed = failed
        self._pages = Pages(overcommit)
        if self._pages.on_demand:
            compute.make_room = self._hand_out

    @property
    def free(self) -> int:
        """Positions that a new session could have, and that are there: those of sessions that are kept warm are
        anybody's. None while a job waits for pages.
        """
        free = self._engine.kv_free + self._warm.room
        if not self._pages.on_demand:
            return free
        left = self._pages.left(self._engine.kv_capacity)
        return 0 if self._pages.pressed else max(0, min(free - self._pages.awaited, left))

    async def take(self, job: LegJob, blocks: BlockSpan) -> None:
        """Reserve what a job's whole plan needs, or its beginning, and give it what is left here of its sequence.

        Raises RefusedError where there is no room for all of it, even in place of all that are kept warm.
        """
        if self._pages.on_demand and room_of(job) > self.free:
            raise RefusedError(f"room for {self.free} more positions, {room_of(job)} asked for", code="no-room")
        first = self._pages.first_of(job)
        ended, copies = self._earlier(job)
        missing = first - self._engine.kv_free - (0 if ended is None or copies else ended.room)
        self._pages.begin(job, first)
        leaving = self._warm.make_room(missing)
        trail = None if ended is None or ended.trail is None or not copies else self._copied(ended.trail, job)
        try:
            held = await self._compute.with_engine(partial(self._reserve, job, blocks, ended, leaving, copies))
        except BaseException as error:
            self._pages.end(job)
            if not isinstance(error, RefusedError):
                raise
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
        self._pages.end(job)
        if job.is_last or job.place is None or not job.held:
            job.trail.end()
        if job.place is None or not job.held:
            return partial(self._engine.close, job.session)
        ended = _left_by(job)
        return partial(self._trim, ended, self._warm.keep(ended))

    async def _hand_out(self, short: Collection[LegJob]) -> None:
        """Between passes: give pages to the jobs that lack some, in their order, and call back who was set aside."""
        for job in self._pages.in_order(short):
            try:
                if await self._grow(job):
                    self._pages.has_enough(job)
                    self._compute.poke(job)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is of one session
                self._failed(job, error)
        if not any(job in self._pages and job.lacks for job in short):
            for job in self._pages.back(self._engine.kv_free + self._warm.room):
                job.kv.aside = False
                self._call_back(job)

    async def _grow(self, job: LegJob) -> bool:
        """Whether it has enough now: others that come after it give theirs up, first those that are over."""
        while job in self._pages and (lacks := job.lacks):
            part = self._pages.part(job, lacks)
            try:
                await self._compute.making_room(partial(self._engine.grow, job.session, part))
                job.kv.paged = part
            except RefusedError:
                if not await self._take_from_another(job, part - job.kv.paged):
                    return False
            except PeerError:  # it ended meanwhile
                return False
        return True

    async def _take_from_another(self, job: LegJob, missing: int) -> bool:
        """Whether anybody had pages that could be freed for it."""
        leaving = self._warm.make_room(min(missing, self._warm.room))
        for session in leaving:
            with _of_what_is_over():
                await self._compute.making_room(partial(self._engine.close, session))
        if leaving:
            return True
        last = self._pages.last_after(job)
        if last is None:
            return False
        try:
            set_aside(last)
            self._compute.poke(last)
            await self._compute.making_room(partial(self._engine.empty, last.session))
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(last, error)  # and its pages are free in a moment
            return False
        return True

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
        if self.held(job) < found.length and room_of(job) <= self._engine.kv_free:
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
        opening = partial(
            self._engine.open if ended is None else partial(self._engine.adopt, ended.session),
            job.session,
            max_tokens=room_of(job),
            first=job.kv.paged,
            sampling=job.terms.sampling,
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
            with _of_what_is_over():
                await self._compute.with_engine(partial(self._engine.close, session))


@contextlib.contextmanager
def _of_what_is_over() -> Iterator[None]:
    """What fails within is of a session that is over, and of nobody else's."""
    try:
        yield
    except Exception:  # noqa: BLE001 - as above
        _log.exception("what a session held could not be freed, by a fault of this program")


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
