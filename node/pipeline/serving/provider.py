"""A node's side of jobs: serves its leg of each, and makes sure that it is paid. `admission` answers the orders.

Trust: a hostile client can cost it the tokens that it serves on credit; a hostile neighbour can end the sessions that
they share. All fields belong to the event loop; engine calls go through `ComputeLoop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial

from node.events import Events, LinkRefused
from node.pipeline.loop_clock import loop_s, loop_us
from node.pipeline.serving.compute import ComputeLoop, Result
from node.pipeline.serving.drafting import Drafting
from node.pipeline.serving.ending import Endings
from node.pipeline.serving.incoming import Incoming
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.limits import ProviderLimits
from node.pipeline.serving.neighbours import Neighbours, Next
from node.pipeline.serving.onward import Onward, sampled_frames
from node.pipeline.serving.outbox import Outbox, why_ended
from node.pipeline.serving.pace import Pace
from node.pipeline.serving.parts import Parts
from node.pipeline.serving.places import Places, Served
from node.pipeline.serving.queueing import Queueing
from node.pipeline.serving.redeem import Redeemer
from node.pipeline.serving.rerouting import Rerouting
from node.pipeline.serving.rooms import Rooms
from node.pipeline.serving.trail import Trails
from node.pipeline.serving.warm import Warm
from node.ports import (
    Allowance,
    Clock,
    Connect,
    Drafter,
    EnergyAccount,
    Link,
    PeerMemory,
    SpanEngine,
    Spawn,
    Worker,
)
from protocol.encoding.text import to_plain_text
from protocol.errors import LostPeerError, PeerError
from protocol.identity.ids import BlockSpan, ModelManifest
from protocol.identity.signing import address_of_public_key
from protocol.policy.policy import LatencyClass
from protocol.reputation.standing import Deed
from protocol.session.frames import Failed, Paused, Replayed, SampledToken
from protocol.session.job import JobEvent, JobState

__all__ = ["Provider"]

_log = logging.getLogger(__name__)

NO_SESSION = bytes(32)
"""What a `Failed` frame names that ends a link, not a session."""
_Passed = tuple[Served, tuple[SampledToken, ...], bytes]
"""A job that was in a pass, the tokens drawn there, and what is said of them."""
LOOK_S = 1.0
"""Seconds between looks at the jobs that stand still."""


class Provider:
    """Serves one span of one model.

    Args:
        memory: what clients did here before, and where their deeds are taken down.
        spawn: who cares for its tasks.
        compute: the worker that the engine belongs to.
        drafter: guesses ahead where this leg is the first; used from the worker `drafting` alone, unless it is instant.
        sketching: the worker that sketches windows, off the tokens' path.
        preparing: the worker that grammars are compiled in, which may take seconds; by default the one that sketches.
        pace: what passes take here.
        core_wait_ns: for how long the thread that calls it has waited for a core in all.
    """

    def __init__(
        self,
        manifest: ModelManifest,
        *,
        engine: SpanEngine,
        energy: EnergyAccount,
        redeemer: Redeemer,
        connect: Connect,
        clock: Clock,
        events: Events,
        limits: ProviderLimits,
        memory: PeerMemory,
        spawn: Spawn,
        compute: Worker,
        sketching: Worker,
        pace: Pace,
        drafter: Drafter | None = None,
        drafting: Worker | None = None,
        preparing: Worker | None = None,
        core_wait_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        self._clock = clock
        self._events = events
        self._workers = [sketching] if preparing is None else [sketching, preparing]
        self._parts = Parts(manifest.hidden_size, loop_s)
        self._places = Places(limits, memory, clock, self._parts, self._failed)
        self._compute = ComputeLoop(
            engine,
            energy,
            self._computed,
            self._failed,
            worker=compute,
            max_rows=limits.max_chunk,
            pace=pace,
            core_wait_ns=core_wait_ns,
            known=self._places.is_known,
        )
        self._neighbours = Neighbours(connect, self._link_lost, spawn)
        self.trails = Trails()
        """Keep what is sent on."""
        warm = Warm(self.trails, loop_s, kept_s=lambda: limits.warm_s)
        self._rooms = Rooms(
            engine, self._compute, warm, self.trails, self._call_back, self._failed, overcommit=limits.overcommit
        )
        self._queueing = Queueing(self._places, self._compute, pace, limits, held=self._rooms.held)
        self._ends = Endings(self._places, redeemer, self._compute, self._rooms, clock, events, spawn)
        self._drafting = Drafting(drafter, drafting, self._compute, self._places, manifest.vocabulary, self._ends.fail)
        self._rerouting = Rerouting(
            manifest,
            self._places,
            self._neighbours,
            self._ends,
            self._compute,
            self._drafting,
            clock,
            self._give_place,
            self._take_back,
            self._stand_still,
        )
        self._incoming = Incoming(
            manifest.hidden_size,
            self._places,
            self._ends,
            self._compute,
            self._rerouting,
            self._drafting,
            sketching,
            preparing or sketching,
            events,
        )

    @property
    def active(self) -> int:
        """Jobs that are being served."""
        return len(self._places)

    @property
    def free(self) -> int:
        """Places that a client without history would find; none while it would be told to come back later."""
        return 0 if self._queueing.busy else self._places.free

    @property
    def room(self) -> int:
        """Positions that a new session could have."""
        return self._rooms.free

    async def run(self) -> None:
        """Compute, and watch over idle jobs, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._compute.run(), name="compute")
            group.create_task(self._drafting.run(), name="drafting")
            group.create_task(self._give_up_still_jobs(), name="still jobs")

    async def stop(self) -> None:
        """End every job, telling its client; free what they held."""
        for served in self._places.all:
            self._ends.fail(served, LostPeerError("the node is shutting down", code="shutdown"))
        await self._ends.wait()
        await self._rooms.close()
        await self._neighbours.close()
        self._compute.close()
        for worker in self._workers:
            worker.close()
        self._drafting.close()

    def shed(self, wanted: Callable[[LatencyClass], bool], reason: str) -> None:
        """End the jobs of latency classes that are not wanted now, telling their clients."""
        for served in self._places.all:
            if not wanted(served.job.order.terms.policy.latency_class):
                self._ends.fail(served, LostPeerError(f"this node holds back: {reason}", code="paused"))

    async def begin(self, job: LegJob, next_leg: Next | None) -> None:
        """Take an admitted job, with its KV and its link to the next leg. Raises RefusedError.

        A standby waits for nothing but its client's call, and holds no place until then.
        """
        client = job.order.session.client
        if job.place is None:
            self._let_wait(job)
            return
        self._places.look(client)
        self._queueing.look(job)
        # Before it has a place: whom its order names may not answer.
        downstream = None if next_leg is None else await self._neighbours.reach(next_leg, client)
        with self._queueing.coming(job), self._places.taken(job) as loser:
            await self._give_place(job, job.span, loser)
            self._places.add(job, downstream, next_leg)

    def _let_wait(self, job: LegJob) -> None:
        loser = self._places.add_standby(job)
        if loser is not None:
            self._ends.fail(loser, LostPeerError("too many sessions have this node as a standby", code="busy"))

    async def _give_place(self, job: LegJob, blocks: BlockSpan, loser: Served | None) -> None:
        """Make room for it, and reserve its KV. Raises RefusedError."""
        if loser is not None:
            await self._make_way(loser)
        await self._rooms.take(job, blocks)

    async def _take_back(self, job: LegJob) -> None:
        await self._compute.with_engine(self._rooms.leave(job))

    async def _make_way(self, loser: Served) -> None:
        error = LostPeerError("its place went to another job, since it stood still", code="idle")
        if loser.job.waits_for.is_on_client:
            self._places.note(loser, Deed.LAPSED, 0, error.message)
        ending = self._ends.fail(loser, error)
        if ending is not None:
            await asyncio.wait([ending])

    # Links

    def allowance(self, public_key: bytes) -> Allowance:
        """What the peer with this key may send on a link."""
        return self._parts.allowance(public_key)

    async def on_link(self, link: Link) -> None:
        """Serve an incoming link until it ends."""
        outbox = Outbox(link)
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(outbox.run(), name="outbox")
                try:
                    await self._read(outbox)
                except LostPeerError as error:
                    self._link_lost(outbox, error)
                except PeerError as error:
                    await self._hang_up(outbox, error)
                except Exception:  # noqa: BLE001 - of one link
                    _log.exception("a link has ended by a fault of this program")
                    await self._hang_up(outbox, LostPeerError("a fault of this node's program", code="internal"))
                sending.cancel()
        except* Exception as errors:  # noqa: BLE001 - of one link
            self._link_lost(outbox, why_ended(errors))
        finally:
            await link.close()

    async def _read(self, outbox: Outbox) -> None:
        while True:
            header, payload = await outbox.link.receive()
            await self._incoming.take(outbox, header, payload)

    async def _hang_up(self, outbox: Outbox, error: PeerError) -> None:
        """The peer sends what nobody in its place may send: say so, and end its link."""
        peer = address_of_public_key(outbox.link.public_key)
        self._events(LinkRefused(peer=peer, code=error.code, reason=error.message))
        self._link_lost(outbox, error)
        with contextlib.suppress(LostPeerError):
            outbox.post(Failed(session=NO_SESSION, leg=0, code=error.code, reason=to_plain_text(error.message, 512)))
            await outbox.flush()

    def _link_lost(self, outbox: Outbox, error: PeerError) -> None:
        """End the jobs that went over a link, and no others that its peer has a part in."""
        for served in self._places.all:
            if served.client is outbox:
                served.client = None
                gone = LostPeerError("the client went away", code="client-gone")
                lapsed = served.job.waits_for.is_on_client and not served.stands_by
                self._ends.fail(served, gone, blame=Deed.LAPSED if lapsed else Deed.DEFAULTED)
            elif outbox in (served.upstream, served.downstream):
                self._pause(served, outbox, LostPeerError(f"lost a neighbour on the route: {error.message}"))

    def _pause(self, served: Served, outbox: Outbox, error: PeerError) -> None:
        """Stand still until the client says how it goes on: whoever holds the rest of the answer loses nothing."""
        if served.downstream is outbox:
            served.downstream = None
        if served.upstream is outbox:
            served.upstream = None
        job = served.job
        if job.state is JobState.SERVING:
            self._stand_still(served, LostPeerError(error.message, code="neighbour-lost"))
        elif job.state is JobState.ACCEPTED and job.place is not None:
            self._ends.fail(served, LostPeerError(error.message, code="neighbour-lost"))

    def _stand_still(self, served: Served, error: PeerError) -> None:
        job = served.job
        job.advance(JobEvent.PAUSE)
        served.moved_s = loop_s()
        self._tell_paused(served, error)

    def _tell_paused(self, served: Served, error: PeerError) -> None:
        job, reason = served.job, to_plain_text(error.message, 512)
        with contextlib.suppress(LostPeerError):  # its reader tells of a client that is gone
            served.post(Paused(session=job.session, leg=job.leg, code=error.code, reason=reason))

    def _call_back(self, job: LegJob) -> None:
        """There is room again for a job that was set aside: its client names the route anew, and it is fed again."""
        served = self._places.get(job.session)
        if served is not None:
            served.moved_s = loop_s()
            self._tell_paused(served, LostPeerError("its attention cache had made room", code="set-aside"))

    # Results

    def _failed(self, job: LegJob, error: Exception) -> None:
        served = self._places.get(job.session)
        if served is not None:
            self._ends.fail(served, error)

    def _computed(self, results: list[Result]) -> Callable[[], None]:
        """What other legs wait for goes out at once; the rest, for clients and their receipts, can wait for a pass."""
        onward, now_us = Onward(), loop_us()
        done: list[_Passed] = []
        for job, piece, output in results:
            served = self._places.get(job.session)
            if served is None:
                continue
            try:
                if isinstance(output, Exception):
                    raise output
                passed = job.complete(piece, output, now_us=now_us)
                tokens = () if passed is None else onward.add(served, passed)
                done.append((served, tokens, b"" if passed is None else b"".join(passed.said)))
                if job.is_first:
                    for token in tokens[:-1] if job.ended else tokens:
                        self._drafting.take(served, token.position, token.token)
                    self._drafting.go_on(served)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is of one session
                self._ends.fail(served, error)
        for outbox, frame, payload in onward.frames():
            try:
                outbox.post(frame, payload)
            except LostPeerError as error:
                self._link_lost(outbox, error)
        return partial(self._tell, done)

    def _tell(self, done: list[_Passed]) -> None:
        """Clients hear of their tokens, and have the receipts that are due."""
        now = loop_s()
        for served, tokens, said in done:
            if self._places.get(served.job.session) is not served:
                continue  # it has ended with the link to its next leg
            served.moved_s = now
            try:
                self._tell_client(served, tokens, said)
            except Exception as error:  # noqa: BLE001 - as above
                self._ends.fail(served, error)

    def _tell_client(self, served: Served, tokens: tuple[SampledToken, ...], said: bytes) -> None:
        job = served.job
        if tokens:
            for sampled, beside in sampled_frames(tokens, said):
                served.post(sampled, beside)
        if (fed := job.fed) is not None:
            served.post(Replayed(session=job.session, leg=job.leg, fed=fed))
        if served.post_receipts():
            self._compute.poke(job)  # rows may have waited for the receipt

    # Ends

    async def _give_up_still_jobs(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for served in self._places.all:
                if served.job.order.session.expiry <= self._clock():
                    self._ends.fail(served, LostPeerError("the session has expired", code="expired"))
            for served, waits in self._places.lapsed(LOOK_S):
                blame = Deed.LAPSED if waits.is_on_client else None
                still = LostPeerError("nothing that was paid for came of it for too long", code="idle")
                self._ends.fail(served, still, blame=blame)
            self._neighbours.drop_idle(self._in_use())
            await self._rooms.lapse()
            self._drafting.forget_ended()

    def _in_use(self) -> set[Outbox]:
        return {served.downstream for served in self._places if served.downstream is not None}
