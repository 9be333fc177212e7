"""What others ask for the same work: the ground of a price that follows the book."""

from __future__ import annotations

from collections.abc import Iterable

from protocol.identity.ids import BlockSpan
from protocol.market.offer import Offer
from protocol.market.pricing import Comparable, median_of
from protocol.units import ceil_div

__all__ = ["comparable"]


def comparable(offers: Iterable[Offer], *, own: bytes, model: bytes, span: BlockSpan) -> Comparable | None:
    """The medians of what others ask for a model's tokens, scaled to so many blocks; None where nobody else offers it.

    Each provider counts once, with its cheapest offer by the block: many offers under one key weigh no more than one.
    Keys cost nothing, so somebody with many of them can move the median; below its floor that draws nobody.

    Args:
        own: public key of who compares.
    """
    cheapest: dict[bytes, tuple[int, int]] = {}
    for offer in offers:
        if offer.public_key != own and offer.model == model:
            held = len(offer.span)
            asked = (
                ceil_div(offer.rates.price_out * len(span), held),
                ceil_div(offer.rates.price_in * len(span), held),
            )
            cheapest[offer.public_key] = min(asked, cheapest.get(offer.public_key, asked))
    median_out = median_of([out for out, _ in cheapest.values()])
    median_in = median_of([in_ for _, in_ in cheapest.values()])
    return None if median_out is None or median_in is None else Comparable(median_in, median_out)
