"""What a policy says of law: each field binds, fails closed, and stands in what is signed."""

from __future__ import annotations

from typing import Any

import pytest
from market_offers import MODEL, NOW, VENUE, a_policy, an_energy_claim, an_offer, key_of, some_hardware

from protocol.encoding.codec import encode
from protocol.errors import InvalidError
from protocol.geography.blocs import BLOCS, BLOCS_NOW
from protocol.geography.jurisdictions import COUNTRIES
from protocol.identity.signing import SigningKey, seal
from protocol.market.offer import Evidence
from protocol.policy.corridors import Corridor
from protocol.policy.denials import Denial, DenialKind, Denials, open_denials
from protocol.policy.law import NO_LAW, Law
from protocol.policy.policy import NOTHING_KNOWN, Known, Needs, Policy, Reason, ReasonCode, excluded

ISSUER = SigningKey(b"\x0a" * 32)
UNTIL = NOW + 900


def reason_for(
    policy: dict[str, Any], offer: dict[str, Any], law: Law = NO_LAW, known: Known = NOTHING_KNOWN
) -> Reason | None:
    needs = Needs(law=law)
    return excluded(a_policy(**policy), an_offer(**offer), model=MODEL, venue=VENUE, now=NOW, needs=needs, known=known)


def code_for(policy: dict[str, Any], offer: dict[str, Any], law: Law = NO_LAW) -> ReasonCode | None:
    found = reason_for(policy, offer, law)
    return None if found is None else found.code


def hardware(category: str, name: str = "") -> dict[str, Any]:
    return {"hardware": some_hardware(category=category, name=name)}


def carbon(grams: int | None) -> dict[str, Any]:
    return {"energy": an_energy_claim(carbon_g_per_kwh=grams)}


def corridor(source: str = "DE", to: str = "EU", **changes: Any) -> Corridor:
    return Corridor(**{"source": source, "to": to, "purpose": "inference", "expires_at": UNTIL, **changes})


@pytest.mark.parametrize(
    ("policy", "kept", "broken", "code"),
    [
        ({"deny_hardware": ("datacenter",)}, hardware("consumer"), hardware("datacenter"), ReasonCode.HARDWARE),
        ({"deny_hardware": ("datacenter",)}, hardware("consumer"), hardware(""), ReasonCode.HARDWARE),
        ({"max_retention_s": 60}, {"retention_s": 60}, {"retention_s": 61}, ReasonCode.RETENTION),
        ({"max_retention_s": 0}, {}, {"retention_s": 1}, ReasonCode.RETENTION),
        ({"no_training": True}, {"retention_s": 9}, {"retention_s": 9, "trains": True}, ReasonCode.TRAINING),
        ({"max_carbon_g_per_kwh": 50}, carbon(50), carbon(51), ReasonCode.CARBON),
        ({"max_carbon_g_per_kwh": 50}, carbon(0), carbon(None), ReasonCode.CARBON),
        ({"max_carbon_g_per_kwh": 50}, carbon(0), {"energy": None}, ReasonCode.CARBON),
        ({"licenses": ("mit", "apache-2.0")}, {}, {"license": "gpl-3.0"}, ReasonCode.LICENSE),
        ({"licenses": ("mit", "apache-2.0")}, {}, {"license": ""}, ReasonCode.LICENSE),
        ({"allow": ("EU",)}, {"places": ("DE", "IT-25")}, {"places": ("DE", "CH")}, ReasonCode.NOT_ALLOWED),
        ({"deny": ("CH",)}, {"places": ("DE",)}, {"places": ("DE", "CH")}, ReasonCode.DENIED),
        ({"deny": ("CH-ZH",)}, {"places": ("CH-GE",)}, {"places": ("CH",)}, ReasonCode.DENIED),
        ({"allow": ("FIVE-EYES",)}, {"jurisdiction": "NZ"}, {"jurisdiction": "FR"}, ReasonCode.NOT_ALLOWED),
        ({"origin": "FR"}, {"jurisdiction": "FR"}, {"jurisdiction": "DE"}, ReasonCode.CORRIDOR),
        ({"origin": "FR"}, {"jurisdiction": "FR"}, {"jurisdiction": "ZZ"}, ReasonCode.UNDECLARED),
        ({"origin": "FR"}, {"places": ("FR-75",)}, {"places": ("DE",)}, ReasonCode.CORRIDOR),
    ],
)  # fmt: skip
def test_a_term_and_its_neighbour(
    policy: dict[str, Any], kept: dict[str, Any], broken: dict[str, Any], code: ReasonCode
) -> None:
    assert code_for(policy, kept) is None
    assert code_for(policy, broken) is code
    assert code_for({}, broken) is None, "nobody asked"


