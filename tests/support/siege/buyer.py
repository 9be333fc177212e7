"""A hostile client by hand: sessions that are really open, orders as it pleases, links that say what it likes."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from node.ledger import LedgerClient
from node.model_directory import model_manifest
from node.p2p.direct import DataPlane, Link
from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime
from node.pipeline.buying.job import Deal, make_deal
from protocol.encoding.codec import Message, decode, encode
from protocol.errors import RefusedError
from protocol.identity.ids import BlockSpan, ModelManifest
from protocol.identity.peer_id import peer_id_of
from protocol.identity.signing import SigningKey, open_envelope, seal
from protocol.market.offer import Offer
from protocol.names import ORDER_PROTOCOL
from protocol.policy.policy import Evidence, LatencyClass, Policy
from protocol.routing.routes import RouteLeg
from protocol.session.agreement import Chosen, make_orders
from protocol.session.frames import LEG_FRAMES, Attach, Prompt
from protocol.session.messages import Session, SignedVoucher, session_id, sign_voucher
from protocol.session.order import Acceptance, JobOrder, Refusal
from protocol.session.receipt import token_bytes
from protocol.session.tab import first_voucher
from protocol.session.terms import Plan, SamplingTerms
from siege.attack import Budget, Target
from siege.forged import real_offers

__all__ = ["Buyer", "Leg", "buyer", "buyers"]

PROMPT = (5, 6, 7)
FRESH_S = 20.0
"""Offers that are older are asked for again."""
PLAY_MICRO = 1_000_000
Leg = tuple[Offer, bytes, BlockSpan]
"""An offer, its sealed bytes, and the blocks that are wanted of it."""


def policy(precision: str) -> Policy:
    return Policy(
        latency_class=LatencyClass.BATCH, max_price_in=None, max_price_out=None, allow=(), deny=(),
        min_evidence=Evidence.CLAIMED, min_stake=0, precision=precision,
    )  # fmt: skip


@dataclass(slots=True)
class Buyer:
    """One key with some money, and everything that it acts through."""

    target: Target
    key: SigningKey
    ledger: LedgerClient
    host: P2PHost
    plane: DataPlane
    manifest: ModelManifest
    paid: int = 0
    """Micro-units that are gone for good: first vouchers that nodes took, and fees."""
    _offers: list[tuple[Offer, bytes]] = field(default_factory=list)
    _asked_at: float = 0.0
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def offers(self) -> list[tuple[Offer, bytes]]:
        """Of the nodes, first block to last, none too old."""
        async with self._asking:  # a node refuses a peer that asks for its book several times at once
            if time.monotonic() - self._asked_at > FRESH_S:
                found = await real_offers(self.host, self.target)
                self._offers = sorted(found, key=lambda each: each[0].span.start)
                self._asked_at = time.monotonic()
            return self._offers

    async def whole_route(self) -> list[Leg]:
        """All nodes, each with all that it offers."""
        return [(offer, sealed, offer.span) for offer, sealed in await self.offers()]

    def deal(self, legs: Sequence[Leg], *, most: int = 16, window: int = 16, life_s: int = 300) -> Deal:
        route = [
            Chosen(RouteLeg(offer, span, price_in=offer.rates.price_in, price_out=offer.rates.price_out), sealed)
            for offer, sealed, span in legs
        ]
        return make_deal(
            route,
            manifest=self.manifest,
            venue=self.ledger.domain.separator,
            policy=policy(self.manifest.precision),
            plan=Plan(prompt=len(PROMPT), most=most, chunk=16, window=window),
            sampling=SamplingTerms(temperature_milli=0, seed=0),
            prompt=PROMPT,
            client=self.key.address,
            expiry=int(time.time()) + life_s,
            randomness=secrets.token_bytes,
        )

    def first(self, session: Session, deal: Deal) -> SignedVoucher:
        return sign_voucher(self.ledger.domain, first_voucher(session, deal.terms), self.key)

    async def orders(self, deal: Deal) -> tuple[JobOrder, ...]:
        """Open the session; the order of each leg. Raises RuleError where the money is gone."""
        opened = await self.ledger.open(deal.session, self.key)
        self.paid += (await self.ledger.rules()).fee
        return make_orders(
            deal.terms,
            deal.session,
            pay=self.first(deal.session, deal),
            opened=opened,
            offers=[chosen.sealed for chosen in deal.legs],
            issued_at=int(time.time()),
        )

    async def ask(self, order: JobOrder) -> str:
        """Order at its leg: empty where it was taken, else the code of the refusal.

        Raises LostPeerError, LocalError: nobody has heard it.
        """
        leg = order.terms.legs[order.leg]
        peer = peer_id_of(leg.public_key)
        try:
            reply = await self.host.request(peer, ORDER_PROTOCOL, seal(order, self.key))
        except RefusedError as error:
            return error.code
        answer, _ = open_envelope(reply, Acceptance, Refusal)
        if isinstance(answer, Refusal):
            return answer.code
        self.paid += order.pay.voucher.amounts[order.leg]
        return ""

    async def attach(self, deal: Deal, leg: int) -> Link:
        offer = deal.offer(leg)
        link = await self.plane.connect(offer.data_addresses[0], offer.public_key)
        await link.send(encode(Attach(session=session_id(deal.session))))
        return link

    async def take_all(self, deal: Deal) -> tuple[list[Link], str]:
        """Order at every leg and attach to it; the links, or the first refusal's code."""
        orders = await self.orders(deal)
        for code in await asyncio.gather(*map(self.ask, orders)):
            if code:
                return [], code
        return [await self.attach(deal, order.leg) for order in orders], ""

    async def prompt(self, deal: Deal, link: Link) -> None:
        frame = Prompt(session=session_id(deal.session), position=0, length=len(PROMPT))
        await link.send(encode(frame), token_bytes(PROMPT))

    async def free(self) -> int:
        return (await self.ledger.account(self.key.address)).free


def read_frame(header: bytes) -> Message:
    frame: Message = decode(header, *LEG_FRAMES)
    return frame


@asynccontextmanager
async def buyer(target: Target, budget: Budget) -> AsyncIterator[Buyer]:
    """A new key with as much as the budget says, connected to every node."""
    key = SigningKey(secrets.token_bytes(32))
    async with (
        LedgerClient(target.ledger) as ledger,
        TrioRuntime.open() as runtime,
        P2PHost.open(runtime, key.secret) as host,
        DataPlane(key.secret) as plane,
    ):
        await ledger.connect()
        money = {Budget.NOTHING: 0, Budget.ONE_JOB: target.budget_micro, Budget.PLAY: PLAY_MICRO}[budget]
        if money:
            await ledger.faucet(key.address, money)
        for node in target.nodes:
            await host.connect(node.peer, timeout_s=20.0)
        manifest = await asyncio.to_thread(model_manifest, Path(target.model))
        yield Buyer(target, key, ledger, host, plane, manifest)


@asynccontextmanager
async def buyers(target: Target, budget: Budget, count: int) -> AsyncIterator[list[Buyer]]:
    """So many of them, each with as much as the budget says; who carries their orders is one and the same peer."""
    async with buyer(target, budget) as first, AsyncExitStack() as stack:
        crowd = [first]
        money = await first.free()
        for _ in range(count - 1):
            key = SigningKey(secrets.token_bytes(32))
            plane = await stack.enter_async_context(DataPlane(key.secret))
            if money:
                await first.ledger.faucet(key.address, money)
            crowd.append(dataclasses.replace(first, key=key, plane=plane))
        yield crowd
