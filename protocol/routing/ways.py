"""How long messages are under way: from a client to an offer's machine, and between the regions of machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from protocol.errors import ConfigurationError
from protocol.identity.signing import address_of_public_key
from protocol.market.offer import Offer
from protocol.routing.cells import Bools, Ints
from protocol.routing.columns import Column, Columns
from protocol.units import ceil_div

__all__ = [
    "MAX_RTT_US",
    "ONE_REGION",
    "UNKNOWN_RTT_US",
    "Regions",
    "Ways",
    "measured_ways",
    "round_trips_by_provider",
    "ways_by_region",
]

UNKNOWN_RTT_US = 100_000
"""Round trip assumed to a provider that was not measured: from one continent to the next."""
MAX_RTT_US = 10_000_000
"""Longer ones count as this."""
MOST_MEASURED = 63
"""Providers whose distances to one another are told apart."""

P = TypeVar("P", bytes, tuple[str, ...])


@dataclass(frozen=True, slots=True)
class Regions:
    """What is known of the distances between providers. Raises ConfigurationError where it contradicts itself."""

    of: Mapping[bytes, int] = field(default_factory=dict)
    """Region by public key; 0 for those not listed."""
    one_way_us: tuple[tuple[int, ...], ...] = ((0,),)
    """Microseconds from region to region, on top of the access of both ends."""
    known: frozenset[bytes] = frozenset()
    """Public keys of those whose access is nothing: all that lies between them and others is in `one_way_us`."""

    def __post_init__(self) -> None:
        count = len(self.one_way_us)
        square = count > 0 and all(len(row) == count and min(row) >= 0 for row in self.one_way_us)
        if not square or not all(0 <= region < count for region in self.of.values()):
            raise ConfigurationError("distances are not a square of numbers at or above 0, or a region is not in it")


ONE_REGION = Regions()


@dataclass(frozen=True, slots=True)
class Ways:
    """A hop takes the access of both ends and the way between their regions."""

    access_us: Ints
    """(rows,) at the end that is this offer's machine."""
    region: Ints
    """(rows,) below R."""
    between_us: Ints
    """(R, R) one way."""
    barred: Bools | None = None
    """(R, R) where data must not go; None where they may go everywhere."""


def round_trips_by_provider(columns: Columns, rtt_us: Mapping[bytes, int]) -> Ints:
    """(rows,) measured round trips, `UNKNOWN_RTT_US` where there is none."""
    by_provider = np.full(max(1, columns.providers), UNKNOWN_RTT_US, dtype=np.int64)
    for key, us in rtt_us.items():
        provider = columns.provider(key)
        if provider >= 0:
            by_provider[provider] = min(us, MAX_RTT_US)
    rtt: Ints = by_provider[columns.at(Column.PROVIDER)]
    return rtt


def ways_by_region(columns: Columns, rtt_us: Mapping[bytes, int], regions: Regions) -> Ways:
    """Half a round trip to the client at either end, and between them what `regions` say."""
    region = np.zeros(max(1, columns.providers), dtype=np.int64)
    for key, number in regions.of.items():
        provider = columns.provider(key)
        if provider >= 0:
            region[provider] = number
    access_us = ceil_div(round_trips_by_provider(columns, rtt_us), 2)
    for key in regions.known:
        provider = columns.provider(key)
        if provider >= 0:
            access_us[columns.at(Column.PROVIDER) == provider] = 0
    return Ways(
        access_us=access_us,
        region=region[columns.at(Column.PROVIDER)],
        between_us=np.minimum(np.array(regions.one_way_us, dtype=np.int64), MAX_RTT_US),
    )


def measured_ways(offers: Sequence[Offer], rtt_us: Mapping[bytes, int]) -> Regions:
    """Distances between providers by what these say that they measured, as far as what the client measured allows it.

    Between two that were not measured to one another a message takes as long as by way of the client, at most; between
    two that stand in the same two places as others that were, as long as between these. Nobody comes nearer than the
    client's own round trips admit: two machines are at least as far apart as the two differ, and at most as both make
    together (docs/spec/market.md, clause M81).

    Args:
        rtt_us: the client's own round trips, by public key; only who is in it has distances.
    """
    rtt_us = {key: us for key, us in rtt_us.items() if us != UNKNOWN_RTT_US}
    said = _said(offers, rtt_us)
    if not said:
        return ONE_REGION
    keys = sorted({key for pair in said for key in pair})[:MOST_MEASURED]
    half = {key: ceil_div(min(rtt_us[key], MAX_RTT_US), 2) for key in keys}
    place = {offer.public_key: _places(offer) for offer in offers}
    between_places: dict[tuple[tuple[str, ...], ...], list[int]] = {}
    for pair, us in said.items():
        between_places.setdefault(_pair(place[pair[0]], place[pair[1]]), []).append(us)

    def one_way(left: bytes, right: bytes) -> int:
        us = said.get(_pair(left, right))
        if us is None:
            others = sorted(between_places.get(_pair(place[left], place[right]), ()))
            us = others[len(others) // 2] if others else MAX_RTT_US
        return min(max(ceil_div(us, 2), abs(half[left] - half[right])), half[left] + half[right])

    rows = [[0, *(half[key] for key in keys)]]
    rows += [[half[left], *(0 if left == right else one_way(left, right) for right in keys)] for left in keys]
    return Regions(
        of={key: number for number, key in enumerate(keys, 1)},
        one_way_us=tuple(tuple(row) for row in rows),
        known=frozenset(keys),
    )


def _said(offers: Sequence[Offer], rtt_us: Mapping[bytes, int]) -> dict[tuple[bytes, bytes], int]:
    """Round trips between two providers that the client measured; where both say something, the longer."""
    asked = [offer for offer in offers if offer.public_key in rtt_us and offer.round_trips]
    if not asked:
        return {}
    by_address: dict[bytes, bytes] = {address_of_public_key(key): key for key in rtt_us}
    said: dict[tuple[bytes, bytes], int] = {}
    for offer in asked:
        for each in offer.round_trips:
            other = by_address.get(each.address)
            if other is not None and other != offer.public_key:
                pair = _pair(offer.public_key, other)
                said[pair] = max(said.get(pair, 0), each.us)
    return said


def _places(offer: Offer) -> tuple[str, ...]:
    return (offer.region or offer.jurisdiction, *offer.places)


def _pair(left: P, right: P) -> tuple[P, P]:
    return (left, right) if left <= right else (right, left)
