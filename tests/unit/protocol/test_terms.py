"""What was agreed: each clause with a valid case and its neighbour that is none (docs/spec/session.md, N1 to N7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from agreed_job import CLIENT, agree
from market_offers import key_of, some_rates
from played_job import Play

from protocol.energy.tariff import MAX_PRICE
from protocol.errors import DishonestError, InvalidError, MalformedError, PeerError, SignatureError
from protocol.identity.ids import MAX_TOKENS, BlockSpan
from protocol.identity.signing import SigningKey, seal
from protocol.routing.routes import MAX_LEGS
from protocol.session.agreement import make_session
from protocol.session.messages import Leg, Session, session_id
from protocol.session.shaping import (
    Shaping,
    TokenBias,
    begun_with,
    bound_to,
    check_shaping,
    look_back,
    shaping_of,
    told_of,
)
from protocol.session.terms import (
    MAX_REROUTES,
    Assignment,
    Continuation,
    LegTerms,
    Reroute,
    Speculation,
    Terms,
    check_terms,
    open_reroutes,
    route_at,
    terms_hash,
)

AGREED = agree(standbys=((0, 3), (3, 6)))
TERMS = AGREED.terms


def check(terms: Terms, /, *, blocks: int = 6, **changes: Any) -> None:
    """Hold terms against a session that names them."""
    legs = tuple(Leg(provider=address, cap=1) for address in map(provider, terms.legs))
    session = Session(client=CLIENT.address, expiry=1, terms=terms_hash(terms), salt=bytes(32), legs=legs)
    check_terms(terms, session.replace(**changes), blocks=blocks)


def provider(leg: LegTerms) -> bytes:
    addresses = {key_of(number).public_key: key_of(number).address for number in range(40)}
    return addresses.get(leg.public_key, bytes(20))


def plan(**changes: int) -> Terms:
    return TERMS.replace(plan=TERMS.plan.replace(**changes))


def route(*spans: tuple[int, int], standbys: Sequence[tuple[int, int]] = ()) -> Terms:
    def leg(number: int, span: tuple[int, int]) -> LegTerms:
        return TERMS.route[0].replace(public_key=key_of(number).public_key, span=BlockSpan(start=span[0], end=span[1]))

    return TERMS.replace(
        route=tuple(leg(number, span) for number, span in enumerate(spans)),
        standbys=tuple(leg(20 + number, span) for number, span in enumerate(standbys)),
    )


def rates(**changes: int) -> Terms:
    return TERMS.replace(route=(*TERMS.route[:2], TERMS.route[2].replace(rates=some_rates(**changes))))


VALID: dict[str, Terms] = {
    "N3 one leg": route((0, 6)),
    "N3 many legs": route(*((n, n + 1) for n in range(6))),
    "N3 standbys anywhere": route((0, 6), standbys=((0, 1), (5, 6), (0, 6))),
    "N4 one of each": plan(prompt=1, most=1, chunk=1, window=1),
    "N4 most of each": plan(prompt=MAX_TOKENS, most=MAX_TOKENS, chunk=MAX_TOKENS, window=MAX_TOKENS),
    "N4 a window of credit": TERMS.replace(credit=4),
    "N4 continues one": TERMS.replace(continues=Continuation(session=bytes(32), positions=1)),
    "N4 continues all but one": TERMS.replace(continues=Continuation(session=bytes(32), positions=9)),
    "N4 drafts": TERMS.replace(speculation=Speculation(depth=3, flights=2)),
    "N5 largest rates": rates(
        opening=MAX_PRICE, price_in=MAX_PRICE, price_out=MAX_PRICE, price_cached=MAX_PRICE, price_rejected=MAX_PRICE
    ),
    "N5 nothing at all": rates(price_in=0, price_out=0),
    "N5 late for nothing": rates(late_discount_ppm=1_000_000),
}
BROKEN: dict[str, tuple[Terms, str]] = {
    "N3 a gap": (route((0, 2), (3, 6)), "gap or overlaps at block 2"),
    "N3 an overlap": (route((0, 2), (1, 6)), "gap or overlaps at block 2"),
    "N3 a late start": (route((1, 6)), "gap or overlaps at block 0"),
    "N3 an early end": (route((0, 5)), "ends at block 5 of 6"),
    "N3 too many blocks": (route((0, 7)), "ends at block 7 of 6"),
    "N3 a standby beyond": (route((0, 6), standbys=((3, 7),)), "blocks that the model does not have"),
    "N4 no prompt": (plan(prompt=0), "at least 1"),
    "N4 no tokens": (plan(most=0), "at least 1"),
    "N4 no chunk": (plan(chunk=0), "at least 1"),
    "N4 no window": (plan(window=0), "at least 1"),
    "N4 more credit": (TERMS.replace(credit=5), "credit"),
    "N4 continues nothing": (TERMS.replace(continues=Continuation(session=bytes(32), positions=0)), "continues"),
    "N4 continues all": (TERMS.replace(continues=Continuation(session=bytes(32), positions=10)), "continues"),
    "N4 depth alone": (TERMS.replace(speculation=Speculation(depth=3, flights=0)), "drafts"),
    "N4 flights alone": (TERMS.replace(speculation=Speculation(depth=0, flights=1)), "drafts"),
    "N5 held costs more than computed": (rates(price_in=5, price_cached=6), "held already"),
}


@pytest.mark.parametrize("terms", VALID.values(), ids=VALID)
def test_terms_that_hold_together(terms: Terms) -> None:
    check(terms)


@pytest.mark.parametrize(("terms", "says"), BROKEN.values(), ids=BROKEN)
def test_terms_that_do_not(terms: Terms, says: str) -> None:
    with pytest.raises(MalformedError, match=says):
        check(terms)


def test_n1_the_session_names_these_very_terms() -> None:
    check(TERMS)
    with pytest.raises(MalformedError, match="not those that the session names"):
        check(TERMS, terms=terms_hash(plan(most=12)))


def test_n1_every_field_is_behind_the_hash_and_the_session_id() -> None:
    others: list[Terms] = [
        TERMS.replace(venue=bytes(32)),
        TERMS.replace(model=bytes(32)),
        TERMS.replace(policy=TERMS.policy.replace(deny=("US",))),
        TERMS.replace(route=TERMS.route[:2]),
        TERMS.replace(standbys=()),
        plan(prompt=11),
        plan(most=12),
        plan(chunk=5),
        plan(window=5),
        TERMS.replace(sampling=TERMS.sampling.replace(temperature_milli=0)),
        TERMS.replace(sampling=TERMS.sampling.replace(seed=1)),
        TERMS.replace(sampling=TERMS.sampling.replace(shaping=Shaping(presence=1))),
        TERMS.replace(activations=type(TERMS.activations).BF16),
        TERMS.replace(credit=1),
        TERMS.replace(speculation=Speculation(depth=1, flights=1)),
        TERMS.replace(nonces=bytes(32)),
        TERMS.replace(continues=Continuation(session=bytes(32), positions=1)),
        rates(opening=8),
        TERMS.replace(route=(TERMS.route[0].replace(offer_expires_at=1), *TERMS.route[1:])),
        TERMS.replace(route=(TERMS.route[0].replace(offer=bytes(32)), *TERMS.route[1:])),
    ]
    hashes = {terms_hash(each) for each in (TERMS, *others)}
    assert len(hashes) == 1 + len(others)
    assert len({session_id(AGREED.session.replace(terms=each)) for each in hashes}) == len(hashes)


def test_n2_each_leg_is_the_provider_that_the_session_pays() -> None:
    legs = AGREED.session.legs
    for wrong in ((*legs[1:], legs[0]), legs[:-1], (*legs, legs[0].replace(provider=bytes(20)))):
        with pytest.raises(MalformedError, match="legs are not those of the terms"):
            check(TERMS, legs=wrong)
    stranger = TERMS.route[0].replace(public_key=b"\x02" * 33)
    with pytest.raises(MalformedError):
        check(TERMS.replace(route=(stranger, *TERMS.route[1:])))


@pytest.mark.parametrize("place", ["on the route", "as a standby"])
def test_n2_a_provider_is_in_the_session_once(place: str) -> None:
    again = TERMS.route[0]
    twice = (
        TERMS.replace(route=(again, again.replace(span=BlockSpan(start=2, end=4)), TERMS.route[2]))
        if place == "on the route"
        else TERMS.replace(standbys=(again,))
    )
    with pytest.raises(MalformedError, match="twice"):
        check(twice)


def test_a_session_has_16_legs_at_most() -> None:
    spans = [(n, n + 1) for n in range(MAX_LEGS)]
    check(route(*spans), blocks=MAX_LEGS)
    full = route(*spans, standbys=((0, 1),))
    with pytest.raises(InvalidError, match="items"):
        make_session(full, client=CLIENT.address, expiry=1, salt=bytes(32))


# N6 and N7: reroutes

BEFORE = ((0, (0, 2)), (1, (2, 4)), (2, (4, 6)))
HALF = ((3, (0, 3)), (4, (3, 6)))


def reroute(position: int = 4, number: int = 1, legs: Sequence[tuple[int, tuple[int, int]]] = HALF) -> Reroute:
    assignments = tuple(Assignment(leg=leg, span=BlockSpan(start=a, end=b)) for leg, (a, b) in legs)
    return Reroute(session=AGREED.id, number=number, position=position, route=assignments)


def opened(*reroutes: Reroute, key: SigningKey = CLIENT) -> tuple[Reroute, ...]:
    return open_reroutes([seal(each, key) for each in reroutes], TERMS, AGREED.session, blocks=6)


def test_n6_reroutes_in_order() -> None:
    assert opened() == ()
    first, second = reroute(4), reroute(4, 2, ((4, (3, 6)),))
    assert opened(first) == (first,)
    one_dies = reroute(0, 1, ((3, (0, 3)), (4, (3, 6))))
    assert opened(one_dies, reroute(8, 2, HALF)) == (one_dies, reroute(8, 2, HALF)), "it may change nothing"
    with pytest.raises(MalformedError):
        opened(first, second)


LIES: dict[str, tuple[Callable[[], object], type[PeerError], str]] = {
    "another signer": (lambda: opened(reroute(), key=key_of(3)), SignatureError, "not signed by the session's client"),
    "another session": (lambda: opened(reroute().replace(session=bytes(32))), DishonestError, "another session"),
    "from number 0": (lambda: opened(reroute(number=0)), DishonestError, "out of order"),
    "from number 2": (lambda: opened(reroute(number=2)), DishonestError, "out of order"),
    "one number twice": (lambda: opened(reroute(), reroute()), DishonestError, "out of order"),
    "backwards": (lambda: opened(reroute(8), reroute(4, 2)), DishonestError, "goes back behind"),
    "a leg that was left": (
        lambda: opened(reroute(), reroute(8, 2, BEFORE)),
        DishonestError,
        "does not come back",
    ),
    "one leg twice": (
        lambda: opened(reroute(legs=((3, (0, 1)), (3, (1, 3)), (4, (3, 6))))),
        DishonestError,
        "a leg twice",
    ),
    "a leg that is none": (lambda: opened(reroute(legs=((9, (0, 6)),))), DishonestError, "does not have"),
    "blocks beyond its terms": (
        lambda: opened(reroute(legs=((3, (0, 4)), (4, (4, 6))))),
        DishonestError,
        "agreed to blocks 0:3",
    ),
    "other blocks for one that goes on": (
        lambda: opened(reroute(legs=((0, (0, 1)), (3, (1, 3)), (4, (3, 6))))),
        DishonestError,
        "keeps its blocks",
    ),
    "a gap": (lambda: opened(reroute(legs=((0, (0, 2)), (4, (3, 6))))), MalformedError, "gap"),
    "noise": (
        lambda: open_reroutes([b"noise"], TERMS, AGREED.session, blocks=6),
        MalformedError,
        "not one msgpack|not a message",
    ),
}


@pytest.mark.parametrize(("lie", "error", "says"), LIES.values(), ids=LIES)
def test_n6_a_reroute_that_is_none(lie: Callable[[], object], error: type[PeerError], says: str) -> None:
    with pytest.raises(error, match=says):
        lie()


def test_n6_there_are_so_many_reroutes_at_most() -> None:
    same = [reroute(4, number + 1) for number in range(MAX_REROUTES)]
    assert len(opened(*same)) == MAX_REROUTES
    with pytest.raises(MalformedError, match="65 reroutes"):
        opened(*same, reroute(4, MAX_REROUTES + 1))


def test_who_serves_a_position() -> None:
    agreed = Play(AGREED)
    assert [each.leg for each in route_at(TERMS, (), 10**9)] == [0, 1, 2]
    reroutes = (reroute(4), reroute(8, 2, ((3, (0, 3)), (4, (3, 6)))))
    assert [each.leg for each in route_at(TERMS, reroutes, 3)] == [0, 1, 2]
    assert route_at(TERMS, reroutes, 4) == reroutes[0].route
    assert route_at(TERMS, reroutes, 8) == reroutes[1].route
    assert agreed.route == route_at(TERMS, (), 0)


BIAS = TokenBias(token=5, lift=1)


@pytest.mark.parametrize(
    "shaping",
    [
        Shaping(frequency=0),
        Shaping(repetition_milli=100, told=bytes(32)),
        Shaping(biases=(BIAS, TokenBias(token=6, lift=200_000))),
        Shaping(presence=4000, answered=2, told=bytes(32)),
    ],
    ids=str,
)
def test_n8_what_is_done_to_logits_can_be_done(shaping: Shaping) -> None:
    check_shaping(shaping, prompt=3)
    terms = TERMS.replace(plan=TERMS.plan.replace(prompt=3), sampling=TERMS.sampling.replace(shaping=shaping))
    check(terms)


@pytest.mark.parametrize(
    "shaping",
    [
        Shaping(),
        Shaping(repetition_milli=99, told=bytes(32)),
        Shaping(repetition_milli=1100),
        Shaping(frequency=0, told=bytes(32)),
        Shaping(biases=(BIAS, BIAS)),
        Shaping(biases=(TokenBias(token=6, lift=2), BIAS)),
        Shaping(biases=(TokenBias(token=6, lift=100_000),)),
        Shaping(biases=(BIAS,), answered=1, told=bytes(32)),
        Shaping(presence=4000, answered=3, told=bytes(32)),
        Shaping(presence=4000, answered=2),
    ],
    ids=str,
)
def test_n8_else_it_is_refused(shaping: Shaping) -> None:
    with pytest.raises(MalformedError):
        check_shaping(shaping, prompt=3)
    terms = TERMS.replace(plan=TERMS.plan.replace(prompt=3), sampling=TERMS.sampling.replace(shaping=shaping))
    with pytest.raises(MalformedError):
        check(terms)


def test_n8_what_the_last_leg_is_told_stands_behind_the_terms() -> None:
    prompt = [7, 3, 7, 1]
    shaping = begun_with(Shaping(repetition_milli=2000, presence=1), 2)
    bound = bound_to(shaping, prompt)
    assert bound is not None
    check_shaping(bound, prompt=4)
    told = look_back(bound, prompt).told
    assert told == b"".join(each.to_bytes(4, "little") for each in (1, 3, 7, 7, 1))
    found = told_of(bound, told)
    assert (found.prompt.tolist(), found.answer) == ([1, 3, 7], (7, 1))
    for wrong in (told[:-4], told[:-1], b"", told + bytes(4)):
        with pytest.raises(MalformedError):
            told_of(bound, wrong)
    assert bound_to(None, prompt) is None
    counts = bound_to(Shaping(presence=1), prompt)
    assert counts == Shaping(presence=1)
    assert told_of(counts, b"").answer == ()
    with pytest.raises(MalformedError):
        told_of(counts, told)
    nothing = shaping_of(repetition_milli=1000, frequency_milli=0, presence_milli=0, biases=((5, 0),))
    assert nothing is None
