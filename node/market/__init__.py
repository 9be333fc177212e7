"""Offers: the book of those heard, the advertiser that makes and renews a node's own, and the lookout for
it; and the exchange by which what gossip lost is asked of neighbours.

Trust: whoever holds this can withhold offers or flood the book up to its bounds; it can forge none.
"""

from __future__ import annotations

from node.market.advertiser import Advertiser
from node.market.book import OfferBook, VerifiedOffer, verify_offer
from node.market.exchange import EXCHANGE_S, Exchange
from node.market.gate import OfferGate, picked
from node.market.lookout import Lookout

__all__ = [
    "EXCHANGE_S",
    "Advertiser",
    "Exchange",
    "Lookout",
    "OfferBook",
    "OfferGate",
    "VerifiedOffer",
    "picked",
    "verify_offer",
]
