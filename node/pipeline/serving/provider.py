"""A node's side of jobs: serves its leg of each, and makes sure that it is paid. `admission` answers the orders.

Trust: a hostile client can cost it the tokens that it serves on credit; a hostile neighbour can end the sessions that
they share. All fields belong to the event loop; engine calls go through `ComputeLoop`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

import numpy as np

from node.events import DiskRefused, Events, LinkRefused
from node.pipeline.loop_clock import loop_s, loop_us
from node.pipeline.serving.compute import ComputeLoop
from node.pipeline.serving.ending import Endings
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.limits import ProviderLimits
from node.pipeline.serving.neighbours import Neighbours, Next
from node.pipeline.serving.onward import Onward
from node.pipeline.serving.outbox import Outbox
from node.pipeline.serving.parts import Parts
from node.pipeline.serving.places import Places, Served
from node.pipeline.serving.redeem import Redeemer
from node.ports import (
    Activations,
    Allowance,
    Clock,
    Connect,
    EnergyAccount,
    Link,
    PeerMemory,
    SpanEngine,
    Spawn,
    StepInput,
    StepOutput,
    Worker,
)
from protocol.activations import FORMATS, from_wire
from protocol.codec import Message, decode
from protocol.errors import LocalError, LostPeerError, MalformedError, PeerError, RefusedError
from protocol.frames import (
    CLIENT_FRAMES,
    PEER_FRAMES,
    Attach,
    Draw,
    Failed,
    Finish,
    Prompt,
    Sampled,
    SampledToken,
    Step,
    StepItem,
)
from protocol.ids import ModelManifest
from protocol.job import JobEvent, JobState
from protocol.messages import SignedVoucher
from protocol.places import Waits
from protocol.signing import address_of_public_key
from protocol.standing import Deed
from protocol.text import to_plain_text

__all__ = ["Provider"]

NO_SESSION = bytes(32)
"""What a `Failed` frame names that ends a link, not a session."""


LOOK_S = 1.0
"""Seconds between looks at the jobs that stand still."""


class Provider:
    """Serves one span of one model.

    Args:
        memory: what clients did here before, and where their deeds are taken down.
        spawn: who cares for its tasks.
        compute: the worker that the engine belongs to.
        sketching: the worker that sketches windows, off the tokens' path.
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
    ) -> None:
        self._manifest = manifest
        self._engine = engine
        self._clock = clock
        self._events = events
        self._sketching = sketching
        self._compute = ComputeLoop(engine, energy, self._computed, worker=compute, max_rows=limits.max_chunk)
        self._neighbours = Neighbours(connect, self._link_lost, spawn)
        self._parts = Parts(manifest.hidden_size, loop_s)
        self._places = Places(limits, memory, clock, self._parts)
        self._ends = Endings(self._places, redeemer, self._compute, engine, clock, events, spawn)

    @property
    def active(self) -> int:
        """Jobs that are being served."""
        return len(self._places)

    @property
    def free(self) -> int:
        """Places that a client without history would find."""
        return self._places.free

    async def run(self) -> None:
        """Compute, and watch over idle jobs, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._compute.run(), name="compute")
            group.create_task(self._give_up_still_jobs(), name="still jobs")

    async def stop(self) -> None:
        """End every job, telling its client; free what they held."""
        for served in self._places:
            self._ends.fail(served, LostPeerError("the node is shutting down", code="shutdown"))
        await self._ends.wait()
        await self._neighbours.close()
        self._compute.close()
        self._sketching.close()

    async def begin(self, job: LegJob, next_leg: Next | None) -> None:
        """Take an admitted job, with its KV and its link to the next leg. Raises RefusedError."""
        client = job.order.session.client
        self._places.look(client)
        # Before it has a place: whom its order names may not answer.
        downstream = None if next_leg is None else await self._neighbours.reach(next_leg, client)
        with self._places.taken(job) as loser:
            if loser is not None:
                await self._make_way(loser)
            sampling, plan = job.terms.sampling, job.plan
            await self._compute.with_engine(
                partial(
                    self._engine.open,
                    job.session,
                    max_tokens=plan.prompt + plan.most,
                    temperature_milli=sampling.temperature_milli,
                    seed=sampling.seed,
                    blocks=job.terms.legs[job.leg].span,
                )
            )
            self._places.add(job, downstream)

    async def _make_way(self, loser: Served) -> None:
        error = LostPeerError("its place went to another job, since it stood still", code="idle")
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
                sending.cancel()
        except* PeerError as errors:
            self._link_lost(outbox, _first_peer_error(errors))
        finally:
            await link.close()

    async def _read(self, outbox: Outbox) -> None:
        while True:
            header, payload = await outbox.link.receive()
            await self._on_frame(outbox, header, payload)

    async def _hang_up(self, outbox: Outbox, error: PeerError) -> None:
        """The peer sends what nobody in its place may send: say so, and end its link."""
        peer = address_of_public_key(outbox.link.public_key)
        self._events(LinkRefused(peer=peer, code=error.code, reason=error.message))
        self._link_lost(outbox, error)
        with contextlib.suppress(LostPeerError):
            outbox.post(Failed(session=NO_SESSION, leg=0, code=error.code, reason=to_plain_text(error.message, 512)))
            await outbox.flush()

    async def _on_frame(self, outbox: Outbox, header: bytes, payload: bytes) -> None:
        frame: Message = decode(header, *CLIENT_FRAMES, *PEER_FRAMES)
        match frame:
            case Step():
                self._on_step(outbox, frame, payload)
            case Sampled():
                for token in frame.tokens:
                    self._guarded(token.session, outbox, Sampled, partial(self._on_sampled, outbox, token))
            case SignedVoucher():
                await self._on_voucher(outbox, frame)
            case Draw():
                await self._on_draw(outbox, frame)
            case Attach() | Prompt() | Finish():
                handle = partial(self._on_client_frame, outbox, frame, payload)
                self._guarded(frame.session, outbox, type(frame), handle)

    def _guarded(self, session: bytes, outbox: Outbox, kind: type[Message], handle: Callable[[Served], None]) -> None:
        """Handle one session's frame; what is wrong with it ends that session alone. A late frame is ignored."""
        served = self._served_for(session, outbox, kind)
        if served is None:
            return
        try:
            handle(served)
        except PeerError as error:
            self._ends.fail(served, error, blame=Deed.DEFAULTED if kind in CLIENT_FRAMES else None)

    def _served_for(self, session: bytes, outbox: Outbox, kind: type[Message]) -> Served | None:
        """The job that a frame is for, None for one that has ended.

        Raises RefusedError for a sender without that part in the session: session ids are public, so what such a peer
        sends must not touch the job.
        """
        served = self._places.get(session)
        if served is None:
            return None
        if not served.job.may_send(kind, outbox.link.public_key):
            raise RefusedError("this frame is for others in this session to send", code="not-party")
        return served

    def _on_client_frame(self, outbox: Outbox, frame: Message, payload: bytes, served: Served) -> None:
        job = served.job
        match frame:
            case Attach():
                job.advance(JobEvent.ATTACH)
                served.client = outbox
                self._places.got_on(served)
                self._compute.poke(job)
            case Prompt():
                if not job.is_first:
                    raise MalformedError("prompt tokens go to the first leg")
                if len(payload) != 4 * frame.length or frame.position + frame.length > job.plan.prompt:
                    raise MalformedError("the prompt's length does not match its header or the order")
                job.arrive(frame.position, tuple(np.frombuffer(payload, dtype="<u4").tolist()), now_us=loop_us())
                self._compute.poke(job)
            case Finish():
                job.finish(frame.tokens_out)
                self._places.got_on(served)
                self._post_receipts(served)

    async def _on_voucher(self, outbox: Outbox, signed: SignedVoucher) -> None:
        served = self._served_for(signed.voucher.session, outbox, SignedVoucher)
        if served is None:
            return
        job = served.job
        try:
            async with served.paying:
                # On disk before it counts: from here on a crash leaves the promise with us.
                await self._ends.keep(served, job.check_voucher(signed))
                if self._places.get(job.session) is None:
                    return
                job.claim.count(signed)
                if job.state is JobState.FINISHED:
                    await self._ends.serve_out(served)
                else:
                    self._places.paid_on(served)
                    self._compute.poke(job)
        except PeerError as error:
            self._ends.fail(served, error, blame=Deed.DEFAULTED)
        except LocalError as error:
            self._events(DiskRefused(reason=error.message))
            self._ends.fail(served, RefusedError("this node cannot keep a voucher safe now"))

    async def _on_draw(self, outbox: Outbox, draw: Draw) -> None:
        served = self._served_for(draw.session, outbox, Draw)
        if served is None:
            return
        try:
            sketching = served.job.take_draw(draw)
            served.job.show(await self._sketching.run(sketching.run))
            self._post_receipts(served)
            self._compute.poke(served.job)
        except PeerError as error:
            self._ends.fail(served, error, blame=Deed.DEFAULTED)

    def _on_step(self, outbox: Outbox, step: Step, payload: bytes) -> None:
        width = self._manifest.hidden_size
        if len(payload) != FORMATS[step.activations].item_bytes * width * sum(item.length for item in step.items):
            raise MalformedError("a step's payload does not match its items")
        rows = from_wire(step.activations, payload, width)
        at = 0
        for item in step.items:
            piece = rows[at : at + item.length]
            at += item.length
            self._guarded(item.session, outbox, Step, partial(self._on_rows, outbox, step, item, piece))

    def _on_rows(self, outbox: Outbox, step: Step, item: StepItem, rows: Activations, served: Served) -> None:
        if step.activations is not served.job.terms.activations:
            raise MalformedError(f"rows in {step.activations} where {served.job.terms.activations} was agreed")
        served.upstream = outbox
        served.job.arrive(item.position, rows, now_us=loop_us())
        self._compute.poke(served.job)

    def _on_sampled(self, outbox: Outbox, token: SampledToken, served: Served) -> None:
        served.upstream = outbox
        served.job.arrive(token.position, (token.token,), now_us=loop_us())
        self._compute.poke(served.job)

    def _link_lost(self, outbox: Outbox, error: PeerError) -> None:
        """End the jobs that went over a link, and no others that its peer has a part in."""
        for served in self._places:
            if served.client is outbox:
                served.client = None
                gone = LostPeerError("the client went away", code="client-gone")
                self._ends.fail(served, gone, blame=Deed.DEFAULTED)
            elif outbox in (served.upstream, served.downstream):
                reason = f"lost a neighbour on the route: {error.message}"
                self._ends.fail(served, LostPeerError(reason, code="neighbour-lost"))

    # Results

    def _computed(self, results: list[tuple[LegJob, StepInput, StepOutput | Exception]]) -> None:
        onward = Onward()
        for job, piece, output in results:
            served = self._places.get(job.session)
            if served is None:
                continue
            try:
                if isinstance(output, Exception):
                    raise output
                self._book(served, piece, output, onward)
            except PeerError as error:
                self._ends.fail(served, error)
        for outbox, frame, payload in onward.frames():
            try:
                outbox.post(frame, payload)
            except LostPeerError as error:
                self._link_lost(outbox, error)

    def _book(self, served: Served, piece: StepInput, output: StepOutput, onward: Onward) -> None:
        job = served.job
        served.moved_s = loop_s()
        raw = job.complete(piece, output, now_us=loop_us())
        if not job.is_last and served.downstream is not None:
            item = StepItem(session=job.session, position=piece.position, length=piece.length)
            onward.rows[served.downstream, job.terms.activations].append((item, raw))
        for at, drawn in enumerate(output.tokens, job.processed - len(output.tokens) + 1):
            token = SampledToken(session=job.session, position=at, token=drawn)
            self._to_client(served, Sampled(tokens=(token,)))
            if not job.ended and job.is_first:
                job.arrive(at, (drawn,), now_us=loop_us())
            elif not job.ended and served.downstream is not None:
                onward.tokens[served.downstream].append(token)
        self._post_receipts(served)
        self._compute.poke(job)

    def _post_receipts(self, served: Served) -> None:
        while (due := served.job.next_receipt()) is not None:
            self._to_client(served, due.frame, due.sketches)

    def _to_client(self, served: Served, frame: Message, payload: bytes = b"") -> None:
        if served.client is None:
            raise LostPeerError("the client went away", code="client-gone")
        served.client.post(frame, payload)

    # Ends

    async def _give_up_still_jobs(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for served in self._places:
                if served.job.order.session.expiry <= self._clock():
                    self._ends.fail(served, LostPeerError("the session has expired", code="expired"))
            for served, waits in self._places.lapsed(LOOK_S):
                blame = Deed.LAPSED if waits in (Waits.ATTACH, Waits.CLIENT) else None
                still = LostPeerError("nothing that was paid for came of it for too long", code="idle")
                self._ends.fail(served, still, blame=blame)
            self._neighbours.drop_idle(self._in_use())

    def _in_use(self) -> set[Outbox]:
        return {served.downstream for served in self._places if served.downstream is not None}


def _first_peer_error(errors: BaseExceptionGroup[PeerError]) -> PeerError:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, PeerError) else LostPeerError("the link ended")
