"""What a node offers now, and whether an order suits it as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from node.app.selling.asks import Asks
from node.energy import Energy, Figure
from node.pipeline.serving.limits import ProviderLimits
from node.pipeline.serving.meter import Meter
from node.ports import Clock
from protocol.energy.power import most_per_token
from protocol.errors import ConfigurationError, RefusedError
from protocol.identity.ids import BlockSpan, ModelManifest
from protocol.market.offer import (
    MAX_ADDRESSES,
    MAX_STATEMENTS,
    EnergyClaim,
    Evidence,
    Hardware,
    Limits,
    Offer,
    RoundTrip,
)
from protocol.market.pricing import Costs, late_after
from protocol.models.activations import ActivationType
from protocol.models.precisions import precision_of
from protocol.policy.law import Law
from protocol.policy.policy import Known, LatencyClass, Needs, excluded
from protocol.session.order import JobOrder

__all__ = ["Site", "Speed", "Terms"]

ANYTHING = Known(evidence=Evidence.ATTESTED, stake=2**63 - 1, has_place=True)
"""How far a client believes a node, and which lists it obeys, is the client's affair: the node holds an order against
the rest of its policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a node stands, what it is made of, and how it is reached."""

    jurisdiction: str
    region: str
    """ISO 3166-2, or empty."""
    places: tuple[str, ...]
    """Where else machines of this node stand."""
    retention_s: int
    """Seconds for which prompts may be kept after a job."""
    trains: bool
    """Whether models may be trained on them."""
    hardware: Hardware
    addresses: Sequence[str]
    """libp2p multiaddrs."""
    data_addresses: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Measured at start, in a session alone, through the whole span."""

    prompt_us: int
    """For one prompt position in a chunk; at least 1."""
    position_us: int
    """For one generated token; at least 1."""


@dataclass(slots=True, kw_only=True)
class Terms:
    """Makes a node's offers. A sealed offer is honoured until it expires: an order brings it along.

    `site` may be replaced while the node runs.
    """

    public_key: bytes
    manifest: ModelManifest
    span: BlockSpan
    venue: bytes
    site: Site
    energy: Energy
    asks: Asks
    speed: Speed
    limits: ProviderLimits
    kv_room: Callable[[], int]
    free: Callable[[], int]
    """Places that a client without history would find."""
    utilisation_ppm: Callable[[], int]
    clock: Clock
    statements: Callable[[], Sequence[bytes]] = tuple
    """What others have signed about this node, the better ones first."""
    masks: str = ""
    """By which answers can be held to a grammar here."""
    round_trips: Callable[[], Sequence[RoundTrip]] = tuple
    """To likely neighbours, as measured lately."""
    require: Callable[[LatencyClass], None] = lambda _class: None
    """Raises RefusedError where no job of a class is taken now."""

    def offer(self) -> Offer:
        """What this node could offer now, dated with the second that it is made in; the advertiser fills in its times.

        Raises ConfigurationError where no price is safe.
        """
        figure = self.energy.offered()
        if figure is None:
            raise ConfigurationError(
                "what a token costs in energy is not known here, so no price would be safe",
                hint="declare it with --joules-per-token",
            )
        self._require_possible(figure)
        costs = Costs(
            millijoules_in=figure.millijoules_in,
            millijoules_out=figure.millijoules_out,
            prompt_us=self.speed.prompt_us,
            position_us=self.speed.position_us,
        )
        now, precision = self.clock(), self.manifest.precision
        known = precision_of(precision)
        supply, utilisation_ppm = self.asks.supply, self.utilisation_ppm()
        return Offer(
            public_key=self.public_key,
            sequence=0,
            issued_at=now,
            expires_at=now + 1,
            venue=self.venue,
            model=self.manifest.root,
            model_name=self.manifest.name,
            license=self.manifest.license,
            span=self.span,
            blocks=self.manifest.blocks,
            precision=precision,
            activations=(ActivationType.FP32 if known is None else known.activations,),
            hardware=self.site.hardware,
            limits=self._limits(),
            rates=self.asks.rates(costs, utilisation_ppm),
            forecast=self.asks.forecast(costs, utilisation_ppm),
            prompt_us=self.speed.prompt_us,
            position_us=self.speed.position_us,
            late_us=late_after(self.speed.position_us),
            energy=EnergyClaim(
                millijoules_in=figure.millijoules_in,
                millijoules_out=figure.millijoules_out,
                source=figure.source,
                tariff_micro_per_kwh=max(0, supply.micro_per_kwh),
                pue_milli=supply.pue_milli,
                carbon_g_per_kwh=supply.carbon_g_per_kwh,
                batch=figure.batch,
            ),
            jurisdiction=self.site.jurisdiction,
            region=self.site.region,
            addresses=tuple(self.site.addresses)[:MAX_ADDRESSES],
            data_addresses=tuple(self.site.data_addresses)[:MAX_ADDRESSES],
            statements=tuple(self.statements())[:MAX_STATEMENTS],
            places=self.site.places,
            retention_s=self.site.retention_s,
            trains=self.site.trains,
            round_trips=tuple(self.round_trips()),
            carbon_forecast=self.asks.carbon_forecast(),
            masks=self.masks,
        )

    def _require_possible(self, figure: Figure) -> None:
        """An offer with such a figure would be refused by everybody: better said here (market.md, clause M14)."""
        hardware, speed = self.site.hardware, self.speed
        for said, us in ((figure.millijoules_in, speed.prompt_us), (figure.millijoules_out, speed.position_us)):
            most = most_per_token(hardware.device, hardware.count, us)
            if said > most:
                raise ConfigurationError(
                    f"{said / 1000:g} J for a token, and this hardware can draw {most / 1000:g} J in that time",
                    hint="declare what it takes with --joules-per-token",
                )

    def _limits(self) -> Limits:
        limits = self.limits
        return Limits(
            window=limits.max_window,
            chunk=limits.max_chunk,
            context=min(self.kv_room(), self.manifest.max_context),
            sessions=self.free(),
            draft_depth=limits.draft_depth,
            credit=min(limits.credit, limits.max_window),
        )

    def suits(self, order: JobOrder, offer: Offer) -> None:
        """Hold an order against this node as it is now: it may have moved since it made that offer.

        Raises RefusedError: the order's policy excludes this node, or its power is too dear now, or wanted elsewhere.
        """
        self.require(order.terms.policy.latency_class)
        site, law = self.site, Law(until=order.session.expiry)
        moved = offer.replace(
            jurisdiction=site.jurisdiction,
            region=site.region,
            places=site.places,
            retention_s=site.retention_s,
            trains=site.trains,
        )
        reason = excluded(
            order.terms.policy.replace(lists=()),
            moved,
            model=self.manifest.root,
            venue=self.venue,
            now=self.clock(),
            needs=Needs(law=law),
            known=ANYTHING,
        )
        if reason is not None:
            raise RefusedError(f"the job's policy excludes this node: {reason.sentence}", code=str(reason.code))

    def meter(self) -> Meter:
        """What it says of its energy."""
        return Meter(account=self.energy, pue_milli=self.asks.supply.pue_milli)
