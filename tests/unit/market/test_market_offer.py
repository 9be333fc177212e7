"""What makes an offer valid: each rule broken once, beside the value that just keeps it."""

from __future__ import annotations

from typing import Any

import pytest
from market_offers import NOW, an_offer, key_of

from protocol.errors import ExpiredError, InvalidError, MalformedError, PeerError, SignatureError
from protocol.ids import BlockSpan
from protocol.offer import CLOCK_SKEW_S, MAX_TTL_S, EnergyClaim, Evidence, Provenance, check_offer, supersedes
from protocol.tariff import MAX_PRICE


def claim(**changes: Any) -> EnergyClaim:
    values: dict[str, Any] = {
        "millijoules_per_token": 1,
        "source": Provenance.RAPL,
        "tariff_micro_per_kwh": 0,
        "pue_milli": 1000,
        "carbon_g_per_kwh": 30,
        "batch": 1,
    }
    return EnergyClaim(**{**values, **changes})


KEPT: list[dict[str, Any]] = [
    {},
    {"issued_at": NOW + CLOCK_SKEW_S},
    {"expires_at": NOW + 1},
    {"expires_at": NOW - 10 + MAX_TTL_S},
    {"span": BlockSpan(start=3, end=4)},
    {"jurisdiction": "IS"},
    {"jurisdiction": "ZZ"},
    {"price_in": MAX_PRICE, "price_out": MAX_PRICE},
    {"price_in": 0, "price_out": 0},
    {"position_us": 1},
    {"energy": None},
    {"energy": claim()},
]

BROKEN: list[tuple[dict[str, Any], type[PeerError], str]] = [
    ({"issued_at": NOW + CLOCK_SKEW_S + 1}, ExpiredError, "future"),
    ({"expires_at": NOW}, ExpiredError, "expired"),
    ({"expires_at": NOW - 10 + MAX_TTL_S + 1}, MalformedError, "lasts 1 to"),
    ({"issued_at": NOW + 30, "expires_at": NOW + 30}, MalformedError, "lasts 1 to"),
    ({"span": BlockSpan(start=3, end=5)}, MalformedError, "3:5 of a model of 4"),
    ({"jurisdiction": "EU"}, MalformedError, "country code"),
    ({"jurisdiction": "fr"}, MalformedError, "country code"),
    ({"jurisdiction": ""}, MalformedError, "country code"),
    ({"price_in": MAX_PRICE + 1}, MalformedError, "price"),
    ({"price_out": MAX_PRICE + 1}, MalformedError, "price"),
    ({"position_us": 0}, MalformedError, "0 microseconds"),
    ({"data_address": ""}, MalformedError, "empty address"),
    ({"addresses": ("/ip4/127.0.0.1/tcp/1", "")}, MalformedError, "empty address"),
    ({"energy": claim(millijoules_per_token=0)}, MalformedError, "energy"),
    ({"energy": claim(batch=0)}, MalformedError, "energy"),
    ({"energy": claim(pue_milli=999)}, MalformedError, "energy"),
]


@pytest.mark.parametrize("changes", KEPT)
def test_a_valid_offer(changes: dict[str, Any]) -> None:
    check_offer(an_offer(**changes), key_of(0).address, NOW)


@pytest.mark.parametrize(("changes", "error", "text"), BROKEN)
def test_a_broken_rule(changes: dict[str, Any], error: type[PeerError], text: str) -> None:
    with pytest.raises(error, match=text):
        check_offer(an_offer(**changes), key_of(0).address, NOW)


def test_only_the_node_itself_speaks_for_it() -> None:
    with pytest.raises(SignatureError):
        check_offer(an_offer(), key_of(1).address, NOW)
    with pytest.raises(MalformedError):
        check_offer(an_offer(public_key=b"\x09" * 33), key_of(0).address, NOW)


@pytest.mark.parametrize("addresses", [(), ("/ip4/127.0.0.1/tcp/1",) * 9])
def test_one_to_eight_addresses(addresses: tuple[str, ...]) -> None:
    with pytest.raises(InvalidError, match="addresses"):
        an_offer(addresses=addresses)


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
