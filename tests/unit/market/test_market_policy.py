"""Every reason to leave an offer out, beside the neighbour that is let through."""

from __future__ import annotations

from typing import Any

import pytest
from market_offers import MODEL, NOW, VENUE, a_policy, an_offer

from protocol.encoding.codec import encode
from protocol.errors import InvalidError
from protocol.geography.jurisdictions import COUNTRIES, GROUPS, expand, is_known, is_subdivision
from protocol.market.offer import Evidence
from protocol.policy.policy import NOTHING_KNOWN, Known, LatencyClass, Needs, Reason, ReasonCode, excluded

ANY = Needs()


def reason_for(
    policy: dict[str, Any], offer: dict[str, Any], needs: Needs = ANY, known: Known = NOTHING_KNOWN
) -> Reason | None:
    return excluded(a_policy(**policy), an_offer(**offer), model=MODEL, venue=VENUE, now=NOW, needs=needs, known=known)


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
            {"deny": ("DE-BE",)},
            {"jurisdiction": "DE", "region": "DE-BB"},
            {"jurisdiction": "DE", "region": "DE-BE"},
            ReasonCode.DENIED,
            "DE-BE is among the jurisdictions you deny (DE-BE)",
        ),
        (
            {"deny": ("DE-BE",)},
            {"jurisdiction": "FR"},
            {"jurisdiction": "DE"},
            ReasonCode.DENIED,
            "DE is among the jurisdictions you deny (DE-BE)",
        ),
        (
            {"allow": ("DE-BE",)},
            {"jurisdiction": "DE", "region": "DE-BE"},
            {"jurisdiction": "DE"},
            ReasonCode.NOT_ALLOWED,
            "DE is not among the jurisdictions you allow (DE-BE)",
        ),
        (
            {"allow": ("DE-BE",)},
            {"jurisdiction": "DE", "region": "DE-BE"},
            {"jurisdiction": "DE", "region": "DE-BB"},
            ReasonCode.NOT_ALLOWED,
            "DE-BB is not among the jurisdictions you allow (DE-BE)",
        ),
        (
            {"allow": ("EU",), "deny": ("DE-BE",)},
            {"jurisdiction": "DE", "region": "DE-BB"},
            {"jurisdiction": "DE"},
            ReasonCode.DENIED,
            "DE is among the jurisdictions you deny (DE-BE)",
        ),
        (
            {"deny": ("DE",)},
            {"jurisdiction": "FR", "region": "FR-75"},
            {"jurisdiction": "DE", "region": "DE-BE"},
            ReasonCode.DENIED,
            "DE-BE is among the jurisdictions you deny (DE)",
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


@pytest.mark.parametrize(
    ("needs", "kept", "broken", "code", "sentence"),
    [
        (
            Needs(positions=100),
            {"context": 100},
            {"context": 99},
            ReasonCode.ROOM,
            "it has room for 99 positions, and the job takes 100",
        ),
        (Needs(), {"sessions": 1}, {"sessions": 0}, ReasonCode.ROOM, "all its places are taken"),
        (
            Needs(window=8),
            {"window": 8},
            {"window": 7},
            ReasonCode.WINDOW,
            "it serves windows of 7 tokens and chunks of 512 at most",
        ),
        (
            Needs(chunk=9),
            {"chunk": 9},
            {"chunk": 8},
            ReasonCode.WINDOW,
            "it serves windows of 64 tokens and chunks of 8 at most",
        ),
    ],
)
def test_what_one_job_needs(
    needs: Needs, kept: dict[str, Any], broken: dict[str, Any], code: ReasonCode, sentence: str
) -> None:
    assert reason_for({}, kept, needs) is None
    assert reason_for({}, broken, needs) == Reason(code, sentence)


@pytest.mark.parametrize("least", list(Evidence))
@pytest.mark.parametrize("found", list(Evidence))
def test_evidence_is_what_the_client_found(least: Evidence, found: Evidence) -> None:
    reason = reason_for({"min_evidence": least}, {}, known=Known(evidence=found))
    assert (reason is None) is found.reaches(least)
    if reason is not None:
        assert reason == Reason(ReasonCode.EVIDENCE, f"its place is only {found}, and you ask for {least}")


def test_stake_is_what_the_client_found() -> None:
    asked = {"min_stake": 2_000_000}
    assert reason_for(asked, {}, known=Known(stake=2_000_000)) is None
    short = reason_for(asked, {}, known=Known(stake=1_999_999))
    assert short == Reason(ReasonCode.STAKE, "its stake is 1.999999, and you ask for 2.000000")


def test_what_nobody_has_found_out_counts_as_the_least() -> None:
    """No offer carries evidence or stake as its own word, so a policy that asks for more fails closed."""
    assert Known() == NOTHING_KNOWN == Known(evidence=Evidence.CLAIMED, stake=0)
    for policy, code in (
        ({"min_evidence": Evidence.RTT_CONSISTENT}, ReasonCode.EVIDENCE),
        ({"min_stake": 1}, ReasonCode.STAKE),
    ):
        found = reason_for(policy, {})
        assert found is not None
        assert found.code is code
    assert not {"evidence", "stake"} & set(type(an_offer()).__dataclass_fields__)


def test_jobs_for_the_own_device_are_never_routed() -> None:
    found = reason_for({"latency_class": LatencyClass.DEVICE}, {})
    assert found is not None
    assert found.code is ReasonCode.LATENCY_CLASS


@pytest.mark.parametrize("code", ["XX", "de", "", "ZZ", "EUR", "EU-DE", "DE-", "DE-be", "XX-A", "D-BERL"])
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


def test_parts_of_countries_are_known_by_their_form() -> None:
    for code in ("DE-BE", "FR-971", "US-CA", "GB-ENG", "JP-13"):
        assert is_subdivision(code)
        assert is_known(code)
    for code in ("DE", "EU", "DE-", "DE-BEER", "ZZ-A", "DE_BE", "DE-BE\n"):
        assert not is_subdivision(code)


def test_a_policy_names_parts_of_countries() -> None:
    assert a_policy(allow=("DE-BE", "FR"), deny=("US-CA",)).allow == ("DE-BE", "FR")


def test_every_term_is_in_its_bytes() -> None:
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
    assert len({encode(policy) for policy in policies}) == len(policies)


def test_a_client_that_has_paid_a_node_finds_a_place_where_others_do_not() -> None:
    full = {"sessions": 0}
    reason = reason_for({}, full)
    assert reason is not None
    assert reason.code == "room"
    assert reason_for({}, full, known=Known(has_place=True)) is None
    assert reason_for({}, {"sessions": 1}) is None
