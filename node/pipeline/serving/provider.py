"""A node's side of jobs: takes orders, serves its leg of each, and makes sure that it is paid.

Trust: a hostile client can cost it one window of output; a hostile neighbour can end the sessions that they share. All
fields belong to the event loop; engine calls go through `ComputeLoop`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import numpy as np

from node.events import Events, JobFailed, JobServed, LinkRefused
from node.pipeline.admission import ProviderLimits
from node.pipeline.compute import ComputeLoop
from node.pipeline.leg import LegJob, WindowEnd
from node.pipeline.neighbours import Neighbours, next_hop
from node.pipeline.outbox import Outbox
from node.pipeline.redeem import Redeemer
from node.pipeline.vouchers import StoredVoucher
from node.ports import (
    Activations,
    Clock,
    Connect,
    EnergyAccount,
    Link,
    Settlement,
    SpanEngine,
    StepInput,
    StepOutput,
)
from protocol.codec import Message, decode
from protocol.errors import LostPeerError, MalformedError, PeerError, RefusedError
from protocol.frames import (
    CLIENT_FRAMES,
    MAX_ITEMS,
    PEER_FRAMES,
    Attach,
    Failed,
    Finish,
    Pay,
    Prompt,
    Sampled,
    SampledToken,
    Step,
    StepItem,
)
from protocol.ids import BlockSpan, ModelManifest
from protocol.job import JobEvent, JobState
from protocol.metering import leg_amount
from protocol.order import JobOrder
from protocol.signing import SigningKey, address_of_public_key
from protocol.units import ceil_div

__all__ = ["Provider"]

NO_SESSION = bytes(32)
"""What a `Failed` frame names that ends a link, not a session."""


class Provider:
    """Serves one span of one model. `admission` answers the orders; accepted ones come back through `begin`."""

    def __init__(
        self,
        key: SigningKey,
        manifest: ModelManifest,
        span: BlockSpan,
        *,
        engine: SpanEngine,
        energy: EnergyAccount,
        settlement: Settlement,
        redeemer: Redeemer,
        connect: Connect,
        clock: Clock,
        events: Events,
        limits: ProviderLimits,
    ) -> None:
        self._key = key
        self._manifest = manifest
        self._span = span
        self._engine = engine
        self._energy = energy
        self._settlement = settlement
        self._redeemer = redeemer
        self._clock = clock
        self._events = events
        self._limits = limits
        self._compute = ComputeLoop(engine, energy, self._computed, max_rows=limits.max_chunk)
        self._neighbours = Neighbours(connect, self._link_lost)
        self._jobs: dict[bytes, LegJob] = {}
        self._clients: dict[bytes, Outbox] = {}
        self._heard: dict[bytes, float] = {}
        self._freeing: set[asyncio.Task[None]] = set()

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
        for job in list(self._jobs.values()):
            self._fail(job, LostPeerError("the node is shutting down", code="shutdown"))
        await asyncio.gather(*self._freeing)
        await self._neighbours.close()
        self._compute.close()

    async def begin(self, order: JobOrder) -> None:
        """Make an admitted order a job, with its KV and its link to the next leg. Raises RefusedError."""
        if len(self._jobs) >= self._limits.max_sessions:
            raise RefusedError(f"all {self._limits.max_sessions} places are taken", code="full")
        job = LegJob(
            order,
            self._key,
            self._settlement.domain,
            millijoules_for=partial(self._millijoules_for, order.hops[order.leg].span),
            stop_tokens=self._manifest.stop_tokens,
        )
        if len(order.hops) > 1:
            await self._neighbours.reach(next_hop(order))
        sampling, most = order.sampling, order.plan.prompt + order.plan.most
        reserve = partial(
            self._engine.open,
            job.session,
            max_tokens=most,
            temperature_milli=sampling.temperature_milli,
            seed=sampling.seed,
            blocks=order.hops[order.leg].span,
        )
        await self._compute.in_thread(reserve)
        self._jobs[job.session] = job
        self._heard[job.session] = asyncio.get_running_loop().time()

    def _millijoules_for(self, used: BlockSpan, positions: int) -> int | None:
        """The share of the energy that falls to the blocks used."""
        through_all = self._energy.millijoules_for(positions)
        return None if through_all is None else ceil_div(through_all * len(used), len(self._span))

    # Links

    async def on_link(self, link: Link) -> None:
        """Serve an incoming link until it ends."""
        outbox = Outbox(link, self._link_lost)
        try:
            while True:
                header, payload = await link.receive()
                await self._on_frame(outbox, header, payload)
        except LostPeerError as error:
            self._link_lost(outbox, error)
        except PeerError as error:
            await self._hang_up(outbox, error)
        finally:
            outbox.abandon()
            await link.close()

    async def _hang_up(self, outbox: Outbox, error: PeerError) -> None:
        """The peer sends what nobody in its place may send: say so, and end its link."""
        peer = address_of_public_key(outbox.link.public_key)
        self._events(LinkRefused(peer=peer, code=error.code, reason=error.message))
        self._link_lost(outbox, error)
        with contextlib.suppress(LostPeerError):
            outbox.post(Failed(session=NO_SESSION, leg=0, code=error.code, reason=error.message[:500]))
            await outbox.flush()

    async def _on_frame(self, outbox: Outbox, header: bytes, payload: bytes) -> None:
        frame: Message = decode(header, *CLIENT_FRAMES, *PEER_FRAMES)
        match frame:
            case Step():
                self._on_step(outbox, frame, payload)
            case Sampled():
                for token in frame.tokens:
                    self._guarded(token.session, outbox, Sampled, partial(self._on_sampled, token))
            case Pay():
                await self._on_pay(outbox, frame)
            case Attach() | Prompt() | Finish():
                handle = partial(self._on_client_frame, outbox, frame, payload)
                self._guarded(frame.session, outbox, type(frame), handle)

    def _guarded(self, session: bytes, outbox: Outbox, kind: type[Message], handle: Callable[[LegJob], None]) -> None:
        """Handle one session's frame; what is wrong with it ends that session alone. A late frame is ignored."""
        job = self._job_for(session, outbox, kind)
        if job is None:
            return
        try:
            handle(job)
        except PeerError as error:
            self._fail(job, error)

    def _job_for(self, session: bytes, outbox: Outbox, kind: type[Message]) -> LegJob | None:
        """The job that a frame is for, None for one that has ended.

        Raises RefusedError for a sender without that part in the session: session ids are public, so what such a peer
        sends must not touch the job.
        """
        job = self._jobs.get(session)
        if job is None:
            return None
        if not job.may_send(kind, outbox.link.public_key):
            raise RefusedError("this frame is for others in this session to send", code="not-party")
        self._heard[session] = asyncio.get_running_loop().time()
        return job

    def _on_client_frame(self, outbox: Outbox, frame: Message, payload: bytes, job: LegJob) -> None:
        match frame:
            case Attach():
                job.advance(JobEvent.ATTACH)
                self._clients[job.session] = outbox
            case Prompt():
                if not job.is_first:
                    raise MalformedError("prompt tokens go to the first leg")
                if len(payload) != 4 * frame.length or frame.position + frame.length > job.order.plan.prompt:
                    raise MalformedError("the prompt's length does not match its header or the order")
                job.arrive(frame.position, tuple(np.frombuffer(payload, dtype="<u4").tolist()))
                self._compute.poke(job)
            case Finish():
                self._post_window(job, job.finish(frame.tokens_out))

    async def _on_pay(self, outbox: Outbox, pay: Pay) -> None:
        job = self._job_for(pay.voucher.session, outbox, Pay)
        if job is None:
            return
        try:
            job.take_voucher(pay)
        except PeerError as error:
            self._fail(job, error)
            return
        # On disk before it counts: from here on a crash leaves the promise with us.
        stored = StoredVoucher(session=job.order.session, opened_at=self._clock(), pay=pay)
        await self._redeemer.remember(job.session, stored)
        if job.state is JobState.FINISHED:
            self._to_client(job, job.discharge())
            self._events(self._served(job))
            self._end(job)
        else:
            self._compute.poke(job)

    def _on_step(self, outbox: Outbox, step: Step, payload: bytes) -> None:
        width = self._manifest.hidden_size
        if len(payload) != 4 * width * sum(item.length for item in step.items):
            raise MalformedError("a step's payload does not match its items")
        rows = np.frombuffer(payload, dtype="<f4").reshape(-1, width)
        at = 0
        for item in step.items:
            piece = rows[at : at + item.length]
            at += item.length
            self._guarded(item.session, outbox, Step, partial(self._on_rows, item, piece))

    def _on_rows(self, item: StepItem, rows: Activations, job: LegJob) -> None:
        job.arrive(item.position, rows)
        self._compute.poke(job)

    def _on_sampled(self, token: SampledToken, job: LegJob) -> None:
        job.arrive(token.position, (token.token,))
        self._compute.poke(job)

    def _link_lost(self, outbox: Outbox, error: PeerError) -> None:
        self._neighbours.forget(outbox)
        key = outbox.link.public_key
        for job in list(self._jobs.values()):
            if self._clients.get(job.session) is outbox:
                del self._clients[job.session]
                self._fail(job, LostPeerError("the client went away", code="client-gone"))
            elif key in {hop.public_key for hop in job.order.hops} and key != self._key.public_key:
                self._fail(job, LostPeerError(f"lost a neighbour on the route: {error.message}", code="neighbour-lost"))

    # Results

    def _computed(self, results: list[tuple[LegJob, StepInput, StepOutput | Exception]]) -> None:
        steps: dict[Outbox, list[tuple[StepItem, bytes]]] = defaultdict(list)
        drawn: dict[Outbox, list[SampledToken]] = defaultdict(list)
        for job, piece, output in results:
            if job.session not in self._jobs:
                continue
            try:
                if isinstance(output, Exception):
                    raise output
                self._book(job, piece, output, steps, drawn)
            except PeerError as error:
                self._fail(job, error)
        for outbox, tokens in drawn.items():
            for at in range(0, len(tokens), MAX_ITEMS):
                self._post_or_lose(outbox, Sampled(tokens=tuple(tokens[at : at + MAX_ITEMS])))
        for outbox, rows in steps.items():
            for at in range(0, len(rows), MAX_ITEMS):
                part = rows[at : at + MAX_ITEMS]
                self._post_or_lose(
                    outbox, Step(items=tuple(item for item, _ in part)), b"".join(raw for _, raw in part)
                )

    def _book(
        self,
        job: LegJob,
        piece: StepInput,
        output: StepOutput,
        steps: dict[Outbox, list[tuple[StepItem, bytes]]],
        drawn: dict[Outbox, list[SampledToken]],
    ) -> None:
        window = job.complete(piece, output)
        if not job.is_last:
            item = StepItem(session=job.session, position=piece.position, length=piece.length)
            steps[self._neighbours.outbox(next_hop(job.order))].append(
                (item, output.hidden.astype("<f4", copy=False).tobytes())
            )
        elif output.token is not None:
            token = SampledToken(session=job.session, position=job.processed, token=output.token)
            self._to_client(job, Sampled(tokens=(token,)))
            if not job.ended and job.is_first:
                job.arrive(token.position, (token.token,))
            elif not job.ended:
                drawn[self._neighbours.outbox(next_hop(job.order))].append(token)
        self._post_window(job, window)
        self._compute.poke(job)

    def _post_or_lose(self, outbox: Outbox, frame: Message, payload: bytes = b"") -> None:
        try:
            outbox.post(frame, payload)
        except LostPeerError as error:
            self._link_lost(outbox, error)

    def _post_window(self, job: LegJob, window: WindowEnd | None) -> None:
        if window is not None:
            self._to_client(job, window.frame, window.sketch)

    def _to_client(self, job: LegJob, frame: Message, payload: bytes = b"") -> None:
        outbox = self._clients.get(job.session)
        if outbox is None:
            raise LostPeerError("the client went away", code="client-gone")
        outbox.post(frame, payload)

    # Ends

    def _fail(self, job: LegJob, error: PeerError) -> None:
        if job.state is not JobState.FAILED:
            job.advance(JobEvent.FAIL)
        outbox = self._clients.get(job.session)
        if outbox is not None:
            failed = Failed(session=job.session, leg=job.order.leg, code=error.code, reason=error.message[:500])
            self._post_or_lose(outbox, failed)
        self._events(self._failed(job, error))
        self._end(job)

    def _end(self, job: LegJob) -> None:
        if self._jobs.pop(job.session, None) is None:
            return
        self._clients.pop(job.session, None)
        self._heard.pop(job.session, None)
        freeing = asyncio.create_task(self._compute.in_thread(partial(self._engine.close, job.session)), name="free KV")
        self._freeing.add(freeing)
        freeing.add_done_callback(self._freeing.discard)
        self._redeemer.redeem_soon(job.session)

    def _served(self, job: LegJob) -> JobServed:
        tokens_in, tokens_out = job.served
        return JobServed(
            client=job.order.session.client,
            session=job.session,
            leg=job.order.leg,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            earned_micro=leg_amount(job.order.session.legs[job.order.leg], *job.paid),
            millijoules=job.millijoules,
            seconds=float(self._clock() - job.order.issued_at),
        )

    def _failed(self, job: LegJob, error: PeerError) -> JobFailed:
        tokens_in, tokens_out = job.served
        return JobFailed(
            client=job.order.session.client,
            session=job.session,
            leg=job.order.leg,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            paid_micro=leg_amount(job.order.session.legs[job.order.leg], *job.paid),
            code=error.code,
            reason=error.message,
        )

    async def _give_up_idle_jobs(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            for session, job in list(self._jobs.items()):
                if job.order.session.expiry <= self._clock():
                    self._fail(job, LostPeerError("the session has expired", code="expired"))
                elif loop.time() - self._heard[session] > self._limits.idle_s:
                    self._fail(job, LostPeerError("nothing was heard for too long", code="idle"))
