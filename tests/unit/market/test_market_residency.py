"""Where a machine stands: what light excludes, anchors prove and attestors sign for, and what is worth nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st
from market_offers import MODEL, NOW, VENUE, a_policy, an_offer, key_of

from protocol.errors import InvalidError
from protocol.geography.country_discs import DISCS
from protocol.geography.distances import Point, distance_m, least_m, point, reach_m
from protocol.geography.jurisdictions import COUNTRIES
from protocol.identity.ids import keccak256
from protocol.identity.signing import SigningKey, seal
from protocol.market.offer import Evidence, Offer, Statement
from protocol.policy.denials import Denial, DenialKind, Denials, open_denials
from protocol.policy.law import Law, coarse
from protocol.policy.policy import Known, Needs, ReasonCode, backing_under, excluded
from protocol.policy.residency import Ground
from protocol.policy.trust import Anchor, Trust, trust_hash

UNTIL = NOW + 900
BERLIN, FRANKFURT, LYON = (52.52, 13.40), (50.11, 8.68), (45.76, 4.84)
REYKJAVIK, SAN_FRANCISCO, TOKYO = (64.15, -21.94), (37.77, -122.42), (35.68, 139.69)
ATTESTOR, STRANGER = SigningKey(b"\x0a" * 32), SigningKey(b"\x0b" * 32)
ANCHORS = tuple(SigningKey(bytes([0x20 + each]) * 32) for each in range(3))
FAR = "90000"
"""Microseconds that exclude no place in Europe."""


def anchor(number: int, place: str = "DE", at: tuple[float, float] = FRANKFURT, inside_km: int = 100) -> Anchor:
    return Anchor(signer=ANCHORS[number].address, place=place, at=point(*at), inside_m=1000 * inside_km)


def trusting(**changes: Any) -> Trust:
    values: dict[str, Any] = {
        "anchors": (anchor(0), anchor(1, "DE-BE", BERLIN, 15)),
        "lying": 0,
        "attestors": (ATTESTOR.address,),
        "stands": None,
    }
    return Trust(**{**values, **changes})


def statement(key: SigningKey, claim: str, value: str, **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "subject": key_of(0).public_key, "claim": claim, "value": value, "issued_at": NOW - 10, "expires_at": UNTIL,
    }  # fmt: skip
    return seal(Statement(**{**values, **changes}), key)


def said(*statements: bytes, **changes: Any) -> Offer:
    return an_offer(statements=statements, **{"jurisdiction": "DE", **changes})


@dataclass(frozen=True)
class Found:
    evidence: Evidence
    grounds: tuple[Ground, ...]
    disproved: bool


def found(offer: Offer, trust: Trust, own_us: int | None = None, policy: dict[str, Any] | None = None) -> Found:
    asked = a_policy(trust=trust_hash(trust), **(policy or {}))
    law = Law(trust=trust, until=UNTIL)
    backing = backing_under(asked, offer, Known(round_trip_us=own_us), law, NOW)
    return Found(backing.evidence, backing.grounds, bool(backing.disproved))


CLAIMED = Found(Evidence.CLAIMED, (), False)
DISPROVED = Found(Evidence.CLAIMED, (), True)
ATTESTED = Found(Evidence.ATTESTED, (Ground.ATTESTORS,), False)
PROVEN = Found(Evidence.RTT_PROVEN, (Ground.ANCHORS,), False)
CONSISTENT = Found(Evidence.RTT_CONSISTENT, (Ground.ANCHORS,), False)
OWN = Found(Evidence.RTT_CONSISTENT, (Ground.CLIENT,), False)


# Light


def test_from_reykjavik_to_san_francisco_light_needs_more_than_66_ms() -> None:
    apart = distance_m(REYKJAVIK, SAN_FRANCISCO)
    assert round(apart / 1000) == 6756
    assert reach_m(66_000) < apart - apart * 6 // 1000 < apart < reach_m(80_000) < reach_m(100_000)
    assert reach_m(67_600) - apart == pytest.approx(0, abs=10_000)


def test_light_in_fibre_goes_at_two_thirds_of_its_speed() -> None:
    assert reach_m(3_000_000) == 299_792_458
    assert reach_m(1) == 99


@given(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), st.tuples(st.floats(-90, 90), st.floats(-180, 180)))
@settings(max_examples=at_length(60))
def test_distances_are_distances(one: tuple[float, float], other: tuple[float, float]) -> None:
    there = distance_m(one, other)
    assert 0 <= there <= 20_015_200
    assert abs(there - distance_m(other, one)) <= 1
    assert distance_m(one, one) == 0
    assert point(*one).degrees == pytest.approx(one, abs=1e-6)


def test_there_are_discs_for_every_country_and_they_cover_their_cities() -> None:
    assert DISCS.keys() == COUNTRIES
    cities = {
        "DE": [BERLIN, FRANKFURT, (47.99, 7.85)], "FR": [LYON, (48.39, -4.49), (4.94, -52.33), (-21.11, 55.53)],
        "IS": [REYKJAVIK], "JP": [TOKYO, (26.21, 127.68), (43.06, 141.35)], "NL": [(52.37, 4.90)],
        "US": [SAN_FRANCISCO, (21.31, -157.86), (61.22, -149.90), (25.76, -80.19), (44.80, -68.77), (47.61, -122.33)],
        "RU": [(55.76, 37.62), (54.71, 20.51), (43.12, 131.89), (64.73, 177.51), (69.35, 88.20), (67.50, 64.05)],
        "GB": [(51.51, -0.13), (60.15, -1.15)], "NO": [(59.91, 10.75), (70.07, 29.75)], "SJ": [(78.22, 15.63)],
        "CL": [(-33.45, -70.67), (-27.15, -109.43), (-54.93, -67.61)], "GP": [(16.24, -61.53)], "SG": [(1.35, 103.82)],
        "AQ": [(-77.85, 166.67), (-90.0, 0.0)], "NZ": [(-36.85, 174.76), (-43.95, -176.56)], "FJ": [(-18.14, 178.44)],
    }  # fmt: skip
    for country, places in cities.items():
        for place in places:
            assert least_m(country, point(*place)) == 0, f"{place} in {country}"
    assert least_m("IS", point(*BERLIN)) > 1_900_000
    assert least_m("SG", point(*BERLIN)) > 9_700_000
    assert least_m("DE-BE", point(*TOKYO)) == least_m("DE", point(*TOKYO)) > 8_000_000


def test_a_point_has_no_negative_number_in_it() -> None:
    assert point(-90, -180) == Point(north=0, east=0)
    with pytest.raises(InvalidError):
        point(91, 0)


# Evidence


def test_without_anything_a_place_is_claimed() -> None:
    assert found(said(), trusting()) == CLAIMED
    assert found(said(statement(ATTESTOR, "place", "DE")), trusting(attestors=())) == CLAIMED


def test_whom_the_policy_does_not_name_nobody_believes() -> None:
    offer, trust = said(statement(ATTESTOR, "place", "DE")), trusting()
    law = Law(trust=trust, until=UNTIL)
    for named in (None, trust_hash(trusting(lying=1))):
        assert backing_under(a_policy(trust=named), offer, Known(), law, NOW).evidence is Evidence.CLAIMED
    assert backing_under(a_policy(trust=trust_hash(trust)), offer, Known(), law, NOW).evidence is Evidence.ATTESTED


@pytest.mark.parametrize(
    ("value", "offer", "policy", "expected"),
    [
        ("DE", {}, {}, ATTESTED),
        ("DE-BE", {}, {}, ATTESTED),
        ("FR", {}, {}, CLAIMED),
        ("EU", {}, {}, CLAIMED),
        ("XX", {}, {}, CLAIMED),
        ("DE", {"region": "DE-BE"}, {}, ATTESTED),
        ("DE", {"region": "DE-BE"}, {"deny": ("DE-BY",)}, CLAIMED),
        ("DE-BE", {"region": "DE-BE"}, {"deny": ("DE-BY",)}, ATTESTED),
        ("DE-BY", {"region": "DE-BE"}, {"allow": ("DE-BE",)}, CLAIMED),
        ("DE", {"region": "DE-BE"}, {"deny": ("FR-75",)}, ATTESTED),
        ("DE", {"places": ("FR",)}, {}, CLAIMED),
    ],
)
def test_an_attestor_signs_for_a_place(
    value: str, offer: dict[str, Any], policy: dict[str, Any], expected: Found
) -> None:
    assert found(said(statement(ATTESTOR, "place", value), **offer), trusting(), policy=policy) == expected


def test_each_place_of_many_machines_has_its_attestor() -> None:
    both = (statement(ATTESTOR, "place", "DE"), statement(ATTESTOR, "place", "FR"))
    assert found(said(*both, places=("FR",)), trusting()) == ATTESTED
    assert found(said(*both, places=("FR", "IT")), trusting()) == CLAIMED
    near = statement(ANCHORS[0], "rtt", "900")
    assert found(said(near, places=("FR",)), trusting()) == CLAIMED, "nobody knows which machine was timed"


@pytest.mark.parametrize(
    "worthless",
    [
        statement(STRANGER, "place", "DE"),
        statement(ATTESTOR, "place", "DE", expires_at=UNTIL - 1),
        statement(ATTESTOR, "place", "DE", issued_at=NOW + 61),
        statement(ATTESTOR, "address", "DE"),
        statement(ANCHORS[0], "place", "DE"),
        statement(ANCHORS[0], "rtt", "900", expires_at=UNTIL - 1),
        statement(ANCHORS[0], "rtt", "0900"),
        statement(ANCHORS[0], "rtt", "-5"),
        statement(ANCHORS[0], "rtt", "9e2"),
        statement(ATTESTOR, "rtt", "900"),
    ],
)
def test_a_statement_that_is_worth_nothing(worthless: bytes) -> None:
    assert found(said(worthless), trusting()) == CLAIMED


def test_a_statement_that_its_signer_takes_back() -> None:
    sealed, trust = statement(ATTESTOR, "place", "DE"), trusting()

    def with_list(key: SigningKey, hashed: bytes) -> Evidence:
        entry = Denial(what=DenialKind.STATEMENT, value=keccak256(hashed).hex())
        made = Denials(name="taken back", issued_at=NOW, effective_from=NOW, expires_at=UNTIL, entries=(entry,))
        opened = open_denials(seal(made, key))
        policy = a_policy(trust=trust_hash(trust), lists=(opened.hash,))
        law = Law(trust=trust, lists=(opened,), until=UNTIL)
        return backing_under(policy, said(sealed), Known(), law, NOW).evidence

    assert with_list(ATTESTOR, sealed) is Evidence.CLAIMED
    assert with_list(STRANGER, sealed) is Evidence.ATTESTED
    assert with_list(ATTESTOR, sealed + b".") is Evidence.ATTESTED


def test_an_anchor_inside_proves_what_is_near() -> None:
    assert found(said(statement(ANCHORS[0], "rtt", "1000")), trusting()) == PROVEN
    assert found(said(statement(ANCHORS[0], "rtt", "1001")), trusting()) == CONSISTENT
    in_berlin = statement(ANCHORS[1], "rtt", "150")
    assert found(said(in_berlin, region="DE-BE"), trusting(), policy={"allow": ("DE-BE",)}) == PROVEN
    assert found(said(in_berlin), trusting()) == PROVEN, "Berlin is in Germany"
    in_germany = statement(ANCHORS[0], "rtt", "900")
    assert found(said(in_germany, region="DE-HE"), trusting(), policy={"allow": ("DE-HE",)}) == CONSISTENT
    assert found(said(in_germany, jurisdiction="FR"), trusting()) == CONSISTENT, "it says France, and could be there"


def test_the_shortest_of_an_anchors_round_trips_counts() -> None:
    both = (statement(ANCHORS[0], "rtt", "4000"), statement(ANCHORS[0], "rtt", "1000"))
    assert found(said(*both), trusting()) == found(said(*reversed(both)), trusting()) == PROVEN


def test_light_excludes_what_a_node_says() -> None:
    """It says Iceland, and answers Frankfurt in 10 ms: light would need 20."""
    offer = said(statement(ANCHORS[0], "rtt", "10000"), jurisdiction="IS")
    assert found(offer, trusting()) == DISPROVED
    assert found(said(statement(ANCHORS[0], "rtt", "25000"), jurisdiction="IS"), trusting()) == CONSISTENT
    attested = said(statement(ANCHORS[0], "rtt", "10000"), statement(ATTESTOR, "place", "IS"), jurisdiction="IS")
    assert found(attested, trusting()) == DISPROVED, "no signature is faster than light"


def test_a_round_trip_of_ones_own() -> None:
    trust, iceland = trusting(anchors=(), stands=point(*SAN_FRANCISCO)), said(jurisdiction="IS")
    assert found(iceland, trust, 60_000) == DISPROVED
    assert found(iceland, trust, 80_000) == OWN
    assert found(iceland, trust, 100_000) == OWN
    assert found(iceland, trust) == CLAIMED
    assert found(iceland, trusting(anchors=()), 60_000) == CLAIMED, "it does not say where it stands"


def test_a_node_that_is_faster_than_light_is_excluded_whatever_evidence_is_asked() -> None:
    trust = trusting(anchors=(), stands=point(*SAN_FRANCISCO))
    law, known = Law(trust=trust, until=UNTIL), Known(round_trip_us=60_000)

    def code(us: int, **policy: Any) -> ReasonCode | None:
        asked = a_policy(trust=trust_hash(trust), **policy)
        reason = excluded(
            asked, said(jurisdiction="IS"), model=MODEL, venue=VENUE, now=NOW, needs=Needs(law=law),
            known=Known(round_trip_us=us),
        )  # fmt: skip
        return None if reason is None else reason.code

    for names_places in ({"allow": ("IS",)}, {"deny": ("CN",)}, {"origin": "IS"}):
        assert code(60_000, **names_places) is ReasonCode.DISPROVED
        assert code(90_000, **names_places) is None
    assert code(60_000) is None, "to whom it does not matter"
    assert known.evidence is Evidence.CLAIMED


def times(*pairs: tuple[int, str]) -> tuple[bytes, ...]:
    return tuple(statement(ANCHORS[number], "rtt", us) for number, us in pairs)


def test_an_anchor_that_lies_changes_nothing() -> None:
    """One of three may lie: whichever it is, and whatever it says."""
    three = (anchor(0), anchor(1, "DE-BE", BERLIN, 90), anchor(2, "FR", LYON, 100))
    trust = trusting(anchors=three, lying=1)
    near = times((0, "900"), (1, "880"))
    assert found(said(*near), trust) == PROVEN
    assert found(said(*times((0, "900"), (1, FAR))), trust) == CONSISTENT, "one alone proves nothing"
    liar = times((0, "900"), (1, "880"), (2, "100"))
    assert found(said(*liar), trust) == PROVEN, "one alone excludes nothing"
    honest = times((0, FAR), (1, FAR), (2, FAR))
    assert found(said(*honest), trust) == CONSISTENT
    assert found(said(*times((2, FAR))), trust) == CLAIMED, "one alone shows nothing"
    two = times((0, "100"), (1, "100"), (2, FAR))
    assert found(said(*two, jurisdiction="JP"), trust) == DISPROVED, "two of them are not both liars"
    assert found(said(*two, jurisdiction="JP"), trusting(anchors=three, lying=2)) == CLAIMED


@pytest.mark.parametrize("broken", [{"anchors": (anchor(0), anchor(0))}, {"attestors": (b"\x01" * 20,) * 2}])
def test_nobody_is_trusted_twice(broken: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match="twice"):
        trusting(**broken)


def test_an_anchor_stands_somewhere() -> None:
    with pytest.raises(InvalidError):
        anchor(0, "EU")


def test_a_place_counts_as_finely_as_it_matters() -> None:
    assert coarse("DE-BE", ("EU", "FR-75")) == "DE"
    assert coarse("DE-BE", ("DE-BY",)) == "DE-BE"
    assert coarse("DE", ("DE-BY",)) == "DE"
