"""What makes an offer valid: each rule broken once, beside the value that just keeps it."""

from __future__ import annotations

from typing import Any

import pytest
from market_offers import NOW, an_energy_claim, an_offer, key_of, some_hardware

from protocol.energy.tariff import MAX_PRICE
from protocol.errors import ExpiredError, InvalidError, MalformedError, PeerError, SignatureError
from protocol.identity.ids import MAX_BLOCKS, BlockSpan
from protocol.identity.signing import seal
from protocol.market.offer import (
    CLOCK_SKEW_S,
    MAX_ADDRESSES,
    MAX_DURATION_US,
    MAX_TTL_S,
    Evidence,
    Provenance,
    RoundTrip,
    Statement,
    check_offer,
    supersedes,
)
from protocol.market.rates import check_rates, share
from protocol.models.activations import ActivationType

FP32, BF16 = ActivationType.FP32, ActivationType.BF16


def statement(subject: int = 0, **changes: Any) -> bytes:
    """A third party's word about a node."""
    made = Statement(
        subject=key_of(subject).public_key, claim="place", value="FR", issued_at=NOW, expires_at=NOW + 1000
    )
    return seal(made.replace(**changes), key_of(9))


KEPT: list[dict[str, Any]] = [
    {},
    {"issued_at": NOW + CLOCK_SKEW_S},
    {"expires_at": NOW + 1},
    {"expires_at": NOW - 10 + MAX_TTL_S},
    {"span": BlockSpan(start=3, end=4)},
    {"blocks": MAX_BLOCKS},
    {"blocks": MAX_BLOCKS, "span": BlockSpan(start=0, end=MAX_BLOCKS)},
    {"jurisdiction": "IS"},
    {"jurisdiction": "ZZ"},
    {"jurisdiction": "DE", "region": "DE-BE"},
    {"jurisdiction": "FR", "region": "FR-971"},
    {"opening": MAX_PRICE, "price_in": MAX_PRICE, "price_out": MAX_PRICE, "price_cached": MAX_PRICE},
    {"price_in": 0, "price_out": 0},
    {"price_rejected": MAX_PRICE},
    {"late_discount_ppm": 1_000_000},
    {"forecast": (0,) * 47 + (MAX_PRICE,)},
    {"position_us": 1, "prompt_us": 1},
    {"position_us": 5, "late_us": 5},
    {"window": 1, "chunk": 1, "context": 0, "sessions": 0},
    {"window": 4, "credit": 4},
    {"activations": (BF16, FP32)},
    {"energy": None},
    {"energy": an_energy_claim(millijoules_in=1, millijoules_out=1, pue_milli=1000, batch=1, tariff_micro_per_kwh=0)},
    {"data_addresses": ("/ip4/203.0.113.7/tcp/65535/tls", "/dns/node.example/tcp/1/relay/some/thing")},
    {"data_addresses": ("/ip6/::1/tcp/4002/tls",)},
    {"statements": (statement(), statement(value="FR-75"))},
    {"statements": (statement(issued_at=0, expires_at=1),)},
    {"jurisdiction": "FR", "places": ("FR-75", "DE", "DE-BE")},
    {"retention_s": 86_400, "trains": True},
    {"round_trips": tuple(RoundTrip(address=bytes([n] * 20), us=1000 * n) for n in range(16))},
]

