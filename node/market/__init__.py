"""Offers: the book of those heard, and the advertiser that makes and renews a node's own.

Trust: whoever holds this can withhold offers or flood the book up to its bounds; it can forge none.
"""

from __future__ import annotations

from node.market.advertiser import Advertiser
from node.market.book import OfferBook, VerifiedOffer, verify_offer

__all__ = ["Advertiser", "OfferBook", "VerifiedOffer", "verify_offer"]
