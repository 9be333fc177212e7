"""A node's side of jobs: serves its leg of each, and makes sure that it is paid. `admission` answers the orders.

Trust: a hostile client can cost it the tokens that it serves on credit; a hostile neighbour can end the sessions that
they share. All fields belong to the event loop; engine calls go through `ComputeLoop`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from node.events import Events, JobFailed, JobServed, LinkRefused
from node.pipeline.serving.admission import ProviderLimits
from node.pipeline.serving.compute import ComputeLoop
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.neighbours import Neighbours, Next
from node.pipeline.serving.onward import Onward
from node.pipeline.serving.outbox import Outbox
from node.pipeline.serving.parts import Parts
from node.pipeline.serving.redeem import Redeemer
from node.pipeline.vouchers import StoredVoucher
from node.ports import (
    Activations,
    Allowance,
    Clock,
    Connect,
    EnergyAccount,
    Link,
    SpanEngine,
    Spawn,
    StepInput,
    StepOutput,
    Worker,
)
from protocol.activations import FORMATS, from_wire
from protocol.codec import Message, decode
from protocol.errors import LostPeerError, MalformedError, PeerError, RefusedError
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
from protocol.signing import address_of_public_key
from protocol.text import to_plain_text

__all__ = ["Provider"]

NO_SESSION = bytes(32)
"""What a `Failed` frame names that ends a link, not a session."""


@dataclass(slots=True)
class _Served:
    """A job, and the links that it goes over."""

    job: LegJob
    downstream: Outbox | None
    """Where rows or tokens go next; None for the only leg."""
    begun_s: float
    """When it was taken, on the loop's clock."""
    heard_s: float
    """When a frame of it last came."""
    client: Outbox | None = None
    upstream: Outbox | None = None
    """Where rows or tokens last came from."""


