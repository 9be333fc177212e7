"""Which orders a node takes: the checks in order of cost, and the signed answer to each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from node.events import DiskRefused, Events, JobBegun, OrderRefused
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.meter import Meter
from node.pipeline.serving.neighbours import Next
from node.pipeline.serving.redeem import Redeemer
from node.pipeline.serving.trail import Trails
from node.pipeline.vouchers import StoredVoucher
from node.ports import Clock, PeerMemory, Randomness, Settlement, Spawn
from protocol.encoding.text import to_plain_text
from protocol.errors import JoulemeshError, LocalError, PeerError, RefusedError, StaleError, UnreachableError
from protocol.identity.eip712 import sign_typed
from protocol.identity.ids import ModelManifest, keccak256
from protocol.identity.signing import SigningKey, open_envelope, seal
from protocol.market.offer import Offer
from protocol.reputation.standing import Standing, granted_credit
from protocol.session.agreement import FLIGHTS
from protocol.session.draws import NonceChain
from protocol.session.messages import Discharge, session_id
from protocol.session.metering import chain_length
from protocol.session.order import Acceptance, JobOrder, Refusal, check_offer_of, check_order
from protocol.session.terms import terms_hash

__all__ = ["Admission"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Answers orders for one span of one model.

    A session that was refused is remembered like one that was served: its discharge is out, so it must never be served.
    """

    key: SigningKey
    manifest: ModelManifest
    settlement: Settlement
    redeemer: Redeemer
    meter: Callable[[], Meter]
    """What it says of its energy."""
    suits: Callable[[JobOrder, Offer], None]
    """Raises RefusedError where the order's policy does not suit this node as it is now."""
    memory: PeerMemory
    """What clients paid here before: their credit grows with it."""
    trails: Trails
    """Keep what is sent on."""
    begin: Callable[[LegJob, Next | None], Awaitable[None]]
    """Reserves what the job needs. Raises RefusedError where there is no room or no way on."""
    clock: Clock
    randomness: Randomness
    events: Events
    spawn: Spawn

    async def answer(self, _peer: bytes, data: bytes) -> bytes:
        """A sealed `Acceptance` or `Refusal` for a sealed `JobOrder`.

        Which peer brings it does not matter: the seal says whose it is, and only that client can attach to the job.

        Raises PeerError where there is no order to answer: malformed, not its client's, seen before, or without
        evidence that its session is open; or where the answer could not be kept.
        """
        order, signer = open_envelope(data, JobOrder)
        me, domain = self.key.public_key, self.settlement.domain
        check_order(order, signer, me=me, domain=domain, manifest=self.manifest, now=self.clock())
        # O8: the session is open; what reserves this leg's cap only this leg can give up.
        await self.settlement.check_opened(order.session, order.opened)
        session = session_id(order.session)
        if self.redeemer.knows(session):
            raise StaleError("this session was ordered here before")
        if self.redeemer.full:
            raise RefusedError("more sessions were ordered here in the last minutes than can be kept", code="busy")
        # Whoever asked may go away meanwhile: a session that is on disk is taken or refused all the same.
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.spawn(self._answer(order, answered), "order")
        return await answered

    async def _answer(self, order: JobOrder, answered: asyncio.Future[bytes]) -> None:
        """Tell whoever asked, where it still waits: an answer, or why there is none."""
        told: bytes | Exception = RefusedError("this node is stopping", code="internal")
        try:
            told = await self._taken_or_refused(order)
        except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
            told = error
        finally:
            if answered.done():
                if isinstance(told, Exception) and not isinstance(told, JoulemeshError):
                    _log.error("an order whose client has gone could not be answered", exc_info=told)
            elif isinstance(told, bytes):
                answered.set_result(told)
            else:
                answered.set_exception(told)

    async def _taken_or_refused(self, order: JobOrder) -> bytes:
        session = session_id(order.session)
        # On disk before any answer: this session is not taken a second time, and the first voucher is safe.
        stored = StoredVoucher(
            session=order.session, opened_at=self.clock(), leg=order.leg, pay=order.pay, discharges=()
        )
        try:
            await self.redeemer.remember(session, stored)
            try:
                return await self._accept(order)
            except (PeerError, UnreachableError) as error:
                return await self._refuse(order, stored, error)
        except LocalError as error:
            self.events(DiskRefused(reason=error.message))
            raise RefusedError("this node cannot write down what it is promised", code="internal") from error

    async def _accept(self, order: JobOrder) -> bytes:
        terms, session = order.terms, session_id(order.session)
        leg = terms.legs[order.leg]
        offer = check_offer_of(leg, order.offer, terms, now=self.clock())
        _check_shape(order, offer, self.memory.standing(order.session.client))
        self.suits(order, offer)
        chain = NonceChain(self.randomness(32), chain_length(terms.plan))
        job = LegJob(
            order,
            offer,
            self.key,
            self.settlement.domain,
            chain=chain,
            meter=self.meter(),
            trails=self.trails,
            width=self.manifest.hidden_size,
            stop_tokens=self.manifest.stop_tokens,
        )
        try:
            await self.begin(job, _next_of(order, now=self.clock()))
        except BaseException:
            job.trail.end()
            raise
        self.redeemer.journal.begun(session, client=order.session.client, leg=order.leg, blocks=str(leg.span))
        self.events(JobBegun(client=order.session.client, session=session, leg=order.leg, blocks=str(leg.span)))
        acceptance = Acceptance(
            session=session,
            leg=order.leg,
            terms=terms_hash(terms),
            cached=job.cached,
            replays=job.cached > 0 and job.replays,
            nonces=chain.anchor,
        )
        return seal(acceptance, self.key)

    async def _refuse(self, order: JobOrder, stored: StoredVoucher, error: PeerError | UnreachableError) -> bytes:
        session = session_id(order.session)
        # What is discharged is not redeemed: the first voucher is given up before the word is out.
        await self.redeemer.refuse(session, stored)
        self.events(OrderRefused(client=order.session.client, session=session, code=error.code, reason=error.message))
        nothing = Discharge(session=session, leg=order.leg, amount=0)
        refusal = Refusal(
            session=session,
            leg=order.leg,
            code=error.code,
            reason=to_plain_text(error.message, 512),
            retry_s=error.retry_s if isinstance(error, RefusedError) else 0,
            discharge=sign_typed(self.settlement.domain, nothing, self.key),
        )
        return seal(refusal, self.key)


