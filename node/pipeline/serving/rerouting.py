"""How a job goes on by another route: its leg is told by the client, reaches its new neighbour, and sends again.

Trust: only the client's signed reroute changes a route, and only from the end of a window that this leg has signed for.
A standby that is called takes a place then, by the same rules as any other job, and may find none.
docs/spec/session.md, clauses H2 to H7.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import numpy as np

from node.pipeline.loop_clock import loop_us
from node.pipeline.serving.compute import ComputeLoop
from node.pipeline.serving.drafting import Drafting
from node.pipeline.serving.ending import Endings
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.neighbours import Neighbours, Next
from node.pipeline.serving.onward import Onward, item_of
from node.pipeline.serving.outbox import Outbox
from node.pipeline.serving.places import Places, Served
from node.pipeline.serving.rows import Known
from node.ports import Clock
from protocol.errors import DishonestError, LostPeerError, MalformedError, PeerError, RefusedError
from protocol.identity.ids import BlockSpan, ModelManifest, keccak256
from protocol.reputation.standing import Deed
from protocol.session.frames import MAX_KNOWN_TOKENS, Rerouted
from protocol.session.job import JobState
from protocol.session.logprobs import said_bytes
from protocol.session.order import check_offer_of
from protocol.session.terms import LegTerms, Reroute, open_reroutes, route_at

__all__ = ["Rerouting"]

GivePlace = Callable[[LegJob, BlockSpan, Served | None], Awaitable[None]]
"""Reserve what a job through these blocks needs, with the job that gives way to it. Raises RefusedError."""


class Rerouting:
    """Takes reroutes from clients, one session's after the other."""

    def __init__(
        self,
        manifest: ModelManifest,
        places: Places,
        neighbours: Neighbours,
        ends: Endings,
        compute: ComputeLoop,
        drafting: Drafting,
        clock: Clock,
        give_place: GivePlace,
        close: Callable[[LegJob], Awaitable[None]],
        stand_still: Callable[[Served, PeerError], None],
    ) -> None:
        self._manifest = manifest
        self._places = places
        self._neighbours = neighbours
        self._ends = ends
        self._compute = compute
        self._drafting = drafting
        self._clock = clock
        self._give_place = give_place
        self._close = close
        self._stand_still = stand_still
        self._under_way: set[bytes] = set()
        """Sessions."""

    async def take(self, served: Served, frame: Rerouted, payload: bytes) -> None:
        """The client's word: what is wrong with it ends the session."""
        session = served.job.session
        try:
            if session in self._under_way:  # its client has another link, and does not wait
                raise MalformedError("a reroute before the one before it was taken up", code="out-of-order")
            self._under_way.add(session)
            try:
                await self._take(served, frame, payload)
            finally:
                self._under_way.discard(session)
        except (RefusedError, LostPeerError) as error:
            self._ends.fail(served, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is of one session
            self._ends.fail(served, error, blame=Deed.DEFAULTED)

    async def _take(self, served: Served, frame: Rerouted, payload: bytes) -> None:
        job, client = served.job, served.job.order.session.client
        reroutes = self._checked(job, frame)
        route = route_at(job.terms, reroutes, reroutes[-1].position)
        place = next((at for at, each in enumerate(route) if each.leg == job.leg), None)
        if place is None:
            raise RefusedError("this leg has no part in the new route", code="not-mine")
        known = _known(payload, said_bytes(job.terms.sampling.logprobs) if place == len(route) - 1 else 0)
        if job.place is None:
            self._places.look(client)
        after = job.terms.legs[route[(place + 1) % len(route)].leg]
        next_leg = None if len(route) == 1 else self._next_leg(job, after, frame, served.next_leg)
        # Before it has a place: whom its client names may not answer.
        downstream, lost = await self._reach(job, next_leg)
        change = partial(job.reroute, reroutes, frame.joining, known)
        if job.place is not None:
            if not self._goes_on(job):
                return  # it ended meanwhile
            self._places.reroute(served, change)
        elif not await self._join(served, route[place].span, change):
            return
        served.next_leg, served.downstream = next_leg, downstream
        if served.upstream is not None and served.upstream.link.public_key != job.key_at((job.place or 0) - 1):
            served.upstream = None  # how that one ends is no matter any more
        self._drafting.begin_anew(job, frame.joining.base, known.tokens)
        if lost is None:
            self.go_on(served)
        else:
            self._stand_still(served, lost)

    def _checked(self, job: LegJob, frame: Rerouted) -> tuple[Reroute, ...]:
        """All reroutes of the session, of which the last one is new. Raises PeerError."""
        if not self._goes_on(job):
            raise MalformedError("a reroute before its client has attached, or after the end", code="out-of-order")
        reroutes = open_reroutes(frame.sealed, job.terms, job.order.session, blocks=self._manifest.blocks)
        if reroutes[: len(job.reroutes)] != job.reroutes:
            raise DishonestError("the client signs other reroutes than it did before")
        if len(reroutes) <= len(job.reroutes):
            raise MalformedError("not the session's next reroute", code="out-of-order")
        return reroutes

    def _goes_on(self, job: LegJob) -> bool:
        return self._places.get(job.session) is not None and job.state in (JobState.SERVING, JobState.PAUSED)

    async def _reach(self, job: LegJob, next_leg: Next | None) -> tuple[Outbox | None, RefusedError | None]:
        """The way to the next leg, or why there is none. Raises RefusedError where the leg has nothing to lose."""
        if next_leg is None:
            return None, None
        try:
            return await self._neighbours.reach(next_leg, job.order.session.client), None
        except RefusedError as error:
            if job.place is None:
                raise
            return None, error  # what it holds is worth something to a route on which it has another neighbour

    async def _join(self, served: Served, blocks: BlockSpan, change: Callable[[], None]) -> bool:
        """A standby is called: it takes a place and KV. False where its job ended meanwhile. Raises RefusedError."""
        job = served.job
        with self._places.taken(job) as loser:
            await self._give_place(job, blocks, loser)
            if not self._goes_on(job):  # what it held was freed before it had this
                await self._close(job)
                return False
            self._places.reroute(served, change)
        return True

    def _next_leg(self, job: LegJob, leg: LegTerms, frame: Rerouted, before: Next | None) -> Next:
        """Where the leg after this one on the new route is dialled. Raises PeerError."""
        if before is not None and before.public_key == leg.public_key:
            return before
        if keccak256(frame.next_offer) != leg.offer:
            raise RefusedError("the next leg's offer is not the one in the terms", code="next-unreachable")
        offer = check_offer_of(leg, frame.next_offer, job.terms, now=self._clock())
        return Next(leg.public_key, offer.data_addresses)

    def go_on(self, served: Served) -> None:
        """Send again what the next leg lacks, and take in what came early."""
        job = served.job
        if served.downstream is not None:
            try:
                post_replay(job, served.downstream)
            except LostPeerError as error:
                self._stand_still(served, RefusedError(error.message, code="next-unreachable"))
        job.feed_known(loop_us())
        early, served.early, served.early_bytes = served.early, [], 0
        for take in early:
            take()
        self._compute.poke(job)


def post_replay(job: LegJob, downstream: Outbox) -> None:
    """Send the next leg what it needs of what was sent before. Raises RefusedError: it is not kept any more."""
    onward = Onward()
    for passed in job.replay():
        onward.rows[downstream, job.terms.activations].append((item_of(job, passed), passed.rows))
        for outbox, frame, payload in onward.frames():
            outbox.post(frame, payload)
        onward.rows.clear()


def _known(payload: bytes, size: int) -> Known:
    """The tokens that stand, with what was said of them in so many bytes each."""
    count, rest = divmod(len(payload), 4 + size)
    if rest or count > MAX_KNOWN_TOKENS:
        raise MalformedError("the tokens that stand are no token ids, or too many")
    ids = np.frombuffer(payload[: 4 * count], dtype="<u4").tolist()
    return Known(tuple(ids), tuple(payload[at : at + size] for at in range(4 * count, len(payload), size or 1)))
