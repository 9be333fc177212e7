"""How long messages are under way: from a client to an offer's machine, and between the regions of machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from protocol.cells import Ints
from protocol.columns import Column, Columns
from protocol.errors import ConfigurationError
from protocol.units import ceil_div

__all__ = ["MAX_RTT_US", "ONE_REGION", "UNKNOWN_RTT_US", "Regions", "Ways", "round_trips_by_provider", "ways_by_region"]

UNKNOWN_RTT_US = 100_000
"""Round trip assumed to a provider that was not measured: from one continent to the next."""
MAX_RTT_US = 10_000_000
"""Longer ones count as this."""


@dataclass(frozen=True, slots=True)
class Regions:
    """What is known of the distances between providers. Raises ConfigurationError where it contradicts itself."""

    of: Mapping[bytes, int] = field(default_factory=dict)
    """Region by public key; 0 for those not listed."""
    one_way_us: tuple[tuple[int, ...], ...] = ((0,),)
    """Microseconds from region to region, on top of the access of both ends."""

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
    return Ways(
        access_us=ceil_div(round_trips_by_provider(columns, rtt_us), 2),
        region=region[columns.at(Column.PROVIDER)],
        between_us=np.minimum(np.array(regions.one_way_us, dtype=np.int64), MAX_RTT_US),
    )
