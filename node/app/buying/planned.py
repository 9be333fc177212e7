"""A route as it would be taken now, for people and programs: legs, what they cost and take, who stands by, why not
others. Nothing is paid or reserved for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protocol.identity.ids import ModelManifest, checksum_address
from protocol.identity.signing import address_of_public_key
from protocol.market.offer import Offer
from protocol.routing.routes import Explained, Route, RouteLeg
from protocol.units import ceil_div

__all__ = ["Backup", "PassedOver", "PlannedLeg", "PlannedRoute", "planned", "why_not"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLeg:
    """One provider's part."""

    provider: str
    """Its address."""
    jurisdiction: str
    """Where it says that it stands: ISO 3166-1 alpha-2, or ``ZZ``."""
    region: str
    """ISO 3166-2, or empty where it does not say."""
    places: tuple[str, ...]
    """Where else machines behind its offer stand."""
    blocks: str
    """``START:END``, the end not included."""
    offered: str
    """All blocks that its offer is for."""
    price_in_micro: int
    """Micro-units per million prompt tokens for these blocks."""
    price_out_micro: int
    """Micro-units per million generated tokens for these blocks."""
    position_us: int
    """Microseconds that one token takes in these blocks, by its offer."""
    round_trip_us: int | None
    """Microseconds to it and back, as measured from here; None where it was not."""
    standbys: tuple[str, ...]
    """Addresses of the best providers that could take its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """An offer that the route does without, and why."""

    provider: str
    """Its address."""
    jurisdiction: str
    """Where it says that it stands."""
    blocks: str
    """``START:END``, the end not included."""
    code: str
    """For programs."""
    reason: str
    """For people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A route of other providers alone."""

    providers: tuple[str, ...]
    """Addresses, in order of their blocks."""
    blocks: tuple[str, ...]
    """``START:END`` of each, the end not included."""
    price_in_micro: int
    """Micro-units per million prompt tokens, all legs."""
    price_out_micro: int
    """Micro-units per million generated tokens, all legs."""
    token_us: int
    """Microseconds that one token takes round the ring, expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRoute:
    """The best route on the offers of now."""

    model: str
    """Its name."""
    root: str
    """What offers name it by, in hex."""
    blocks: int
    """Transformer blocks in the whole model."""
    legs: tuple[PlannedLeg, ...]
    """In order of their blocks."""
    price_in_micro: int
    """Micro-units per million prompt tokens, all legs."""
    price_out_micro: int
    """Micro-units per million generated tokens, all legs."""
    token_us: int
    """Microseconds that one token takes round the ring, expected."""
    first_token_us: int | None
    """Microseconds to the first token at most, by the offers' own figures; None where there is no prompt."""
    gap_micro: int
    """No route within the limits is cheaper by more than this, in micro-units per million tokens, time included."""
    not_taken: tuple[PassedOver, ...]
    """Every other offer of the model."""
    backups: tuple[Backup, ...]
    """The best routes without any provider of this one, nor of one another; empty where none were asked for."""


def planned(manifest: ModelManifest, route: Route, round_trips: Mapping[bytes, int]) -> PlannedRoute:
    """What is to be said of a route.

    Args:
        round_trips: microseconds by public key, as measured.
    """
    standbys = route.standbys or ((),) * len(route.legs)
    return PlannedRoute(
        model=manifest.name,
        root=manifest.root.hex(),
        blocks=manifest.blocks,
        legs=tuple(_leg(leg, others, round_trips) for leg, others in zip(route.legs, standbys, strict=True)),
        price_in_micro=route.price_in,
        price_out_micro=route.price_out,
        token_us=route.latency_us,
        first_token_us=route.first_us,
        gap_micro=route.gap,
        not_taken=why_not(route.explanations),
        backups=tuple(map(_backup, route.backups)),
    )


def _backup(route: Route) -> Backup:
    return Backup(
        providers=tuple(_address(leg.offer) for leg in route.legs),
        blocks=tuple(str(leg.span) for leg in route.legs),
        price_in_micro=route.price_in,
        price_out_micro=route.price_out,
        token_us=route.latency_us,
    )


def _leg(leg: RouteLeg, standbys: Sequence[RouteLeg], round_trips: Mapping[bytes, int]) -> PlannedLeg:
    offer, span = leg.offer, leg.span
    return PlannedLeg(
        provider=_address(offer),
        jurisdiction=offer.jurisdiction,
        region=offer.region,
        places=offer.places,
        blocks=str(span),
        offered=str(offer.span),
        price_in_micro=leg.price_in,
        price_out_micro=leg.price_out,
        position_us=ceil_div(offer.position_us * len(span), len(offer.span)),
        round_trip_us=round_trips.get(offer.public_key),
        standbys=tuple(_address(each.offer) for each in standbys),
    )


def why_not(explanations: Sequence[Explained]) -> tuple[PassedOver, ...]:
    """Offers that are not used, with the reason."""
    return tuple(
        PassedOver(
            provider=_address(offer),
            jurisdiction=offer.jurisdiction,
            blocks=str(offer.span),
            code=str(reason.code),
            reason=reason.sentence,
        )
        for offer, reason in explanations
    )


def _address(offer: Offer) -> str:
    return checksum_address(address_of_public_key(offer.public_key))
