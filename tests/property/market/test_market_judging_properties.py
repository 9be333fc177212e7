"""Offers judged as columns, against the rule that judges one."""

from __future__ import annotations

from typing import Any

from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st
from market_offers import MODEL, NOW, VENUE, a_policy, an_energy_claim, an_offer, key_of, some_hardware

from protocol.market.offer import Evidence, Offer
from protocol.policy.policy import Known, LatencyClass, Needs, Policy
from protocol.routing.columns import Column, Columns
from protocol.routing.judging import Judge

PLACES = [("FR", ""), ("DE", ""), ("DE", "DE-BE"), ("US", "US-CA"), ("US", ""), ("ZZ", "")]


@st.composite
def some_offers(draw: st.DrawFn) -> list[Offer]:
    """Up to twelve, each unlike an ordinary one in a field or two."""
    found: dict[Any, Offer] = {}
    for _ in range(draw(st.integers(0, 12))):
        country, region = draw(st.sampled_from(PLACES))
        changes: dict[str, Any] = {"jurisdiction": country, "region": region}
        if country != "ZZ" and draw(st.booleans()):
            changes["places"] = draw(st.sampled_from([("CA",), ("NO", "US-NY")]))
        others = {
            "model": st.sampled_from([MODEL, b"\x77" * 32]),
            "venue": st.sampled_from([VENUE, b"\x78" * 32]),
            "expires_at": st.sampled_from([NOW, NOW + 1]),
            "blocks": st.sampled_from([4, 5]),
            "precision": st.sampled_from(["fp32", "bf16"]),
            "license": st.sampled_from(["", "mit"]),
            "context": st.sampled_from([99, 100]),
            "sessions": st.sampled_from([0, 1]),
            "window": st.sampled_from([7, 8]),
            "chunk": st.sampled_from([15, 16]),
            "price_in": st.integers(0, 200),
            "price_out": st.integers(0, 200),
            "position_us": st.sampled_from([1, 199_999, 200_000, 200_003, 200_004]),
            "retention_s": st.sampled_from([0, 60]),
            "hardware": st.sampled_from([some_hardware(), some_hardware(category="consumer")]),
            "energy": st.sampled_from([None, an_energy_claim(carbon_g_per_kwh=300, millijoules_out=1)]),
        }
        for name in draw(st.lists(st.sampled_from(sorted(others)), max_size=2)):
            changes[name] = draw(others[name])
        span = draw(st.sampled_from([(0, 4), (1, 3), (2, 3)]))
        offer = an_offer(draw(st.integers(0, 5)), span, **changes)
        found[offer.public_key, offer.model, span] = offer
    return list(found.values())


LAWS: list[dict[str, Any]] = [
    {},
    {},
    {"max_retention_s": 0},
    {"no_training": True},
    {"deny_hardware": ("consumer",)},
    {"max_carbon_g_per_kwh": 200},
    {"licenses": ("mit",)},
    {"origin": "DE"},
    {"trust": bytes(32)},
    {"lists": (b"\x05" * 32,)},
]
"""What else a policy may ask."""


@st.composite
def some_policies(draw: st.DrawFn) -> Policy:
    """Policies that admit some of these."""
    return a_policy(
        latency_class=draw(st.sampled_from([LatencyClass.METRO, LatencyClass.CHAT, LatencyClass.DEVICE])),
        max_price_in=draw(st.none() | st.integers(0, 60)),
        max_price_out=draw(st.none() | st.integers(0, 60) | st.just(2**63 - 1)),
        allow=draw(st.sampled_from([(), ("EU",), ("DE-BE", "US"), ("US-CA",)])),
        deny=draw(st.sampled_from([(), ("US",), ("DE-BE",), ("CA",)])),
        min_evidence=draw(st.sampled_from([Evidence.CLAIMED, Evidence.RTT_PROVEN])),
        min_stake=draw(st.sampled_from([0, 5])),
        **draw(st.sampled_from(LAWS)),
    )


KNOWN = st.dictionaries(
    st.integers(0, 5).map(lambda number: key_of(number).public_key),
    st.builds(
        Known,
        evidence=st.sampled_from([Evidence.CLAIMED, Evidence.ATTESTED]),
        stake=st.sampled_from([0, 5]),
        has_place=st.booleans(),
    ),
)
NEEDS = st.sampled_from([Needs(), Needs(positions=100, window=8, chunk=16)])


@settings(max_examples=at_length(300), deadline=None)
@given(some_offers(), some_policies(), KNOWN, NEEDS)
def test_columns_are_judged_as_each_offer_is(
    offers: list[Offer], policy: Policy, known: dict[bytes, Known], needs: Needs
) -> None:
    columns = Columns(offers)
    judge = Judge(columns=columns, policy=policy, model=MODEL, blocks=4, venue=VENUE, now=NOW, needs=needs, known=known)
    admitted = judge.admitted()
    assert [bool(admitted[columns.row(offer)]) for offer in offers] == [judge.reason(offer) is None for offer in offers]


@settings(max_examples=at_length(100), deadline=None)
@given(some_offers(), st.lists(st.integers(0, 11)), some_offers())
def test_columns_follow_what_comes_and_goes(first: list[Offer], gone: list[int], later: list[Offer]) -> None:
    columns = Columns(first)
    held = {(offer.public_key, offer.model, offer.span.start, offer.span.end): offer for offer in first}
    kept = columns.copy()
    for number in gone:
        if number < len(first):
            key = (first[number].public_key, first[number].model, first[number].span.start, first[number].span.end)
            if held.pop(key, None) is not None:
                columns.drop(key)
    for offer in later:
        columns.put(offer)
        held[offer.public_key, offer.model, offer.span.start, offer.span.end] = offer
    live = columns.live()
    assert len(columns) == len(held) == int(live.sum())
    assert {id(columns.offer(row)) for row in range(columns.rows) if live[row]} == {id(each) for each in held.values()}
    for row in range(columns.rows):
        if live[row]:
            offer = columns.offer(row)
            assert columns.at(Column.MODEL)[row] == columns.model(offer.model)
            assert columns.at(Column.PROVIDER)[row] == columns.provider(offer.public_key)
            assert columns.place(int(columns.at(Column.PLACE)[row]))[0] == offer.jurisdiction
    assert columns.rows <= max(len(first), 1) + len(later)
    assert len(kept) == len(first)
    assert [kept.offer(kept.row(offer)) for offer in first] == first
