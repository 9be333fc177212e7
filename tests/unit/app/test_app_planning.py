"""What a request comes to: every setting of the policy counts, and what cannot be is said before money moves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from market_offers import MANIFEST, MODEL, NOW, VENUE, an_offer, key_of

from node.app.buying.grammars import of_schema
from node.app.buying.law import law_of, policy_of
from node.app.buying.planning import Market
from node.app.buying.request import Request
from node.app.buying.requirements import require_funds, require_routable, require_tokens
from node.config import ClientConfig
from node.peers import Deeds
from node.ports import VenueRules
from protocol.errors import ConfigurationError, FundsError, RoutingError
from protocol.identity.ids import checksum_address
from protocol.identity.signing import seal
from protocol.market.offer import Evidence, Offer
from protocol.policy.corridors import Corridor
from protocol.policy.policy import LatencyClass, Policy
from protocol.policy.trust import Trust, trust_hash
from protocol.reputation.standing import NEWCOMER, Deed, Standing
from protocol.routing.columns import Columns
from protocol.routing.routes import NoRouteError
from protocol.session.grammar import MASKS

ROOT = MANIFEST.root
CONFIG = ClientConfig(data_dir=Path("/nowhere"))


def market(
    offers: list[Offer],
    config: ClientConfig = CONFIG,
    *,
    prompt: tuple[int, ...] = (1, 2, 3),
    standing: Callable[[bytes], Standing] = lambda _address: NEWCOMER,
    busy: Mapping[bytes, int] = MappingProxyType({}),
    **request: Any,
) -> Market:
    sealed, request_of = [(offer, seal(offer, key_of(0))) for offer in offers], Request(prompt=prompt, **request)
    return Market(request_of, config, MANIFEST, sealed, venue=VENUE, clock=lambda: NOW, standing=standing, busy=busy)


def here(number: int = 0, **changes: Any) -> Offer:
    return an_offer(number, model=ROOT, **changes)


CORRIDOR = Corridor(source="EU", to="CH", purpose="inference", expires_at=1_893_456_000)
ATTESTOR = checksum_address(b"\x01" * 20)
TRUST = Trust(anchors=(), lying=0, attestors=(b"\x01" * 20,), stands=None)
POLICY_SETTINGS: dict[str, tuple[Any, str, Any]] = {
    "latency_class": ("metro", "latency_class", LatencyClass.METRO),
    "max_price_in_micro": (5, "max_price_in", 5),
    "max_price_out_micro": (6, "max_price_out", 6),
    "allow": (("DE",), "allow", ("DE",)),
    "deny": (("US",), "deny", ("US",)),
    "min_evidence": ("attested", "min_evidence", Evidence.ATTESTED),
    "min_stake_micro": (7, "min_stake", 7),
    "precision": ("bf16", "precision", "bf16"),
    "origin": ("DE-BE", "origin", "DE-BE"),
    "purpose": ("research", "purpose", "research"),
    "corridors": (("EU>CH:inference:2030-01-01",), "corridors", (CORRIDOR,)),
    "attestors": ((ATTESTOR,), "trust", trust_hash(TRUST)),
    "deny_hardware": (("cluster",), "deny_hardware", ("cluster",)),
    "max_retention_s": (0, "max_retention_s", 0),
    "training": ("forbidden", "no_training", True),
    "max_carbon_g_per_kwh": (50, "max_carbon_g_per_kwh", 50),
    "licenses": (("MIT",), "licenses", ("MIT",)),
}


@pytest.mark.parametrize("setting", POLICY_SETTINGS)
def test_every_setting_of_the_policy_reaches_it(setting: str) -> None:
    value, field, expected = POLICY_SETTINGS[setting]
    config = dataclasses.replace(CONFIG, **{"origin": "FR", setting: value})
    policy = policy_of(config, MANIFEST, law_of(config, NOW))
    assert getattr(policy, field) == expected
    assert getattr(policy_of(CONFIG, MANIFEST, law_of(CONFIG, NOW)), field) != expected


def test_no_field_of_the_policy_is_without_a_setting() -> None:
    """Lists are tested with their files; the table of blocs is the newest."""
    told = {field for _, field, _ in POLICY_SETTINGS.values()} | {"lists", "blocs"}
    assert told == {each.name for each in dataclasses.fields(Policy)}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"min_evidence": "rtt_consistent"}, "evidence"),
        ({"deny": ("FR",)}, "jurisdiction-denied"),
        ({"window": 65}, "window"),
        ({"precision": "bf16"}, "precision"),
    ],
)
def test_what_no_offer_meets_is_told_before_a_session_is_opened(changes: dict[str, Any], code: str) -> None:
    asked = market([here()], dataclasses.replace(CONFIG, **changes))
    assert asked.worth_asking() == []
    with pytest.raises(NoRouteError) as caught:
        asked.route()
    assert [reason.code for _, reason in caught.value.explanations] == [code]
    assert market([here()]).worth_asking() == [here()]


def test_a_stake_counts_once_it_was_looked_up() -> None:
    """Before, its provider may be asked for it, and is on no route."""
    asked = market([here()], dataclasses.replace(CONFIG, min_stake_micro=5))
    (offer,) = asked.worth_asking()
    assert asked.without_stake([offer]) == [offer.public_key]
    asked.hear([offer], {offer.public_key: 1_000})
    for stakes, code in (({}, "stake"), ({offer.public_key: 4}, "stake"), ({offer.public_key: 5}, None)):
        asked.take_stakes(stakes)
        if code is None:
            assert asked.route().legs[0].offer == offer
            assert asked.without_stake([offer]) == []
        else:
            with pytest.raises(NoRouteError) as caught:
                asked.route()
            assert [reason.code for _, reason in caught.value.explanations] == [code]
    assert market([here()]).without_stake([here()]) == []


def test_a_request_overrides_the_settings() -> None:
    asked = market([here()], window=2, most=5, policy={"max_price_out": 1})
    assert (asked.plan.window, asked.plan.most, asked.plan.prompt) == (2, 5, 3)
    assert asked.policy.max_price_out == 1
    assert asked.worth_asking() == []
    with pytest.raises(ConfigurationError, match="a policy has no colour"):
        market([here()], policy={"colour": "green"})


def test_the_answer_is_cut_to_what_the_context_leaves() -> None:
    assert market([here()], prompt=(1,) * 99).plan.most == 1
    with pytest.raises(ConfigurationError, match="the prompt has 100 tokens; the model takes 1 to 99"):
        market([here()], prompt=(1,) * 100)
    with pytest.raises(ConfigurationError, match="no tokens"):
        require_tokens(Request(prompt=()))


def test_silent_nodes_are_asked_once_and_named() -> None:
    offers = [here(0, price_out=1), here(1, price_out=2)]
    asked = market(offers)
    assert asked.worth_asking() == offers
    assert not asked.hear(offers, {offers[1].public_key: 500})
    assert asked.worth_asking() == [offers[1]]
    found = asked.route()
    assert [leg.offer for leg in found.legs] == [offers[1]]
    assert [(offer, reason.code) for offer, reason in found.explanations] == [(offers[0], "unreachable")]


def test_a_node_that_said_when_to_come_back_is_gone_round_and_then_has_a_place_whatever_its_offer_says() -> None:
    full = here(0, price_out=1)
    full = full.replace(limits=full.limits.replace(sessions=0))
    offers = [full, here(1, price_out=2)]
    node = full.public_key
    assert market(offers).worth_asking() == [offers[1]]
    asked = market(offers, busy={node: NOW + 9})
    assert asked.worth_asking() == [offers[1]]
    assert asked.hear(offers[1:], {offers[1].public_key: 500})
    assert [(offer, reason.sentence) for offer, reason in asked.route().explanations] == [
        (full, "it is busy, and said to come back in 9 s")
    ]
    assert asked.readmit()
    assert asked.worth_asking() == offers
    assert market(offers, busy={node: NOW}).worth_asking() == offers


def test_excluded_providers_are_left_out_and_nodes_off_the_shortlist_are_dearer() -> None:
    offers = [here(number, price_out=100 + number) for number in range(12)]
    asked = market(offers, exclude=frozenset({offers[0].public_key}))
    short = asked.worth_asking()
    assert short == offers[1:9]
    assert asked.hear(short, {offer.public_key: 500 for offer in short})
    found = asked.route()
    assert found.legs[0].offer == offers[1]
    said = {offer.public_key: reason.sentence for offer, reason in found.explanations}
    assert "did not take this job before" in said[offers[0].public_key]
    assert "enough cheaper offers" in said[offers[11].public_key]


def remembered(**deeds: Deed) -> Callable[[bytes], Standing]:
    """What is known of the providers with these numbers."""
    known = Deeds()
    for number, deed in deeds.items():
        known.take(key_of(int(number[1:])).address, deed, at=NOW - 10)
    return lambda address: known.standing(address, NOW)


def test_a_provider_that_failed_is_left_out_where_there_is_another_and_a_newcomer_is_not() -> None:
    cheap, dear = here(0, price_out=1), here(1, price_out=2)
    asked = market([cheap, dear], standing=remembered(n0=Deed.SILENT))
    assert asked.worth_asking() == [dear]
    asked.hear([dear], {dear.public_key: 500})
    found = asked.route()
    assert [leg.offer for leg in found.legs] == [dear]
    ((offer, reason),) = found.explanations
    assert (offer, reason.code) == (cheap, "shunned")
    assert reason.sentence == "it failed you once, last 10 s ago: left out for 50 s more"


def test_for_want_of_others_those_that_failed_are_used_and_then_those_that_did_worse() -> None:
    failed, liar = here(0, blocks_served=(0, 2)), here(1, blocks_served=(2, 4))
    asked = market([failed, liar], standing=remembered(n0=Deed.FAILED, n1=Deed.LIED))
    assert asked.worth_asking() == []
    with pytest.raises(NoRouteError) as caught:
        asked.route()
    assert [reason.code for _, reason in caught.value.explanations] == ["shunned", "shunned"]
    assert asked.readmit()
    assert asked.worth_asking() == [failed]
    with pytest.raises(NoRouteError):
        asked.route()
    assert asked.readmit()
    both = asked.worth_asking()
    assert both == [failed, liar]
    asked.hear(both, {offer.public_key: 500 for offer in both})
    assert [leg.offer for leg in asked.route().legs] == both
    assert not asked.readmit()


def test_a_liar_is_not_used_where_one_that_failed_will_do() -> None:
    liar, failed = here(0, price_out=1), here(1, price_out=9)
    asked = market([liar, failed], standing=remembered(n0=Deed.LIED, n1=Deed.FAILED))
    assert asked.readmit()
    assert asked.worth_asking() == [failed]


def test_a_deal_names_the_offers_that_it_is_made_of() -> None:
    offers = [here(0)]
    asked = market(offers)
    asked.hear(offers, {offers[0].public_key: 500})
    found = asked.route()
    deal = asked.deal(found, client=key_of(9).address, randomness=lambda size: bytes(size))
    assert deal.terms.plan == asked.plan
    assert deal.session.expiry == NOW + CONFIG.session_s
    assert deal.legs[0].sealed == seal(offers[0], key_of(0))
    assert deal.prompt == (1, 2, 3)


def test_fees_are_part_of_what_a_job_needs() -> None:
    rules = VenueRules(grace_s=60, fee=10)
    require_funds(100, rules, 130)
    with pytest.raises(FundsError, match=r"0\.000129 is free, 0\.000001 is missing"):
        require_funds(100, rules, 129)


def test_a_class_that_no_network_keeps_to_is_refused_at_once() -> None:
    require_routable(CONFIG)
    with pytest.raises(ConfigurationError, match="device jobs are never sent over a network"):
        require_routable(dataclasses.replace(CONFIG, latency_class="device"))


def test_offers_of_another_model_are_not_in_the_market() -> None:
    assert market([an_offer(0, model=MODEL)]).worth_asking() == []


def test_what_the_book_has_of_other_models_is_no_part_of_a_market() -> None:
    mine, other = here(), an_offer(1, model=b"\x77" * 32)
    columns = Columns([other, mine])
    made = Market(
        Request(prompt=(1, 2, 3)), CONFIG, MANIFEST, [(mine, b"")], venue=VENUE, clock=lambda: NOW, columns=columns
    )
    assert made.worth_asking() == [mine]
    made.hear([mine], {mine.public_key: 1_000})
    found = made.route()
    assert [leg.offer for leg in found.legs] == [mine]
    assert found.explanations == ()


def test_a_market_leaves_out_who_cannot_hold_an_answer() -> None:
    text = of_schema({"type": "object"})
    whole = an_offer(0, model=MANIFEST.root)
    other = an_offer(1, model=MANIFEST.root, masks=MASKS)
    assert market([whole, other], grammar=text).worth_asking() == [other]
    with pytest.raises(RoutingError, match="grammar"):
        market([whole], grammar=text)
