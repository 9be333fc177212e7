"""Every reason to leave an offer out, beside the neighbour that is let through."""

from __future__ import annotations

from typing import Any

import pytest
from market_offers import MODEL, NOW, VENUE, a_policy, an_offer

from protocol.errors import InvalidError
from protocol.jurisdictions import COUNTRIES, GROUPS, expand
from protocol.offer import Evidence
from protocol.policy import LatencyClass, Reason, ReasonCode, excluded, policy_hash


def reason_for(policy: dict[str, Any], offer: dict[str, Any], tokens_needed: int = 0) -> Reason | None:
    return excluded(
        a_policy(**policy), an_offer(**offer), model=MODEL, venue=VENUE, now=NOW, tokens_needed=tokens_needed
    )


@pytest.mark.parametrize(
    ("policy", "kept", "broken", "code", "sentence"),
    [
        ({}, {}, {"model": b"\x44" * 32}, ReasonCode.MODEL, "it serves another model, demo"),
        ({}, {}, {"venue": b"\x44" * 32}, ReasonCode.VENUE, "it settles on another ledger"),
        ({}, {"expires_at": NOW + 1}, {"expires_at": NOW - 3}, ReasonCode.EXPIRED, "it expired 3 s ago"),
        (
            {"allow": ("FR", "NL")},
            {"jurisdiction": "NL"},
            {"jurisdiction": "DE"},
            ReasonCode.NOT_ALLOWED,
            "DE is not among the jurisdictions you allow (FR, NL)",
        ),
        (
            {"allow": ("EU",)},
            {"jurisdiction": "DE"},
            {"jurisdiction": "NO"},
            ReasonCode.NOT_ALLOWED,
            "NO is not among the jurisdictions you allow (EU)",
        ),
        (
            {"allow": ("EEA", "CH")},
            {"jurisdiction": "NO"},
            {"jurisdiction": "GB"},
            ReasonCode.NOT_ALLOWED,
            "GB is not among the jurisdictions you allow (EEA, CH)",
        ),
        (
            {"allow": ("EU",), "deny": ("DE",)},
            {"jurisdiction": "FR"},
            {"jurisdiction": "DE"},
            ReasonCode.DENIED,
            "DE is among the jurisdictions you deny (DE)",
        ),
        (
            {"deny": ("EU",)},
            {"jurisdiction": "IS"},
            {"jurisdiction": "FR"},
            ReasonCode.DENIED,
            "FR is among the jurisdictions you deny (EU)",
        ),
        (
            {"deny": ("FR",)},
            {"jurisdiction": "IS"},
            {"jurisdiction": "ZZ"},
            ReasonCode.UNDECLARED,
            "it does not say where it stands, and your policy names jurisdictions",
        ),
        (
            {"min_evidence": Evidence.RTT_PROVEN},
            {"evidence": Evidence.ATTESTED},
            {"evidence": Evidence.RTT_CONSISTENT},
            ReasonCode.EVIDENCE,
            "its place is only rtt_consistent, and you ask for rtt_proven",
        ),
        (
            {"min_stake": 2_000_000},
            {"stake": 2_000_000},
            {"stake": 1_999_999},
            ReasonCode.STAKE,
            "its stake is 1.999999, and you ask for 2.000000",
        ),
        (
            {"precision": "bf16"},
            {"precision": "bf16"},
            {"precision": "fp32"},
            ReasonCode.PRECISION,
            "it computes in fp32, and you ask for bf16",
        ),
        (
            {"max_price_in": 25},
            {"price_in": 100},
            {"price_in": 101},
            ReasonCode.PRICE_CAP,
            "one block of it costs 0.000026 per 1M prompt tokens, more than the 0.000025 you pay for a route",
        ),
        (
            {"max_price_out": 25},
            {"price_out": 100},
            {"price_out": 101},
            ReasonCode.PRICE_CAP,
            "one block of it costs 0.000026 per 1M generated tokens, more than the 0.000025 you pay for a route",
        ),
        (
            {"latency_class": LatencyClass.METRO},
            {"position_us": 200_000},
            {"position_us": 200_004},
            ReasonCode.TOO_SLOW,
            "one block of it takes 50001 us, and metro allows 50000",
        ),
    ],
)
def test_a_reason_and_its_neighbour(
    policy: dict[str, Any], kept: dict[str, Any], broken: dict[str, Any], code: ReasonCode, sentence: str
) -> None:
    assert reason_for(policy, kept) is None
    assert reason_for(policy, broken) == Reason(code, sentence)


def test_room_for_the_whole_job() -> None:
    assert reason_for({}, {"kv_tokens": 100}, tokens_needed=100) is None
    found = reason_for({}, {"kv_tokens": 99}, tokens_needed=100)
    assert found == Reason(ReasonCode.ROOM, "it has room for 99 positions, and the job takes 100")


def test_jobs_for_the_own_device_are_never_routed() -> None:
    found = reason_for({"latency_class": LatencyClass.DEVICE}, {})
    assert found is not None
    assert found.code is ReasonCode.LATENCY_CLASS


@pytest.mark.parametrize("code", ["XX", "de", "", "ZZ", "EUR"])
def test_a_policy_names_known_places_only(code: str) -> None:
    for field in ("allow", "deny"):
        with pytest.raises(InvalidError, match="neither"):
            a_policy(**{field: (code,)})


def test_undeclared_is_fine_where_the_policy_names_no_place() -> None:
    assert reason_for({}, {"jurisdiction": "ZZ"}) is None


def test_groups_are_made_of_countries() -> None:
    assert len(COUNTRIES) == 249
    assert len(GROUPS["EU"]) == 27
    assert len(GROUPS["EEA"]) == 30
    assert all(group <= COUNTRIES for group in GROUPS.values())
    assert expand(("EU", "CH")) == GROUPS["EU"] | {"CH"}


def test_the_hash_names_every_term() -> None:
    policies = [
        a_policy(),
        a_policy(latency_class=LatencyClass.BATCH),
        a_policy(max_price_in=0),
        a_policy(max_price_out=0),
        a_policy(allow=("FR",)),
        a_policy(deny=("FR",)),
        a_policy(min_evidence=Evidence.ATTESTED),
        a_policy(min_stake=1),
        a_policy(precision="bf16"),
    ]
    hashes = {policy_hash(policy) for policy in policies}
    assert len(hashes) == len(policies)
    assert all(len(each) == 32 for each in hashes)
    assert policy_hash(a_policy()) == policy_hash(a_policy())
