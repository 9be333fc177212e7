"""Where data may go: from where they come, and from leg to leg (docs/spec/market.md, clause M74).

Data stay in a country, go home, or follow a corridor that is open for what they are used for. Corridors are not joined:
what may go from A to B, and from B to C, may not therefore go from A to C.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from protocol.blocs import BLOCS_NOW
from protocol.codec import Message, TextSize, message
from protocol.ids import U40, Name
from protocol.jurisdictions import UNDECLARED, country_of, is_in

if TYPE_CHECKING:
    from protocol.policy import Policy

__all__ = ["Area", "Corridor", "lawful_hop", "may_pass", "unlawful_hop"]

Area = Annotated[str, TextSize(16)]
"""A country, a part of one, or a bloc (`blocs.BLOCS`)."""


@message()
class Corridor(Message):
    """Leave for data to go from one area to another."""

    source: Area
    to: Area
    purpose: Name
    """What the data may be used for there; it counts for jobs of this very purpose."""
    expires_at: U40
    """Unix seconds; it must last as long as the session."""


def lawful_hop(
    corridors: Sequence[Corridor],
    source: Sequence[str],
    to: Sequence[str],
    *,
    purpose: str,
    home: str,
    until: int,
    blocs: str = BLOCS_NOW,
) -> bool:
    """Whether data may go from machines in all of `source` to machines in all of `to`.

    Args:
        source, to: countries or parts of them; a leg may stand in several.
        home: where the data come from.
        until: unix seconds; a corridor that ends before is none.
        blocs: the table that areas are read by.
    """
    open_now = [each for each in corridors if each.purpose == purpose and each.expires_at >= until]
    return all(_may(open_now, one, other, home, blocs) for one in source for other in to)


def _may(corridors: Sequence[Corridor], source: str, to: str, home: str, blocs: str) -> bool:
    if UNDECLARED in (source, to):
        return False
    if country_of(to) in (country_of(source), country_of(home)):
        return True
    return any(is_in(source, each.source, blocs) and is_in(to, each.to, blocs) for each in corridors)


def may_pass(policy: Policy, source: Sequence[str], to: Sequence[str], until: int) -> bool:
    """Whether a policy lets data go from machines in all of `source` to machines in all of `to`, until then.

    It holds of every hop: from the origin to each leg, from leg to leg, and from the last leg to the first.
    """
    if not policy.origin:
        return True
    return lawful_hop(
        policy.corridors, source, to, purpose=policy.purpose, home=policy.origin, until=until, blocs=policy.blocs
    )


def unlawful_hop(policy: Policy, legs: Sequence[Sequence[str]], until: int) -> tuple[int, int] | None:
    """The first hop of a route that a policy forbids, from leg to leg; None where there is none.

    Args:
        legs: the places of each (`residency.places_of`), in the order of the route.
    """
    ring = [(leg, (leg + 1) % len(legs)) for leg in range(len(legs))] if len(legs) > 1 else []
    return next((hop for hop in ring if not may_pass(policy, legs[hop[0]], legs[hop[1]], until)), None)
