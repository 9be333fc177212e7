"""Hostile bytes where an offer or a policy is expected: a PeerError, or the very message that was sent."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st
from market_offers import NOW, a_policy, an_offer, key_of

from node.market.book import verify_offer
from protocol.encoding.codec import Message, decode, encode
from protocol.energy.tariff import MAX_PRICE
from protocol.errors import MalformedError, PeerError
from protocol.identity.ids import MAX_TOKENS
from protocol.identity.signing import seal
from protocol.market.offer import MAX_AT_ONCE, MAX_DURATION_US, MAX_SEALED_OFFER, Evidence, Offer
from protocol.policy.policy import LatencyClass, Policy

U63 = st.integers(0, 2**63 - 1)
PRICES = st.integers(0, MAX_PRICE)
DURATIONS = st.integers(0, MAX_DURATION_US)
PLACES = st.lists(st.sampled_from(["FR", "DE", "EU", "EEA", "US", "DE-BE", "US-CA"]), max_size=5).map(tuple)

OFFERS = st.builds(
    an_offer,
    st.integers(0, 3),
    sequence=U63,
    price_in=PRICES,
    price_out=PRICES,
    price_rejected=PRICES,
    context=st.integers(0, MAX_TOKENS),
    sessions=st.integers(0, MAX_AT_ONCE),
    forecast=st.lists(PRICES, max_size=48).map(tuple),
    carbon_forecast=st.lists(st.integers(0, 10_000), max_size=48).map(tuple),
    prompt_us=DURATIONS,
    position_us=DURATIONS,
    energy=st.none() | st.just(an_offer().energy),
    model_name=st.text(st.characters(categories=["L", "N", "P"]), max_size=24),
    jurisdiction=st.sampled_from(["FR", "ZZ", "XX", ""]),
    region=st.sampled_from(["", "FR-75", "DE-BE", "FR-", "x"]),
)
POLICIES = st.builds(
    a_policy,
    latency_class=st.sampled_from(LatencyClass),
    max_price_in=st.none() | U63,
    max_price_out=st.none() | U63,
    allow=PLACES,
    deny=PLACES,
    min_evidence=st.sampled_from(Evidence),
    min_stake=U63,
)
MUTATIONS = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=4)


def mutated(data: bytes, mutations: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for place, value in mutations:
        changed[place % len(changed)] = value
    return bytes(changed)


@settings(deadline=None)
@given(OFFERS | POLICIES)
def test_messages_survive_the_wire(value: Message) -> None:
    assert decode(encode(value), Offer, Policy) == value


@settings(max_examples=at_length(400), deadline=None)
@given(OFFERS | POLICIES, MUTATIONS)
def test_changed_bytes_are_refused_or_mean_something_else(value: Message, mutations: list[tuple[int, int]]) -> None:
    data = mutated(encode(value), mutations)
    try:
        decoded: Message = decode(data, Offer, Policy)
    except MalformedError:
        return
    assert encode(decoded) == data


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_refused(data: bytes) -> None:
    for kind in (Offer, Policy):
        with pytest.raises(MalformedError):
            decode(data, kind)


@settings(max_examples=at_length(200), deadline=None)
@given(OFFERS, st.integers(0, 3), MUTATIONS | st.none())
def test_a_sealed_offer_is_the_nodes_own_or_refused(
    offer: Offer, sealer: int, mutations: list[tuple[int, int]] | None
) -> None:
    honest = seal(offer, key_of(sealer))
    data = honest if mutations is None else mutated(honest, mutations)
    try:
        accepted = verify_offer(data, NOW).offer
    except PeerError:
        return
    assert data == honest
    assert accepted == offer
    assert offer.public_key == key_of(sealer).public_key


FIELDS = tuple(Offer.__dataclass_fields__)


@settings(deadline=None, max_examples=at_length(200))
@given(st.sampled_from(FIELDS), st.sampled_from([None, -1, 2**63, "x", b"x", [], True, 1.5]))
def test_an_ill_typed_field_is_named(field: str, value: Any) -> None:
    raw = msgpack.unpackb(encode(an_offer()), raw=False)
    at = 1 + FIELDS.index(field)
    fits = (
        raw[at] == value
        or type(raw[at]) is type(value) is bool
        or (type(raw[at]) is type(value) is str)
        or (value is None and field == "energy")
    )
    if fits:
        return
    raw[at] = value
    with pytest.raises(MalformedError, match="Offer"):
        decode(msgpack.packb(raw), Offer)


@pytest.mark.parametrize("size", [MAX_SEALED_OFFER + 1, 100_000])
def test_oversized_bytes_are_refused_unread(size: int) -> None:
    with pytest.raises(MalformedError, match="bytes"):
        verify_offer(bytes(size), NOW)