def _check_shape(order: JobOrder, offer: Offer, standing: Standing) -> None:
    """That the order asks for no more than was offered, and for no more credit than its client has earned here
    (docs/spec/session.md, clause O10). Raises RefusedError.
    """
    plan, limits, terms = order.terms.plan, offer.limits, order.terms
    if plan.window > limits.window or plan.chunk > limits.chunk:
        most = f"windows of {limits.window} tokens and chunks of {limits.chunk}"
        raise RefusedError(f"this node serves {most} at most", code="window")
    price_out = terms.legs[order.leg].rates.price_out
    credit = granted_credit(standing, price_out=price_out, window=plan.window, least=limits.credit)
    if terms.credit > credit:
        raise RefusedError(f"this node serves this client {credit} tokens unpaid at most", code="credit")
    if terms.speculation.depth > limits.draft_depth:
        raise RefusedError(f"this node verifies {limits.draft_depth} drafted tokens at most", code="speculation")
    if terms.speculation.flights > FLIGHTS:
        raise RefusedError(f"this node takes {FLIGHTS} passes with drafts ahead at most", code="speculation")


def _next_of(order: JobOrder, *, now: int) -> Next | None:
    """Where the leg after this one is dialled: what its own offer says, while it is in force, and nothing else.

    Raises PeerError.
    """
    terms = order.terms
    if len(terms.route) == 1 or order.leg >= len(terms.route):
        return None
    leg = terms.route[(order.leg + 1) % len(terms.route)]
    if keccak256(order.next_offer) != leg.offer:
        raise RefusedError("the next leg's offer is not the one in the terms", code="next-unreachable")
    offer = check_offer_of(leg, order.next_offer, terms, now=now)
    return Next(leg.public_key, offer.data_addresses)
