"""How far apart places on the ground are, and how far light comes in a round trip.

A signal in glass fibre goes at two thirds of the speed of light. A round trip that is shorter than light in fibre takes
to a place and back was not to that place; a longer one shows nothing, since anybody can answer late. Whoever is reached
mostly by microwave or by satellites in low orbit can be nearer in time than fibre: the bound is for machines in racks.
"""

from __future__ import annotations

import math
from typing import Annotated

from protocol.encoding.codec import Message, Uint, message
from protocol.geography.country_discs import DISCS
from protocol.geography.jurisdictions import country_of

__all__ = ["Point", "distance_m", "least_m", "point", "reach_m"]

EARTH_M = 6_371_009
"""Mean radius. The true shape differs by less than 0.6 %, which the discs' own slack is not meant for: so does
`ROUND_PPM`."""
ROUND_PPM = 6_000
LIGHT_M_PER_S = 299_792_458
_HALF_TURN = 180_000_000
_QUARTER = 90_000_000


@message()
class Point(Message):
    """A place on the ground, in millionths of a degree, counted so that no number is negative."""

    north: Annotated[int, Uint(32, 2 * _QUARTER)]
    """From the south pole."""
    east: Annotated[int, Uint(32, 2 * _HALF_TURN)]
    """From the 180th meridian."""

    @property
    def degrees(self) -> tuple[float, float]:
        """North and east, as people write them."""
        return (self.north - _QUARTER) / 1e6, (self.east - _HALF_TURN) / 1e6


def point(north: float, east: float) -> Point:
    """The point at so many degrees. Raises InvalidError where there is none."""
    return Point(north=round(north * 1e6) + _QUARTER, east=round(east * 1e6) + _HALF_TURN)


def distance_m(one: tuple[float, float], other: tuple[float, float]) -> int:
    """Metres between two points in degrees, along the ground."""
    (north, east), (north2, east2) = (map(math.radians, each) for each in (one, other))
    half = math.sin((north2 - north) / 2) ** 2 + math.cos(north) * math.cos(north2) * math.sin((east2 - east) / 2) ** 2
    return round(2 * EARTH_M * math.asin(min(1.0, math.sqrt(half))))


def least_m(place: str, seen_from: Point) -> int:
    """Metres from a point to the nearest that a machine in `place` can be: at least so many.

    Args:
        place: a country; of a part of one its country is meant.
    """
    at = seen_from.degrees
    nearest = min(distance_m(at, (north, east)) - 1000 * km for north, east, km in DISCS[country_of(place)])
    return max(0, nearest - nearest * ROUND_PPM // 1_000_000)


def reach_m(round_trip_us: int) -> int:
    """Metres that light in fibre goes in half of a round trip: who answered is no further away."""
    return round_trip_us * LIGHT_M_PER_S // 3_000_000