BROKEN: list[tuple[dict[str, Any], type[PeerError], str]] = [
    ({"issued_at": NOW + CLOCK_SKEW_S + 1}, ExpiredError, "future"),
    ({"expires_at": NOW}, ExpiredError, "expired"),
    ({"expires_at": NOW - 10 + MAX_TTL_S + 1}, MalformedError, "lasts 1 to"),
    ({"issued_at": NOW + 30, "expires_at": NOW + 30}, MalformedError, "lasts 1 to"),
    ({"span": BlockSpan(start=3, end=5)}, MalformedError, "3:5 of a model of 4"),
    ({"blocks": 0}, MalformedError, "of a model of 0"),
    ({"jurisdiction": "EU"}, MalformedError, "country code"),
    ({"jurisdiction": "fr"}, MalformedError, "country code"),
    ({"jurisdiction": ""}, MalformedError, "country code"),
    ({"region": "FR"}, MalformedError, "3166-2"),
    ({"places": ("EU",)}, MalformedError, "neither a country"),
    ({"jurisdiction": "FR", "places": ("FR",)}, MalformedError, "named twice"),
    ({"places": ("DE", "DE")}, MalformedError, "named twice"),
    ({"jurisdiction": "ZZ", "places": ("DE",)}, MalformedError, "not declared"),
    ({"trains": True}, MalformedError, "trains no model"),
    ({"round_trips": (RoundTrip(address=bytes(20), us=1), RoundTrip(address=bytes(20), us=2))}, MalformedError, "two"),
    ({"region": "DE-BE"}, MalformedError, "3166-2 code in FR"),
    ({"region": "FR-"}, MalformedError, "3166-2"),
    ({"region": "FR-id"}, MalformedError, "3166-2"),
    ({"jurisdiction": "ZZ", "region": "ZZ-A"}, MalformedError, "3166-2"),
    ({"price_in": 5, "price_cached": 6}, MalformedError, "held already"),
    ({"position_us": 0, "late_us": 5}, MalformedError, "0 microseconds"),
    ({"prompt_us": 0}, MalformedError, "0 microseconds"),
    ({"position_us": 6, "late_us": 5}, MalformedError, "late by its own figures"),
    ({"window": 0}, MalformedError, "0 tokens"),
    ({"chunk": 0}, MalformedError, "0 tokens"),
    ({"window": 4, "credit": 5}, MalformedError, "credit"),
    ({"activations": (FP32, FP32)}, MalformedError, "twice"),
    ({"hardware": some_hardware(count=0)}, MalformedError, "no device"),
    ({"data_addresses": ("",)}, MalformedError, "dialled"),
    ({"data_addresses": ("/ip4/127.0.0.1/tcp/0/tls",)}, MalformedError, "dialled"),
    ({"data_addresses": ("/ip4/127.0.0.1/tcp/65536/tls",)}, MalformedError, "dialled"),
    ({"data_addresses": ("/ip4/127.0.0.1/tcp/4002",)}, MalformedError, "dialled"),
    ({"data_addresses": ("/ip4/127.0.0.1/udp/4002/quic",)}, MalformedError, "dialled"),
    ({"data_addresses": ("/ip4/127.0.0.1/tcp/4002/tls", "http://x")}, MalformedError, "dialled"),
    ({"addresses": ("/ip4/127.0.0.1/tcp/1", "")}, MalformedError, "dialled"),
    ({"energy": an_energy_claim(millijoules_in=0)}, MalformedError, "energy"),
    ({"energy": an_energy_claim(millijoules_out=0)}, MalformedError, "energy"),
    ({"energy": an_energy_claim(batch=0)}, MalformedError, "energy"),
    ({"energy": an_energy_claim(pue_milli=999)}, MalformedError, "energy"),
    ({"energy": an_energy_claim(source=Provenance.UNKNOWN)}, MalformedError, "from nowhere"),
    ({"statements": (statement(1),)}, MalformedError, "another node"),
    ({"statements": (b"noise",)}, MalformedError, "not"),
]


@pytest.mark.parametrize("changes", KEPT)
def test_a_valid_offer(changes: dict[str, Any]) -> None:
    check_offer(an_offer(**changes), key_of(0).address, NOW)


@pytest.mark.parametrize(("changes", "error", "text"), BROKEN)
def test_a_broken_rule(changes: dict[str, Any], error: type[PeerError], text: str) -> None:
    with pytest.raises(error, match=text):
        check_offer(an_offer(**changes), key_of(0).address, NOW)


def test_m4_only_the_node_itself_speaks_for_it() -> None:
    with pytest.raises(SignatureError):
        check_offer(an_offer(), key_of(1).address, NOW)
    with pytest.raises(MalformedError):
        check_offer(an_offer(public_key=b"\x09" * 33), key_of(0).address, NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"addresses": ()},
        {"addresses": ("/ip4/127.0.0.1/tcp/1",) * (MAX_ADDRESSES + 1)},
        {"data_addresses": ()},
        {"data_addresses": ("/ip4/127.0.0.1/tcp/1/tls",) * (MAX_ADDRESSES + 1)},
        {"activations": ()},
        {"forecast": (1,) * 49},
        {"statements": (statement(),) * 5},
        {"statements": (b"",)},
        {"jurisdiction": "FRA"},
        {"region": "FR-1234"},
        {"blocks": MAX_BLOCKS + 1},
        {"blocks": 2**32 - 1},
        {"forecast": (MAX_PRICE + 1,)},
        {"position_us": MAX_DURATION_US + 1},
        {"late_us": MAX_DURATION_US + 1},
        {"prompt_us": MAX_DURATION_US + 1},
    ],
)
def test_more_or_less_than_an_offer_can_hold(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match=next(iter(changes))):
        an_offer(**changes)


def test_m7_a_share_is_rounded_up_and_keeps_its_order() -> None:
    whole = an_offer(opening=10, price_in=100, price_out=101, price_cached=50, price_rejected=1).rates
    part = share(whole, 1, 3)
    assert (part.opening, part.price_in, part.price_out, part.price_cached, part.price_rejected) == (4, 34, 34, 17, 1)
    assert part.late_discount_ppm == whole.late_discount_ppm
    assert share(whole, 3, 3) == whole
    check_rates(share(an_offer(price_in=7, price_cached=7).rates, 2, 3))


def test_a_later_offer_of_the_same_blocks_supersedes() -> None:
    old = an_offer(sequence=5)
    assert supersedes(an_offer(sequence=6, price_in=1), old)
    assert not supersedes(an_offer(sequence=5, price_in=1), old)
    assert not supersedes(an_offer(sequence=4), old)
    assert not supersedes(an_offer(1, sequence=6), old)
    assert not supersedes(an_offer(0, (0, 3), sequence=6), old)
    assert not supersedes(an_offer(sequence=6, model=b"\x33" * 32), old)


def test_evidence_is_ordered() -> None:
    weakest_first = [Evidence.CLAIMED, Evidence.RTT_CONSISTENT, Evidence.RTT_PROVEN, Evidence.ATTESTED]
    for mine, evidence in enumerate(weakest_first):
        for asked, least in enumerate(weakest_first):
            assert evidence.reaches(least) == (mine >= asked)
