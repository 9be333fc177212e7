"""What a node offers now, and whether an order suits it: its policy, its price and its floor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from node.energy import Energy, Pricing, check_floor
from node.ports import Clock
from protocol.errors import RefusedError
from protocol.ids import BlockSpan, ModelManifest
from protocol.offer import EnergyClaim, Evidence, Offer
from protocol.order import JobOrder
from protocol.policy import excluded
from protocol.units import ceil_div, format_micro

__all__ = ["Site", "Terms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a node stands and how it is reached."""

    jurisdiction: str
    carbon_g_per_kwh: int | None
    addresses: Sequence[str]
    """libp2p multiaddrs."""
    data_address: str


@dataclass(slots=True, kw_only=True)
class Terms:
    """Makes a node's offers, and remembers the prices that it has published and still has to honour."""

    public_key: bytes
    manifest: ModelManifest
    span: BlockSpan
    venue: bytes
    site: Site
    energy: Energy
    pricing: Pricing
    position_us: int
    """Microseconds for one decoded position through the span, measured at start."""
    kv_room: Callable[[], int]
    utilisation_ppm: Callable[[], int]
    clock: Clock
    published: list[tuple[int, int]] = field(default_factory=list)
    """(expiry, ask) of offers that are still in force."""

    def describe(self) -> Offer:
        """The offer to publish now; the advertiser fills in its times. Its price is remembered, to be honoured.

        Raises ConfigurationError where no price is safe.
        """
        offer, now = self.offer(), self.clock()
        self.published = [*(each for each in self.published if each[0] > now), (now + HONOUR_S, offer.price_out)]
        return offer

    def offer(self) -> Offer:
        """What this node could offer now, dated with the second that it is made in."""
        figure = self.energy.figure()
        quote = self.pricing.quote(
            None if figure is None else figure.millijoules_per_token, utilisation_ppm=self.utilisation_ppm()
        )
        claim = None
        if figure is not None:
            claim = EnergyClaim(
                millijoules_per_token=figure.millijoules_per_token,
                source=figure.source,
                tariff_micro_per_kwh=self.pricing.tariff.micro_per_kwh,
                pue_milli=self.pricing.pue_milli,
                carbon_g_per_kwh=self.site.carbon_g_per_kwh,
                batch=figure.batch,
            )
        now = self.clock()
        return Offer(
            public_key=self.public_key,
            sequence=0,
            issued_at=now,
            expires_at=now + 1,
            venue=self.venue,
            model=self.manifest.root,
            model_name=self.manifest.name,
            span=self.span,
            blocks=self.manifest.blocks,
            precision=self.manifest.precision,
            kv_tokens=self.kv_room(),
            position_us=self.position_us,
            price_in=quote.ask,
            price_out=quote.ask,
            energy=claim,
            jurisdiction=self.site.jurisdiction,
            evidence=Evidence.CLAIMED,
            stake=0,
            addresses=tuple(self.site.addresses)[:8],
            data_address=self.site.data_address,
        )

    def suits(self, order: JobOrder) -> None:
        """Hold an admitted order against this node's own terms.

        A job that goes through some of the blocks pays that share of the price for all.

        Raises RefusedError: its policy excludes this node, or it pays below the floor or below every ask in force.
        """
        leg, now = order.session.legs[order.leg], self.clock()
        used, held = len(order.hops[order.leg].span), len(self.span)
        figure = self.energy.figure()
        quote = self.pricing.quote(None if figure is None else figure.millijoules_per_token)
        check_floor(leg, ceil_div(quote.floor * used, held))
        asks = [ceil_div(ask * used, held) for expiry, ask in self.published if expiry > now]
        paid = min(leg.price_in, leg.price_out)
        if asks and paid < min(asks):
            raise RefusedError(
                f"the session pays {format_micro(paid)} per 1M tokens, and this node asks {format_micro(min(asks))}",
                code="below-ask",
            )
        reason = excluded(order.policy, self.offer(), model=self.manifest.root, venue=self.venue, now=now)
        if reason is not None:
            raise RefusedError(f"the job's policy excludes this node: {reason.sentence}", code=str(reason.code))


HONOUR_S = 130
"""Seconds for which an offer's price is honoured: its time to live, and some for clocks and the way."""
