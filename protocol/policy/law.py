"""What the hashes in a policy stand for, and what follows from it for an offer: its place, backed or not.

A policy travels with every order, so it names whom a client trusts and which lists it obeys by their hashes. `Law`
holds what is behind them, for whoever judges: the client, and later anybody who holds its receipt.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protocol.geography.jurisdictions import country_of
from protocol.market.offer import Offer
from protocol.policy.denials import InForce, OpenDenials, in_force
from protocol.policy.residency import NOT_BACKED, Backing, backing_of, places_of, said_of
from protocol.policy.trust import Trust, trust_hash

__all__ = ["NO_LAW", "Law", "coarse"]


@dataclass(frozen=True)
class Law:
    """What an offer is judged by besides the policy itself."""

    trust: Trust | None = None
    """Whose word on places counts; None for nobody's."""
    lists: tuple[OpenDenials, ...] = ()
    """All that the policy names; what is missing here makes every offer unlawful."""
    until: int = 0
    """Unix seconds: corridors, lists and statements have to hold until then."""

    @functools.cached_property
    def trust_hash(self) -> bytes | None:
        """How a policy names the trust."""
        return None if self.trust is None else trust_hash(self.trust)

    @functools.cached_property
    def listed(self) -> frozenset[bytes]:
        """Hashes of the lists."""
        return frozenset(each.hash for each in self.lists)

    @functools.cached_property
    def denied(self) -> InForce:
        """What the lists deny together."""
        return in_force(self.lists, self.until)

    def backing(self, offer: Offer, areas: Sequence[str], *, now: int, own_us: int | None) -> Backing:
        """How far the places of an offer are backed, as finely as these areas tell places apart.

        Args:
            areas: what the policy names; `backing_of` has the others.
        """
        if self.trust is None:
            return NOT_BACKED
        return backing_of(
            [coarse(place, areas) for place in places_of(offer)],
            said_of(offer),
            self.trust,
            now=now,
            until=max(now, self.until),
            revoked=self.denied.revoked,
            own_us=own_us,
        )


NO_LAW = Law()


def coarse(place: str, areas: Iterable[str]) -> str:
    """A place as finely as it matters: its country, unless one of the areas is a part of that country."""
    country = country_of(place)
    return place if any(each.startswith(f"{country}-") for each in areas) else country