class Provider:
    """Serves one span of one model.

    Args:
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
        spawn: Spawn,
        compute: Worker,
        sketching: Worker,
    ) -> None:
        self._manifest = manifest
        self._engine = engine
        self._redeemer = redeemer
        self._clock = clock
        self._events = events
        self._limits = limits
        self._sketching = sketching
        self._compute = ComputeLoop(engine, energy, self._computed, worker=compute, max_rows=limits.max_chunk)
        self._neighbours = Neighbours(connect, self._link_lost, spawn)
        self._jobs: dict[bytes, _Served] = {}
        self._parts = Parts(manifest.hidden_size, _now_s)
        self._beginning = 0
        self._endings: set[asyncio.Task[None]] = set()
        self._spawn = spawn

    @property
    def active(self) -> int:
        """Jobs that are being served."""
        return len(self._jobs)

    async def run(self) -> None:
        """Compute, and watch over idle jobs, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._compute.run(), name="compute")
            group.create_task(self._give_up_idle_jobs(), name="idle jobs")

    async def stop(self) -> None:
        """End every job, telling its client; free what they held."""
        for served in list(self._jobs.values()):
            self._fail(served, LostPeerError("the node is shutting down", code="shutdown"))
        await asyncio.gather(*self._endings)
        await self._neighbours.close()
        self._compute.close()
        self._sketching.close()

    async def begin(self, job: LegJob, next_leg: Next | None) -> None:
        """Take an admitted job, with its KV and its link to the next leg. Raises RefusedError."""
        if len(self._jobs) + self._beginning >= self._limits.max_sessions:
            raise RefusedError(f"all {self._limits.max_sessions} places are taken", code="full")
        self._beginning += 1
        try:
            downstream = None if next_leg is None else await self._neighbours.reach(next_leg)
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
        finally:
            self._beginning -= 1
        now = _now_s()
        self._jobs[job.session] = _Served(job, downstream, now, now)
        self._parts.begin(job)

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

    def _guarded(self, session: bytes, outbox: Outbox, kind: type[Message], handle: Callable[[_Served], None]) -> None:
        """Handle one session's frame; what is wrong with it ends that session alone. A late frame is ignored."""
        served = self._served_for(session, outbox, kind)
        if served is None:
            return
        try:
            handle(served)
        except PeerError as error:
            self._fail(served, error)

    def _served_for(self, session: bytes, outbox: Outbox, kind: type[Message]) -> _Served | None:
        """The job that a frame is for, None for one that has ended.

        Raises RefusedError for a sender without that part in the session: session ids are public, so what such a peer
        sends must not touch the job.
        """
        served = self._jobs.get(session)
        if served is None:
            return None
        if not served.job.may_send(kind, outbox.link.public_key):
            raise RefusedError("this frame is for others in this session to send", code="not-party")
        served.heard_s = asyncio.get_running_loop().time()
        return served

    def _on_client_frame(self, outbox: Outbox, frame: Message, payload: bytes, served: _Served) -> None:
        job = served.job
        match frame:
            case Attach():
                job.advance(JobEvent.ATTACH)
                served.client = outbox
                self._compute.poke(job)
            case Prompt():
                if not job.is_first:
                    raise MalformedError("prompt tokens go to the first leg")
                if len(payload) != 4 * frame.length or frame.position + frame.length > job.plan.prompt:
                    raise MalformedError("the prompt's length does not match its header or the order")
                job.arrive(frame.position, tuple(np.frombuffer(payload, dtype="<u4").tolist()), now_us=_now_us())
                self._compute.poke(job)
            case Finish():
                job.finish(frame.tokens_out)
                self._post_receipts(served)

    async def _on_voucher(self, outbox: Outbox, signed: SignedVoucher) -> None:
        served = self._served_for(signed.voucher.session, outbox, SignedVoucher)
        if served is None:
            return
        job = served.job
        try:
            job.take_voucher(signed)
            if job.state is JobState.FINISHED:
                await self._discharge(served)
            else:
                # On disk before it counts: from here on a crash leaves the promise with us.
                await self._keep(job, job.claim.best)
                self._compute.poke(job)
        except PeerError as error:
            self._fail(served, error)

    async def _discharge(self, served: _Served) -> None:
        """The last voucher is in: say what this leg claims, and be done."""
        job = served.job
        claimed = await self._give_up(served)
        tokens_in, tokens_out = job.served
        self._events(
            JobServed(
                client=job.order.session.client,
                session=job.session,
                leg=job.leg,
                tokens_in=tokens_in,
                tokens_out=tokens_out,
                earned_micro=claimed,
                millijoules=job.millijoules,
                seconds=round(asyncio.get_running_loop().time() - served.begun_s, 3),
            )
        )
        self._end(served)

    async def _give_up(self, served: _Served) -> int:
        """Tell the client what this leg claims, which frees the rest; micro-units."""
        job = served.job
        word = job.discharge()
        claimed = word.signed.discharge.amount
        # What is claimed is on disk before the rest is given up.
        await self._keep(job, job.claim.redeemable(claimed))
        with contextlib.suppress(LostPeerError):  # a client that is gone has the rest back after the grace
            self._to_client(served, word)
        return claimed

    async def _keep(self, job: LegJob, signed: SignedVoucher) -> None:
        stored = StoredVoucher(
            session=job.order.session, opened_at=self._clock(), leg=job.leg, pay=signed, discharges=()
        )
        await self._redeemer.remember(job.session, stored)

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
            self._fail(served, error)

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

    def _on_rows(self, outbox: Outbox, step: Step, item: StepItem, rows: Activations, served: _Served) -> None:
        if step.activations is not served.job.terms.activations:
            raise MalformedError(f"rows in {step.activations} where {served.job.terms.activations} was agreed")
        served.upstream = outbox
        served.job.arrive(item.position, rows, now_us=_now_us())
        self._compute.poke(served.job)

    def _on_sampled(self, outbox: Outbox, token: SampledToken, served: _Served) -> None:
        served.upstream = outbox
        served.job.arrive(token.position, (token.token,), now_us=_now_us())
        self._compute.poke(served.job)

    def _link_lost(self, outbox: Outbox, error: PeerError) -> None:
        """End the jobs that went over a link, and no others that its peer has a part in."""
        for served in list(self._jobs.values()):
            if served.client is outbox:
                served.client = None
                self._fail(served, LostPeerError("the client went away", code="client-gone"))
            elif outbox in (served.upstream, served.downstream):
                reason = f"lost a neighbour on the route: {error.message}"
                self._fail(served, LostPeerError(reason, code="neighbour-lost"))

    # Results

    def _computed(self, results: list[tuple[LegJob, StepInput, StepOutput | Exception]]) -> None:
        onward = Onward()
        for job, piece, output in results:
            served = self._jobs.get(job.session)
            if served is None:
                continue
            try:
                if isinstance(output, Exception):
                    raise output
                self._book(served, piece, output, onward)
            except PeerError as error:
                self._fail(served, error)
        for outbox, frame, payload in onward.frames():
            try:
                outbox.post(frame, payload)
            except LostPeerError as error:
                self._link_lost(outbox, error)

    def _book(self, served: _Served, piece: StepInput, output: StepOutput, onward: Onward) -> None:
        job = served.job
        raw = job.complete(piece, output, now_us=_now_us())
        if not job.is_last and served.downstream is not None:
            item = StepItem(session=job.session, position=piece.position, length=piece.length)
            onward.rows[served.downstream, job.terms.activations].append((item, raw))
        for at, drawn in enumerate(output.tokens, job.processed - len(output.tokens) + 1):
            token = SampledToken(session=job.session, position=at, token=drawn)
            self._to_client(served, Sampled(tokens=(token,)))
            if not job.ended and job.is_first:
                job.arrive(at, (drawn,), now_us=_now_us())
            elif not job.ended and served.downstream is not None:
                onward.tokens[served.downstream].append(token)
        self._post_receipts(served)
        self._compute.poke(job)

    def _post_receipts(self, served: _Served) -> None:
        while (due := served.job.next_receipt()) is not None:
            self._to_client(served, due.frame, due.sketches)

    def _to_client(self, served: _Served, frame: Message, payload: bytes = b"") -> None:
        if served.client is None:
            raise LostPeerError("the client went away", code="client-gone")
        served.client.post(frame, payload)

    # Ends

    def _fail(self, served: _Served, error: PeerError) -> None:
        job = served.job
        if self._jobs.pop(job.session, None) is None:
            return
        job.advance(JobEvent.FAIL)
        if served.client is not None:
            failed = Failed(session=job.session, leg=job.leg, code=error.code, reason=to_plain_text(error.message, 512))
            with contextlib.suppress(LostPeerError):  # its reader tells of a client that is gone
                served.client.post(failed)
        tokens_in, tokens_out = job.served
        self._events(
            JobFailed(
                client=job.order.session.client,
                session=job.session,
                leg=job.leg,
                tokens_in=tokens_in,
                tokens_out=tokens_out,
                paid_micro=job.claim.amount,
                code=error.code,
                reason=error.message,
            )
        )
        self._end(served, claims=True)

    def _end(self, served: _Served, *, claims: bool = False) -> None:
        """Free what the job held, and redeem what it earned; with its claims still to be told where it failed."""
        self._jobs.pop(served.job.session, None)
        self._parts.end(served.job)
        ending = self._spawn(self._free(served, claims), "end of job")
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _free(self, served: _Served, claims: bool) -> None:
        session = served.job.session
        if claims:
            await self._give_up(served)
        self._redeemer.redeem_soon(session)
        await self._compute.with_engine(partial(self._engine.close, session))

    async def _give_up_idle_jobs(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            for served in list(self._jobs.values()):
                if served.job.order.session.expiry <= self._clock():
                    self._fail(served, LostPeerError("the session has expired", code="expired"))
                elif loop.time() - served.heard_s > self._limits.idle_s:
                    self._fail(served, LostPeerError("nothing was heard for too long", code="idle"))


def _now_s() -> float:
    """Seconds on the loop's clock."""
    return asyncio.get_running_loop().time()


def _now_us() -> int:
    """Microseconds on the loop's clock."""
    return int(_now_s() * 1_000_000)


def _first_peer_error(errors: BaseExceptionGroup[PeerError]) -> PeerError:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, PeerError) else LostPeerError("the link ended")
