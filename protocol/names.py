"""Names on the network: gossip topics, request protocols, and what the data plane is called.

A change of what travels under a name is a new number (docs/spec/wire.md, clause W5).
"""

from __future__ import annotations

__all__ = [
    "BOOK_PROTOCOL",
    "CHALLENGE_PROTOCOL",
    "CHECKPOINTS_TOPIC",
    "DATA_ALPN",
    "LACKING_PROTOCOL",
    "MODEL_PROTOCOL",
    "OFFERS_TOPIC",
    "ORDER_PROTOCOL",
    "TIME_PROTOCOL",
]

OFFERS_TOPIC = "joulemesh/offers/2"
"""Sealed offers, re-sent until they expire."""
CHECKPOINTS_TOPIC = "joulemesh/checkpoints/1"
"""Signed checkpoints of ledgers, so that one that shows different people different histories is caught."""
BOOK_PROTOCOL = "/joulemesh/offers/2"
"""Ask a peer for every offer that it knows."""
LACKING_PROTOCOL = "/joulemesh/lacking/1"
"""Ask a peer for offers that it knows and the asker does not."""
MODEL_PROTOCOL = "/joulemesh/model/3"
"""Ask a provider for its model's manifest, for one of the files that a client needs, or for chunks of any of them."""
ORDER_PROTOCOL = "/joulemesh/order/2"
"""Send a provider a signed order."""
TIME_PROTOCOL = "/joulemesh/time/1"
"""Ask an anchor to time the asker, and to sign for it."""
CHALLENGE_PROTOCOL = "/joulemesh/challenge/1"
"""An anchor's nonces, and a node's signatures over them, while it is timed."""
DATA_ALPN = "joulemesh-data/2"
"""Negotiated in the data plane's handshake, so that no other protocol of the same key is mistaken for it."""
