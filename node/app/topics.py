"""Names on the network: gossip topics and request protocols."""

from __future__ import annotations

OFFERS_TOPIC = "joulemesh/offers/1"
"""Sealed offers, re-sent until they expire."""
CHECKPOINTS_TOPIC = "joulemesh/checkpoints/1"
"""Signed checkpoints of ledgers, so that one that shows different people different histories is caught."""
BOOK_PROTOCOL = "/joulemesh/offers/1"
"""Ask a peer for every offer that it knows."""
MODEL_PROTOCOL = "/joulemesh/model/1"
"""Ask a provider for its model's manifest, or for one of the files that a client needs."""
ORDER_PROTOCOL = "/joulemesh/order/1"
"""Send a provider a signed order."""
