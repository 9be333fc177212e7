"""Offers and policies for the tests of market, orders and bundles: valid unless a test changes a field."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from protocol.identity.ids import BlockSpan, ModelFile, ModelManifest
from protocol.identity.peer_id import peer_id_of
from protocol.identity.signing import SigningKey
from protocol.market.offer import EnergyClaim, Evidence, Hardware, HardwareKind, Limits, Offer, Provenance
from protocol.market.rates import Rates
from protocol.models.activations import ActivationType
from protocol.policy.policy import LatencyClass, Policy

NOW = 1_800_000_000
MODEL = b"\x11" * 32
VENUE = b"\x22" * 32
MANIFEST = ModelManifest(
    name="demo",
    license="",
    precision="fp32",
    blocks=4,
    hidden_size=8,
    vocabulary=100,
    max_context=100,
    stop_tokens=(0,),
    files=(ModelFile(name="config.json", size=1, sha256=bytes(32), chunks=bytes(32)),),
)


@cache
def key_of(number: int) -> SigningKey:
    """A fixed key for each number."""
    return SigningKey(hashlib.sha256(b"market test key %d" % number).digest())


@cache
def address_of(number: int, at: str = "/ip4/127.0.0.1/tcp/4001") -> str:
    """Where key `number` might have its libp2p host."""
    return f"{at}/p2p/{peer_id_of(key_of(number).public_key)}"


def some_rates(**changes: Any) -> Rates:
    """What `an_offer` asks for its whole span."""
    values: dict[str, Any] = {
        "opening": 0,
        "price_in": 100_000,
        "price_out": 300_000,
        "price_cached": 0,
        "price_rejected": 0,
        "late_discount_ppm": 0,
    }
    return Rates(**{**values, **changes})


def some_limits(**changes: Any) -> Limits:
    """What `an_offer` serves at most."""
    values: dict[str, Any] = {
        "window": 64,
        "chunk": 512,
        "context": 4096,
        "sessions": 8,
        "draft_depth": 0,
        "credit": 0,
    }
    return Limits(**{**values, **changes})


def an_energy_claim(**changes: Any) -> EnergyClaim:
    """What `an_offer` says of its energy."""
    values: dict[str, Any] = {
        "millijoules_in": 50,
        "millijoules_out": 500,
        "source": Provenance.MODEL,
        "tariff_micro_per_kwh": 80_000,
        "pue_milli": 1100,
        "carbon_g_per_kwh": None,
        "batch": 4,
    }
    return EnergyClaim(**{**values, **changes})


def some_hardware(**changes: Any) -> Hardware:
    """What `an_offer` runs on."""
    values: dict[str, Any] = {
        "device": HardwareKind.CPU,
        "name": "",
        "count": 2,
        "memory_mib": 4096,
        "category": "",
    }
    return Hardware(**{**values, **changes})


_PARTS = (
    ("rates", some_rates, tuple(Rates.__dataclass_fields__)),
    ("limits", some_limits, tuple(Limits.__dataclass_fields__)),
)


def an_offer(number: int = 0, blocks_served: tuple[int, int] = (0, 4), **changes: Any) -> Offer:
    """A valid offer by key `number` of the first four blocks, or those `blocks_served`, of a model of four.

    Args:
        changes: fields of the offer, of its rates or of its limits.
    """
    for part, make, names in _PARTS:
        inner = {name: changes.pop(name) for name in names if name in changes}
        changes.setdefault(part, make(**inner))
    values: dict[str, Any] = {
        "public_key": key_of(number).public_key,
        "sequence": 1,
        "issued_at": NOW - 10,
        "expires_at": NOW + 120,
        "venue": VENUE,
        "model": MODEL,
        "model_name": "demo",
        "license": "apache-2.0",
        "span": BlockSpan(start=blocks_served[0], end=blocks_served[1]),
        "blocks": 4,
        "precision": "fp32",
        "activations": (ActivationType.FP32,),
        "hardware": some_hardware(),
        "forecast": (),
        "prompt_us": 100,
        "position_us": 1000,
        "late_us": max(1_000_000, changes.get("position_us", 0)),
        "energy": an_energy_claim(),
        "jurisdiction": "FR",
        "region": "",
        "addresses": (address_of(number),),
        "data_addresses": ("/ip4/127.0.0.1/tcp/4002/tls",),
        "statements": (),
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
