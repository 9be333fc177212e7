"""The rules that an order is held against, each with a valid neighbour."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.errors import ExpiredError, JoulemeshError, MalformedError, PeerError, RefusedError, SignatureError
from protocol.ids import BlockSpan, ModelFile, ModelManifest
from protocol.messages import Leg, Session
from protocol.metering import Plan, leg_amount
from protocol.offer import Evidence
from protocol.order import CLOCK_SKEW_S, MAX_ORDER_AGE_S, Hop, JobOrder, SamplingTerms, check_order
from protocol.policy import LatencyClass, Policy, policy_hash
from protocol.signing import SigningKey

NOW = 1_800_000_000
VENUE = b"\x22" * 32
CLIENT, STRANGER = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
PROVIDERS = tuple(SigningKey(bytes([16 + number]) * 32) for number in range(3))
MANIFEST = ModelManifest(
    name="six",
    precision="fp32",
    blocks=6,
    hidden_size=4,
    vocabulary=50,
    max_context=100,
    stop_tokens=(0,),
    files=(ModelFile(name="config.json", size=1, sha256=bytes(32)),),
)
POLICY = Policy(
    latency_class=LatencyClass.CHAT,
    max_price_in=None,
    max_price_out=None,
    allow=(),
    deny=("US",),
    min_evidence=Evidence.CLAIMED,
    min_stake=0,
    precision="fp32",
)
PLAN = Plan(prompt=20, most=30, chunk=8, window=4)
LEGS = tuple(
    Leg(provider=key.address, price_in=10**6, price_out=2 * 10**6, cap=20 + 2 * 30)  # one a token in, two a token out
    for key in PROVIDERS
)
SESSION = Session(
    client=CLIENT.address,
    expiry=NOW + 600,
    window=4,
    model=MANIFEST.root,
    policy=policy_hash(POLICY),
    salt=bytes(32),
    legs=LEGS,
)


def hops(*spans: tuple[int, int], keys: tuple[SigningKey, ...] = PROVIDERS) -> tuple[Hop, ...]:
    return tuple(
        Hop(public_key=key.public_key, data_address="/ip4/127.0.0.1/tcp/1/tls", span=BlockSpan(start=start, end=end))
        for key, (start, end) in zip(keys, spans, strict=False)
    )


ORDER = JobOrder(
    venue=VENUE,
    session=SESSION,
    leg=1,
    hops=hops((0, 2), (2, 4), (4, 6)),
    plan=PLAN,
    policy=POLICY,
    sampling=SamplingTerms(temperature_milli=0, seed=0),
    issued_at=NOW,
)


def check(signer: SigningKey = CLIENT, me: SigningKey = PROVIDERS[1], **changes: Any) -> None:
    check_order(ORDER.replace(**changes), signer.address, me=me.public_key, venue=VENUE, manifest=MANIFEST, now=NOW)


def terms(**changes: Any) -> Session:
    return SESSION.replace(**changes)


def test_a_valid_order_is_taken_by_each_leg() -> None:
    check()
    for leg, key in enumerate(PROVIDERS):
        check(me=key, leg=leg)


def test_o1_only_the_sessions_client_orders() -> None:
    with pytest.raises(SignatureError, match="not signed by the session's client"):
        check(signer=STRANGER)
    check(signer=STRANGER, session=terms(client=STRANGER.address))


@pytest.mark.parametrize("issued_at", [NOW - MAX_ORDER_AGE_S, NOW, NOW + CLOCK_SKEW_S])
def test_o2_a_fresh_order_is_taken(issued_at: int) -> None:
    check(issued_at=issued_at)


@pytest.mark.parametrize("issued_at", [0, NOW - MAX_ORDER_AGE_S - 1, NOW + CLOCK_SKEW_S + 1])
def test_o2_a_stale_order_is_refused(issued_at: int) -> None:
    with pytest.raises(ExpiredError, match="too old"):
        check(issued_at=issued_at)


def test_o2_the_session_must_last() -> None:
    check(session=terms(expiry=NOW + 1))
    with pytest.raises(ExpiredError, match="session has expired"):
        check(session=terms(expiry=NOW))


def test_o3_the_order_is_for_this_ledger_and_this_model() -> None:
    with pytest.raises(RefusedError) as other_ledger:
        check(venue=b"\x23" * 32)
    assert other_ledger.value.code == "venue"
    with pytest.raises(RefusedError) as other_model:
        check(session=terms(model=b"\x24" * 32))
    assert other_model.value.code == "model"


def test_o4_the_route_has_the_sessions_legs() -> None:
    with pytest.raises(MalformedError, match="does not match the session's legs"):
        check(hops=hops((0, 2), (2, 6)))
    with pytest.raises(MalformedError, match="does not match the session's legs"):
        check(leg=3)
    check(session=terms(legs=LEGS[:2]), hops=hops((0, 2), (2, 6)))


def test_o4_the_leg_is_the_receivers() -> None:
    with pytest.raises(RefusedError) as refused:
        check(leg=0)
    assert refused.value.code == "not-mine"


@pytest.mark.parametrize(
    ("spans", "complaint"),
    [
        (((0, 2), (3, 4), (4, 6)), "gap or overlaps at block 2"),
        (((0, 2), (1, 4), (4, 6)), "gap or overlaps at block 2"),
        (((1, 2), (2, 4), (4, 6)), "gap or overlaps at block 0"),
        (((0, 2), (2, 4), (4, 5)), "ends at block 5 of 6"),
        (((0, 2), (2, 4), (4, 7)), "ends at block 7 of 6"),
    ],
)
def test_o4_the_spans_cover_the_model(spans: tuple[tuple[int, int], ...], complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint):
        check(hops=hops(*spans))


def test_o4_spans_of_any_length_will_do() -> None:
    check(hops=hops((0, 1), (1, 5), (5, 6)))


@pytest.mark.parametrize("key", [STRANGER.public_key, b"\x05" * 33, bytes(33)])
def test_o4_each_hop_is_its_legs_provider(key: bytes) -> None:
    first, second, third = ORDER.hops
    with pytest.raises(MalformedError):
        check(hops=(first, second, third.replace(public_key=key)))


def test_o5_the_policy_is_the_sessions() -> None:
    laxer = POLICY.replace(deny=())
    with pytest.raises(MalformedError, match="policy"):
        check(policy=laxer)
    check(policy=laxer, session=terms(policy=policy_hash(laxer)))


def test_o6_the_window_is_the_sessions() -> None:
    with pytest.raises(MalformedError, match="window"):
        check(plan=PLAN.replace(window=5))
    check(plan=PLAN.replace(window=5), session=terms(window=5))


@pytest.mark.parametrize("name", ["prompt", "most", "chunk", "window"])
def test_o6_no_count_is_zero(name: str) -> None:
    check(plan=PLAN.replace(**{name: 1}), session=terms(window=1 if name == "window" else 4))
    with pytest.raises(MalformedError, match="at least 1"):
        check(plan=PLAN.replace(**{name: 0}), session=terms(window=0 if name == "window" else 4))


def test_o6_the_tokens_fit_the_context() -> None:
    legs = tuple(leg.replace(cap=1000) for leg in LEGS)
    check(plan=PLAN.replace(most=80), session=terms(legs=legs))
    with pytest.raises(RefusedError) as refused:
        check(plan=PLAN.replace(most=81), session=terms(legs=legs))
    assert refused.value.code == "context"
    with pytest.raises(RefusedError):
        check(plan=PLAN.replace(prompt=2**32 - 1, most=2**32 - 1), session=terms(legs=legs))


def test_o7_the_cap_pays_for_everything() -> None:
    assert leg_amount(LEGS[1], 20, 30) == LEGS[1].cap
    low = LEGS[1].replace(cap=LEGS[1].cap - 1)
    with pytest.raises(RefusedError) as refused:
        check(session=terms(legs=(LEGS[0], low, LEGS[2])))
    assert refused.value.code == "cap"
    check(
        session=terms(legs=(low.replace(provider=PROVIDERS[0].address), *LEGS[1:]))
    )  # another's cap is its own matter


def test_every_refusal_is_the_peers_fault() -> None:
    for wrong in ({"leg": 9}, {"issued_at": 0}, {"venue": bytes(32)}, {"policy": POLICY.replace(deny=("FR",))}):
        with pytest.raises(JoulemeshError) as refused:
            check(**wrong)
        assert isinstance(refused.value, PeerError)