def test_every_new_term_is_in_its_bytes() -> None:
    changes: list[dict[str, Any]] = [
        {}, {"origin": "DE"}, {"purpose": "research"}, {"origin": "DE", "corridors": (corridor(),)},
        {"trust": bytes(32)},
        {"lists": (bytes(32),)}, {"deny_hardware": ("a",)}, {"max_retention_s": 0}, {"no_training": True},
        {"max_carbon_g_per_kwh": 0}, {"licenses": ("mit",)},
    ]  # fmt: skip
    assert len({encode(a_policy(**each)) for each in changes}) == len(changes)
    fields = {name for each in changes for name in each}
    assert {*Policy.__dataclass_fields__} - {*fields, "blocs"} == {
        "latency_class", "max_price_in", "max_price_out", "allow", "deny", "min_evidence", "min_stake", "precision",
    }  # fmt: skip


@pytest.mark.parametrize(
    "broken",
    [
        {"blocs": "1999-01-01"},
        {"origin": "EU"},
        {"origin": "ZZ"},
        {"corridors": (corridor(),)},
        {"origin": "DE", "corridors": (corridor(to="XX"),)},
        {"origin": "DE", "corridors": (corridor(source="ZZ"),)},
    ],
)
def test_a_policy_that_means_nothing_is_none(broken: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        a_policy(**broken)


# Corridors


@pytest.mark.parametrize(
    ("source", "to", "lawful"),
    [
        ("DE", "DE", True),
        ("DE-BE", "DE-BY", True),
        ("DE", "FR", True),
        ("FR", "JP", True),
        ("FR", "JP-13", True),
        ("DE", "JP", False),
        ("JP", "FR", False),
        ("JP", "DE", True),
        ("US-CA", "CA", True),
        ("US", "CA", False),
        ("US-NY", "CA", False),
        ("ZZ", "ZZ", False),
        ("DE", "ZZ", False),
    ],
)
def test_a_hop_stays_goes_home_or_follows_a_corridor(source: str, to: str, lawful: bool) -> None:
    corridors = (corridor("DE", "EU"), corridor("FR", "JP"), corridor("US-CA", "CA"))
    policy = a_policy(origin="DE", corridors=corridors)
    assert policy.lets_pass((source,), (to,), UNTIL) is lawful
    assert a_policy().lets_pass((source,), (to,), UNTIL), "without an origin nothing binds"


def test_a_corridor_is_for_its_purpose_and_its_time() -> None:
    def may(until: int = UNTIL, **policy: Any) -> bool:
        return a_policy(origin="DE", corridors=(corridor(),), **policy).lets_pass(("DE",), ("FR",), until)

    assert may()
    assert not may(UNTIL + 1)
    assert not may(purpose="training")
    assert not a_policy(origin="DE", corridors=()).lets_pass(("DE",), ("FR",), UNTIL)


def test_corridors_are_not_joined() -> None:
    policy = a_policy(origin="DE", corridors=(corridor("DE", "CH"), corridor("CH", "US")))
    assert policy.lets_pass(("CH",), ("US",), UNTIL)
    assert not policy.lets_pass(("DE",), ("US",), UNTIL)
    assert excluded(
        policy, an_offer(jurisdiction="US"), model=MODEL, venue=VENUE, now=NOW, needs=Needs(law=Law(until=UNTIL))
    ) == Reason(ReasonCode.CORRIDOR, "no corridor for inference leads from DE, where your data come from, to US")


def test_a_route_is_lawful_all_the_way_round() -> None:
    policy = a_policy(origin="DE", corridors=(corridor("DE", "EU"), corridor("EU", "EU")))
    assert policy.unlawful_hop([("DE",), ("FR",), ("IT",)], UNTIL) is None
    assert policy.unlawful_hop([("DE",), ("FR",), ("CH",)], UNTIL) == (1, 2)
    one_way = a_policy(origin="DE", corridors=(corridor("DE", "EU"), corridor("FR", "IT")))
    assert one_way.unlawful_hop([("FR",), ("IT",)], UNTIL) == (1, 0), "the last leg sends to the first"
    assert one_way.unlawful_hop([("FR",)], UNTIL) is None
    assert policy.unlawful_hop([("FR", "IT"), ("IT", "CH")], UNTIL) == (0, 1), "all machines of an offer count"


# Lists


def a_list(*entries: tuple[str, str], key: SigningKey = ISSUER, **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "name": "export list", "issued_at": NOW - 100, "effective_from": NOW - 50, "expires_at": UNTIL,
        "entries": tuple(Denial(what=DenialKind(what), value=value) for what, value in entries),
    }  # fmt: skip
    return seal(Denials(**{**values, **changes}), key)


def under(*sealed: bytes, until: int = UNTIL) -> tuple[dict[str, Any], Law]:
    opened = tuple(open_denials(each) for each in sealed)
    return {"lists": tuple(each.hash for each in opened)}, Law(lists=opened, until=until)


@pytest.mark.parametrize(
    ("entry", "kept", "broken", "code"),
    [
        (("operator", f"0x{key_of(0).address.hex()}"), {"number": 1}, {"number": 0}, ReasonCode.LISTED),
        (("place", "IR"), {}, {"jurisdiction": "IR"}, ReasonCode.LISTED),
        (("place", "UA-43"), {"jurisdiction": "UA", "region": "UA-30"}, {"jurisdiction": "UA"}, ReasonCode.LISTED),
        (("place", "EU"), {"jurisdiction": "CH"}, {"jurisdiction": "CH", "places": ("FR",)}, ReasonCode.LISTED),
        (("place", "IR"), {}, {"jurisdiction": "ZZ"}, ReasonCode.UNDECLARED),
        (("hardware", "cluster"), hardware("consumer", "L4"), hardware("cluster", "L4"), ReasonCode.LISTED),
        (("hardware", "H100"), hardware("datacenter", "A100"), hardware("datacenter", "H100"), ReasonCode.LISTED),
        (("hardware", "cluster"), hardware("consumer", "L4"), hardware("", "L4"), ReasonCode.HARDWARE),
        (("hardware", "H100"), hardware("datacenter", "A100"), hardware("datacenter"), ReasonCode.HARDWARE),
    ],
)
def test_a_list_denies_what_it_names(
    entry: tuple[str, str], kept: dict[str, Any], broken: dict[str, Any], code: ReasonCode
) -> None:
    policy, law = under(a_list(entry))
    assert code_for(policy, kept, law) is None
    assert code_for(policy, broken, law) is code
    assert code_for({}, broken, law) is None, "only what the policy names is obeyed"


def test_a_list_counts_in_its_time() -> None:
    entry = ("place", "FR")
    policy, law = under(a_list(entry, effective_from=UNTIL))
    assert code_for(policy, {}, law) is ReasonCode.LISTED, "it begins while the job may still run"
    policy, law = under(a_list(entry, effective_from=UNTIL + 1))
    assert code_for(policy, {}, law) is None
    policy, law = under(a_list(expires_at=UNTIL - 1))
    assert code_for(policy, {}, law) is ReasonCode.LIST


def test_a_list_that_is_not_at_hand_leaves_nobody() -> None:
    policy, law = under(a_list())
    assert code_for(policy, {}, law) is None
    assert code_for(policy, {}) is ReasonCode.LIST
    other, _ = under(a_list(("place", "IR")))
    assert code_for({"lists": (*policy["lists"], *other["lists"])}, {}, law) is ReasonCode.LIST


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("operator", "0x12"),
        ("operator", "0X" + "ab" * 20),
        ("operator", "0x" + "AB" * 20),
        ("place", "XX"),
        ("hardware", ""),
        ("statement", "ab"),
    ],
)
def test_a_line_that_could_deny_nothing_is_refused(what: str, value: str) -> None:
    with pytest.raises(InvalidError):
        Denial(what=DenialKind(what), value=value)


# Blocs


def test_blocs_are_made_of_countries_and_have_a_source() -> None:
    for table in BLOCS.values():
        for name, bloc in table.items():
            assert bloc.members <= COUNTRIES, name
            assert bloc.source
    now = BLOCS[BLOCS_NOW]
    assert {name: len(bloc.members) for name, bloc in now.items()} == {
        "EU": 27, "EEA": 30, "EFTA": 4, "EU-ADEQUACY": 14, "FIVE-EYES": 5,
    }  # fmt: skip
    assert not now["EU-ADEQUACY"].members & now["EEA"].members


def test_evidence_beyond_the_claim_needs_somebody_to_trust() -> None:
    for least in list(Evidence)[1:]:
        assert code_for({"min_evidence": least}, {}) is ReasonCode.EVIDENCE
