"""Which of some nodes are reserved to take over from a leg that fails, and for which blocks."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.identity.ids import BlockSpan
from protocol.market.offer import Offer
from protocol.market.rates import share
from protocol.policy.ends import TrustedEnds, opened
from protocol.policy.policy import Policy
from protocol.routing.lawful_ways import lawful_standbys
from protocol.routing.routes import MAX_LEGS, RouteLeg
from protocol.session.agreement import common_activations
from protocol.session.healing import choose_standbys

__all__ = ["by_block", "stand_by"]


def by_block(offer: Offer) -> int:
    """Thousandths of its price for one block, prompt and generated tokens together: to compare."""
    return 1_000 * (offer.rates.price_in + offer.rates.price_out) // len(offer.span)


def stand_by(
    legs: Sequence[RouteLeg],
    spares: Sequence[Offer],
    *,
    most: int,
    policy: Policy,
    until: int,
    ends: TrustedEnds | None,
    blocks: int,
) -> list[RouteLeg]:
    """Those who stand by, each for all that it may be used for: whom it will replace, nobody knows yet.

    Args:
        legs: of the route.
        spares: offers that the policy admits, of nodes that are on no leg.
        most: so many at most.
        until: Unix seconds, until when the law has to hold.
        ends: who alone may serve the first and last blocks; a standby that may not, stands by for others.
        blocks: of the whole model.
    """
    route = [leg.offer for leg in legs]
    alike = [offer for offer in spares if set(offer.activations) >= {common_activations(route)}]
    useful = opened(ends, lawful_standbys(policy, route, sorted(alike, key=by_block), until), blocks)
    chosen = choose_standbys([leg.span for leg in legs], [span for _, span in useful], min(most, MAX_LEGS - len(legs)))
    return [_leg(*useful[at]) for at in chosen]


def _leg(offer: Offer, span: BlockSpan) -> RouteLeg:
    rates = share(offer.rates, len(span), len(offer.span))
    return RouteLeg(offer, span, price_in=rates.price_in, price_out=rates.price_out)
