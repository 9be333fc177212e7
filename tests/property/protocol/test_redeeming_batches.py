"""What is redeemed together: nothing at a loss, nothing lost for want of company, and every fee shared out whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.settlement.operations import MAX_SETTLED
from protocol.settlement.redeeming import Redeemable, batches, fee_part, worth_of
from protocol.units import MICRO

NOW = 1_000_000


@st.composite
def claims(draw: st.DrawFn) -> list[Redeemable]:
    sessions = draw(st.lists(st.integers(0, 10**6), unique=True, max_size=40))
    worth = st.integers(0, 50) | st.integers(0, 10**6)
    return [
        Redeemable(session=each.to_bytes(32, "big"), worth=draw(worth), expiry=NOW + draw(st.integers(-3, 3)))
        for each in sessions
    ]


FEE = st.integers(0, 200)
SHARE = st.integers(1, MICRO)


@given(claims(), FEE, SHARE, st.booleans())
def test_what_is_submitted_is_worth_it(some: list[Redeemable], fee: int, share: int, last: bool) -> None:
    chosen = batches(some, fee=fee, share_ppm=share, now=NOW, last=last)
    submitted = [claim.session for batch in chosen for claim in batch]
    assert len(submitted) == len(set(submitted))
    for batch in chosen:
        brings = sum(claim.worth for claim in batch)
        assert 0 < len(batch) <= MAX_SETTLED
        assert brings > fee
        assert all(claim.worth for claim in batch)
        if not last and all(claim.expiry > NOW for claim in batch):
            assert fee * MICRO <= share * brings


@given(claims(), FEE, SHARE, st.booleans())
def test_nothing_that_is_worth_more_than_a_fee_is_held_back_too_long(
    some: list[Redeemable], fee: int, share: int, last: bool
) -> None:
    submitted = {c.session for batch in batches(some, fee=fee, share_ppm=share, now=NOW, last=last) for c in batch}
    for claim in some:
        if claim.worth > fee and (last or claim.expiry <= NOW):
            assert claim.session in submitted


@given(claims(), FEE, SHARE)
def test_what_is_held_back_would_not_pay_together_either(some: list[Redeemable], fee: int, share: int) -> None:
    submitted = {c.session for batch in batches(some, fee=fee, share_ppm=share, now=NOW) for c in batch}
    held = sorted((claim.worth for claim in some if claim.session not in submitted), reverse=True)
    brings = sum(held[:MAX_SETTLED])
    assert not (brings > fee and fee * MICRO <= share * brings)


@pytest.mark.parametrize(("fee", "submits"), [(50, True), (51, False)])
def test_a_share_is_kept_to_the_unit(fee: int, submits: bool) -> None:
    claim = Redeemable(session=bytes(32), worth=1000, expiry=NOW + 1)
    assert bool(batches([claim], fee=fee, share_ppm=50_000, now=NOW)) is submits
    assert batches([claim], fee=fee, share_ppm=50_000, now=NOW + 1)


@given(st.integers(0, 10**9), st.sets(st.binary(min_size=32, max_size=32), min_size=1, max_size=MAX_SETTLED))
def test_the_parts_of_a_fee_are_the_fee(fee: int, sessions: set[bytes]) -> None:
    parts = [fee_part(fee, tuple(sessions), each) for each in sessions]
    assert sum(parts) == fee
    assert max(parts) - min(parts) <= 1


@given(st.data())
def test_worth_is_what_settling_would_pay(data: st.DataObject) -> None:
    """As clause L8 has it: each leg's amount rises on its own, up to its ceiling."""
    legs = data.draw(st.integers(1, 8))
    ceilings = [data.draw(st.integers(0, 100)) for _ in range(legs)]
    settled = [data.draw(st.integers(0, most)) for most in ceilings]
    amounts = [data.draw(st.integers(0, 120)) for _ in range(legs)]
    after = [max(before, min(c, most)) for c, before, most in zip(amounts, settled, ceilings, strict=True)]
    paid = tuple(now - before for now, before in zip(after, settled, strict=True))
    assert worth_of(amounts, settled, ceilings) == paid
    assert worth_of([*amounts, 1], settled, ceilings) == ()
