"""For each term of a policy: an offer that it admits, one that it refuses, and one that says too little, which it
refuses as well; in the choice of a route, and again by whoever reads the receipt.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from agreed_job import agree
from market_offers import MODEL, NOW, VENUE, a_policy, an_energy_claim, an_offer, key_of, some_hardware, some_rates
from played_job import Play

from protocol.encoding.codec import decode
from protocol.errors import DishonestError
from protocol.geography.blocs import BLOCS_NOW
from protocol.geography.distances import point
from protocol.identity.ids import keccak256
from protocol.identity.signing import Envelope, SigningKey, seal
from protocol.market.offer import Evidence, Offer
from protocol.policy.corridors import Corridor
from protocol.policy.denials import Denial, DenialKind, Denials, open_denials
from protocol.policy.law import NO_LAW, Law
from protocol.policy.policy import Known, LatencyClass, Needs, Policy, excluded
from protocol.policy.trust import Trust, trust_hash
from protocol.receipts.bundle_file import dump_bundle, load_bundle
from protocol.receipts.bundle_law import judged

LIST = seal(
    Denials(
        name="list", issued_at=NOW - 60, effective_from=NOW - 60, expires_at=NOW + 10**6,
        entries=(Denial(what=DenialKind.PLACE, value="IR"), Denial(what=DenialKind.HARDWARE, value="H100")),
    ),
    SigningKey(b"\x0a" * 32),
)  # fmt: skip
TRUST = Trust(anchors=(), lying=0, attestors=(), stands=point(48.85, 2.35))
LAW = Law(trust=TRUST, lists=(open_denials(LIST),), until=NOW + 600)
CORRIDOR = Corridor(source="FR", to="CH", purpose="inference", expires_at=NOW + 10**6)


def on(category: str = "consumer", name: str = "L4") -> dict[str, Any]:
    return {"hardware": some_hardware(category=category, name=name)}


def emits(grams: int | None) -> dict[str, Any]:
    return {"energy": an_energy_claim(carbon_g_per_kwh=grams)}


def asks(**prices: int) -> dict[str, Any]:
    return {"rates": some_rates(**prices)}


def stands(jurisdiction: str) -> dict[str, Any]:
    return {"jurisdiction": jurisdiction, **on()}


Case = tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any] | None]
"""Terms, an offer that keeps them, one that breaks them, and one that says too little; None where all say it."""
CASES: dict[str, Case] = {
    "latency_class": ({"latency_class": LatencyClass.METRO}, {"position_us": 9}, {"position_us": 999_999}, None),
    "max_price_in": ({"max_price_in": 25}, asks(price_in=50), asks(price_in=52), None),
    "max_price_out": ({"max_price_out": 25}, asks(price_out=50), asks(price_out=52), None),
    "allow": ({"allow": ("EU",)}, stands("FR"), stands("CH"), stands("ZZ")),
    "deny": ({"deny": ("CH",)}, stands("FR"), stands("CH"), stands("ZZ")),
    "precision": ({"precision": "fp32"}, {}, {"precision": "bf16"}, None),
    "blocs": ({"blocs": BLOCS_NOW, "allow": ("FIVE-EYES",)}, stands("NZ"), stands("FR"), stands("ZZ")),
    "origin": ({"origin": "FR"}, stands("FR"), stands("CH"), stands("ZZ")),
    "purpose": (
        {"origin": "FR", "purpose": "inference", "corridors": (CORRIDOR,)}, stands("CH"), stands("IS"), stands("ZZ")
    ),
    "corridors": ({"origin": "FR", "corridors": (CORRIDOR,)}, stands("CH"), stands("DE"), stands("ZZ")),
    "lists": ({"lists": (keccak256(LIST),)}, on(), stands("IR"), on(name="")),
    "deny_hardware": ({"deny_hardware": ("datacenter",)}, on(), on("datacenter"), on("")),
    "max_retention_s": ({"max_retention_s": 0}, {}, {"retention_s": 1}, None),
    "no_training": ({"no_training": True}, {"retention_s": 9}, {"retention_s": 9, "trains": True}, None),
    "max_carbon_g_per_kwh": ({"max_carbon_g_per_kwh": 50}, emits(50), emits(51), emits(None)),
    "licenses": ({"licenses": ("mit",)}, {"license": "mit"}, {"license": "gpl-3.0"}, {"license": ""}),
}  # fmt: skip
FOUND_OUT = {
    "min_evidence": ({"min_evidence": Evidence.RTT_CONSISTENT, "trust": trust_hash(TRUST)}, Known(round_trip_us=2_000)),
    "trust": ({"min_evidence": Evidence.RTT_CONSISTENT, "trust": trust_hash(TRUST)}, Known(round_trip_us=2_000)),
    "min_stake": ({"min_stake": 5}, Known(stake=5)),
}
"""What no offer says of itself: the terms, and what a client has to have found out."""


def admits(policy: dict[str, Any], offer: Offer, law: Law = LAW, known: Known = Known()) -> bool:  # noqa: B008
    reason = excluded(
        a_policy(**policy), offer, model=MODEL, venue=VENUE, now=NOW, needs=Needs(law=law), known=known
    )  # fmt: skip
    return reason is None


def offer_with(changes: dict[str, Any]) -> Offer:
    return an_offer(0, (0, 2), **changes)


def test_no_term_is_left_out() -> None:
    assert {*CASES, *FOUND_OUT} == set(Policy.__dataclass_fields__)


@pytest.mark.parametrize("name", CASES)
def test_a_term_binds_and_fails_closed(name: str) -> None:
    policy, kept, broken, silent = CASES[name]
    assert admits(policy, offer_with(kept))
    assert not admits(policy, offer_with(broken))
    assert silent is None or not admits(policy, offer_with(silent)), "what is not known fails"
    # Another value in this field alone, and what was refused is admitted: it is this term that bound.
    others = {name: kept for name, kept in policy.items() if name not in CASES or name in ("blocs",)}
    loose = {"precision": {"precision": "bf16"}, "purpose": {}, "corridors": {}}.get(name, others)
    assert admits(loose, offer_with(broken), NO_LAW)


@pytest.mark.parametrize("name", FOUND_OUT)
def test_what_only_a_client_finds_out_binds_and_fails_closed(name: str) -> None:
    policy, known = FOUND_OUT[name]
    assert admits(policy, offer_with({}), known=known)
    assert not admits(policy, offer_with({}))
    if "trust" in policy:
        other = replace(LAW, trust=TRUST.replace(stands=point(1.0, 2.0)))
        assert not admits(policy, offer_with({}), law=other, known=known), "whom it names is somebody else"
        assert not admits(policy, offer_with({}), law=NO_LAW, known=known), "whom it names is not at hand"


@pytest.mark.parametrize("name", CASES)
def test_whoever_reads_a_receipt_holds_its_legs_against_the_term(name: str) -> None:
    policy, *offers = CASES[name]
    for offer, keeps in zip(offers, (True, False, False), strict=True):
        if offer is None:
            continue
        agreed = agree(spans=((0, 2), (2, 4)), policy=policy, offers={0: offer})
        made = decode(decode(agreed.offers[0], Envelope).body, Offer)
        with nullcontext() if keeps else pytest.raises(DishonestError, match="does not admit leg 0"):
            judged(0, made, agreed.terms, Needs(law=LAW), None)


def test_every_term_is_in_the_receipt() -> None:
    policy = {name: value for terms, *_ in CASES.values() for name, value in terms.items()}
    policy |= {"purpose": "research", "deny": ("IR",), "allow": ("EU",), "precision": "bf16", "min_stake": 5}
    policy |= {"min_evidence": Evidence.RTT_CONSISTENT, "trust": trust_hash(TRUST)}
    usual = a_policy()
    for name in Policy.__dataclass_fields__:
        assert name == "blocs" or policy[name] != getattr(usual, name), name
    bundle = Play(agree(spans=((0, 2), (2, 4)), policy=policy)).run().bundle()
    assert load_bundle(dump_bundle(bundle).encode()).terms.policy == a_policy(**policy)


def test_terms_that_name_nothing() -> None:
    """Nothing allowed by name is everything, a list without lines denies nobody, and nobody trusted backs nothing."""
    nowhere = offer_with({"jurisdiction": "ZZ"})
    for name in ("allow", "deny", "lists", "deny_hardware", "licenses", "corridors"):
        assert admits({name: ()}, nowhere, NO_LAW), name
    assert not admits({"origin": "FR", "corridors": ()}, offer_with(stands("DE"))), "data stay at home"
    empty = seal(Denials(name="none", issued_at=NOW, effective_from=NOW, expires_at=NOW + 10**6, entries=()), key_of(1))
    assert admits({"lists": (keccak256(empty),)}, nowhere, Law(trust=None, lists=(open_denials(empty),), until=NOW))
    trusted = {"min_evidence": Evidence.RTT_CONSISTENT, "trust": trust_hash(TRUST)}
    assert not admits(trusted, offer_with({})), "no anchor, no attestor, and nothing measured"
