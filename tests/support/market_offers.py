"""Offers and policies for the market's tests: valid unless a test changes a field."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from protocol.ids import BlockSpan
from protocol.offer import EnergyClaim, Evidence, Offer, Provenance
from protocol.policy import LatencyClass, Policy
from protocol.signing import SigningKey

NOW = 1_800_000_000
MODEL = b"\x11" * 32
VENUE = b"\x22" * 32


@cache
def key_of(number: int) -> SigningKey:
    """A fixed key for each number."""
    return SigningKey(hashlib.sha256(b"market test key %d" % number).digest())


def an_offer(number: int = 0, blocks_served: tuple[int, int] = (0, 4), **changes: Any) -> Offer:
    """A valid offer by key `number` of the first four blocks, or those `blocks_served`, of a model of four."""
    values: dict[str, Any] = {
        "public_key": key_of(number).public_key,
        "sequence": 1,
        "issued_at": NOW - 10,
        "expires_at": NOW + 120,
        "venue": VENUE,
        "model": MODEL,
        "model_name": "demo",
        "span": BlockSpan(start=blocks_served[0], end=blocks_served[1]),
        "blocks": 4,
        "precision": "fp32",
        "kv_tokens": 4096,
        "position_us": 1000,
        "price_in": 100_000,
        "price_out": 300_000,
        "energy": EnergyClaim(
            millijoules_per_token=500,
            source=Provenance.MODEL,
            tariff_micro_per_kwh=80_000,
            pue_milli=1100,
            carbon_g_per_kwh=None,
            batch=4,
        ),
        "jurisdiction": "FR",
        "evidence": Evidence.CLAIMED,
        "stake": 0,
        "addresses": ("/ip4/127.0.0.1/tcp/4001/p2p/16Uiu2HAm",),
        "data_address": "/ip4/127.0.0.1/tcp/4002/tls",
    }
    return Offer(**{**values, **changes})


def a_policy(**changes: Any) -> Policy:
    """A policy that every offer above meets."""
    values: dict[str, Any] = {
        "latency_class": LatencyClass.CHAT,
        "max_price_in": None,
        "max_price_out": None,
        "allow": (),
        "deny": (),
        "min_evidence": Evidence.CLAIMED,
        "min_stake": 0,
        "precision": "fp32",
    }
    return Policy(**{**values, **changes})
