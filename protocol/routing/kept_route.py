"""Which legs of an earlier route a job may go on with: what they still hold is of use for the blocks that they ran."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.identity.ids import BlockSpan
from protocol.market.offer import Offer

__all__ = ["kept_legs"]


def kept_legs(offers: Sequence[Offer], legs: Sequence[tuple[bytes, BlockSpan]]) -> dict[bytes, BlockSpan]:
    """Which legs of an earlier route are still on offer, by public key.

    Args:
        offers: that could be used now.
        legs: public key and blocks, in the order of the route.
    """
    return {key: span for key, span in legs if any(_offers(offer, key, span) for offer in offers)}


def _offers(offer: Offer, key: bytes, span: BlockSpan) -> bool:
    return offer.public_key == key and offer.span.start <= span.start and span.end <= offer.span.end
