"""What comes over links for the jobs that are served: whose it is, whether its sender may send it, and what it changes.

Trust: session ids are public, so a frame counts only from the peer whose part it is to send it. What is wrong with a
frame ends the session that it is for; what no peer of that kind may send at all ends the link.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from node.events import DiskRefused, Events
from node.pipeline.loop_clock import loop_us
from node.pipeline.serving.compute import ComputeLoop
from node.pipeline.serving.drafting import Drafting
from node.pipeline.serving.ending import Endings
from node.pipeline.serving.outbox import Outbox
from node.pipeline.serving.places import Places, Served
from node.pipeline.serving.rerouting import Rerouting
from node.ports import Activations, Worker
from protocol.encoding.codec import Message, decode
from protocol.errors import LocalError, MalformedError, RefusedError
from protocol.models.activations import FORMATS, from_wire
from protocol.reputation.standing import Deed
from protocol.session.frames import (
    CLIENT_FRAMES,
    PEER_FRAMES,
    Attach,
    Draw,
    Finish,
    Probe,
    Prompt,
    Rerouted,
    Sampled,
    SampledToken,
    Stands,
    Step,
    StepItem,
    Told,
)
from protocol.session.job import JobEvent, JobState
from protocol.session.messages import SignedVoucher

__all__ = ["Incoming"]


class Incoming:
    """Brings frames to the jobs that they are for.

    Args:
        width: of a row of activations.
        sketching: the worker that sketches windows, off the tokens' path.
        preparing: the worker that grammars are compiled in: each may take seconds.
    """

    def __init__(
        self,
        width: int,
        places: Places,
        ends: Endings,
        compute: ComputeLoop,
        rerouting: Rerouting,
        drafting: Drafting,
        sketching: Worker,
        preparing: Worker,
        events: Events,
    ) -> None:
        self._width = width
        self._places = places
        self._ends = ends
        self._compute = compute
        self._rerouting = rerouting
        self._drafting = drafting
        self._sketching = sketching
        self._preparing = preparing
        self._events = events

    async def take(self, outbox: Outbox, header: bytes, payload: bytes) -> None:
        """One frame. Raises a PeerError for one that nobody in its sender's place may send, which ends the link."""
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
            case Rerouted():
                served = self._served_for(frame.session, outbox, Rerouted)
                if served is not None:
                    await self._rerouting.take(served, frame, payload)
            case Attach() | Prompt() | Told() | Finish() | Probe():
                handle = partial(self._on_client_frame, outbox, frame, payload)
                self._guarded(frame.session, outbox, type(frame), handle)
                if isinstance(frame, Told):
                    await self._prepare(frame.session)

    def _guarded(self, session: bytes, outbox: Outbox, kind: type[Message], handle: Callable[[Served], None]) -> None:
        """Handle one session's frame; what is wrong with it ends that session alone. A late frame is ignored."""
        served = self._served_for(session, outbox, kind)
        if served is None:
            return
        try:
            handle(served)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is of one session
            self._ends.fail(served, error, blame=Deed.DEFAULTED if kind in CLIENT_FRAMES else None)

    def _served_for(self, session: bytes, outbox: Outbox, kind: type[Message]) -> Served | None:
        """The job that a frame is for, None for one that has ended.

        Raises RefusedError for a sender without that part in the session: session ids are public, so what such a peer
        sends must not touch the job.
        """
        served = self._places.get(session)
        if served is None:
            return None
        sender = outbox.public_key
        if not served.job.may_send(kind, sender):
            if kind in PEER_FRAMES and served.job.had_part(sender):
                return None  # of an older route
            raise RefusedError("this frame is for others in this session to send", code="not-party")
        return served

    async def _prepare(self, session: bytes) -> None:
        """Make ready what a client has told of. What takes long holds up the frames of that client's link alone."""
        served = self._places.get(session)
        if served is None:
            return
        try:
            await self._compute.prepare(served.job, self._preparing)
            self._compute.poke(served.job)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is of one session
            self._ends.fail(served, error)

    def _on_client_frame(self, outbox: Outbox, frame: Message, payload: bytes, served: Served) -> None:
        job = served.job
        match frame:
            case Attach():
                job.advance(JobEvent.ATTACH)
                served.client = outbox
                job.share(frame.secret)
                job.take_up(frame.joining)
                self._drafting.begin(job)
                self._places.got_on(served)
                self._rerouting.go_on(served)
            case Prompt():
                if not job.is_first:
                    raise MalformedError("prompt tokens go to the first leg")
                if len(payload) != 4 * frame.length or frame.position + frame.length > job.fed_until:
                    raise MalformedError("the prompt's length does not match its header or the order")
                ids = tuple(np.frombuffer(payload, dtype="<u4").tolist())
                job.arrive(frame.position, ids, now_us=loop_us())
                self._drafting.give(job, frame.position, ids)
                self._compute.poke(job)
            case Told():
                job.looking_back.take(frame, payload, serves=job.place is not None)
                self._compute.poke(job)
            case Finish():
                job.finish(frame.tokens_out)
                self._places.got_on(served)
                served.post_receipts()
            case Probe():
                arrived, processed, signed, replays = job.standing
                served.post(
                    Stands(
                        session=job.session,
                        leg=job.leg,
                        number=frame.number,
                        arrived=arrived,
                        processed=processed,
                        signed=signed,
                        replays=replays,
                    )
                )

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
        except LocalError as error:
            self._events(DiskRefused(reason=error.message))
            self._ends.fail(served, RefusedError("this node cannot keep a voucher safe now"))
        except Exception as error:  # noqa: BLE001 - as above
            self._ends.fail(served, error, blame=Deed.DEFAULTED)

    async def _on_draw(self, outbox: Outbox, draw: Draw) -> None:
        served = self._served_for(draw.session, outbox, Draw)
        if served is None:
            return
        try:
            sketching = served.job.take_draw(draw)
            served.job.show(await self._sketching.run(sketching.run))
            served.post_receipts()
            self._compute.poke(served.job)
        except Exception as error:  # noqa: BLE001 - as above
            self._ends.fail(served, error, blame=Deed.DEFAULTED)

    def _on_step(self, outbox: Outbox, step: Step, payload: bytes) -> None:
        width = self._width
        if len(payload) != FORMATS[step.activations].item_bytes * width * sum(item.length for item in step.items):
            raise MalformedError("a step's payload does not match its items")
        rows = from_wire(step.activations, payload, width)
        at = 0
        for item in step.items:
            piece = rows[at : at + item.length]
            at += item.length
            self._guarded(item.session, outbox, Step, partial(self._on_rows, outbox, step, item, piece))

    def _on_rows(self, outbox: Outbox, step: Step, item: StepItem, rows: Activations, served: Served) -> None:
        job = served.job
        if step.activations is not job.terms.activations:
            raise MalformedError(f"rows in {step.activations} where {job.terms.activations} was agreed")
        early = job.state is JobState.ACCEPTED and job.terms.continues is not None
        if item.route != len(job.reroutes) or early:
            if item.route > len(job.reroutes) or early:
                served.hold(partial(self._on_rows, outbox, step, item, rows, served), rows.nbytes)
            return
        if not job.may_send(Step, outbox.public_key):
            return  # kept from before, of one who is no neighbour any more
        served.upstream = outbox
        if not item.length and job.terms.speculation.depth and not job.is_last:
            served.certify(item.certain)
            served.post_receipts()
            self._compute.poke(job)
            return
        job.arrive(item.position, rows, certain=item.certain, flight=item.flight, drafts=item.drafts, now_us=loop_us())
        if job.terms.speculation.depth:
            served.post_receipts()  # what was computed before may stand now, and end a window
        self._compute.poke(job)

    def _on_sampled(self, outbox: Outbox, token: SampledToken, served: Served) -> None:
        job = served.job
        if token.route != len(job.reroutes):
            if token.route > len(job.reroutes):
                served.hold(partial(self._on_sampled, outbox, token, served), 0)
            return
        if not job.may_send(Sampled, outbox.public_key):
            return
        served.upstream = outbox
        self._drafting.take(served, token.position, token.token)
        if job.terms.speculation.depth and served.post_receipts():  # what follows from the token is on its way
            self._compute.poke(job)  # rows may have waited for the receipt
