"""What a client owes when legs tell the truth, and when one lies: it pays no more, and names the liar."""

from __future__ import annotations

from contextlib import nullcontext
from random import Random
from typing import Any

import pytest
from brevity import at_length
from honest_legs import CLIENT, DOMAIN, STOP, Legs, Schedule, rates
from hypothesis import given, settings
from hypothesis import strategies as st
from taken import take_voucher

from protocol.errors import DishonestError, MalformedError, PeerError, SignatureError
from protocol.identity.eip712 import sign_typed
from protocol.identity.ids import MAX_TOKENS
from protocol.session.frames import SampledToken
from protocol.session.logprobs import LogProb, pack_said
from protocol.session.messages import SignedReceipt, Voucher, check_voucher, sign_voucher
from protocol.session.metering import Stint, owed, positions_of, served, window_count, window_end, work_of
from protocol.session.receipt import NO_RECEIPTS, sketches_hash
from protocol.session.tab import Tab, first_voucher
from protocol.session.terms import Plan
from protocol.settlement import ledger_domain

OTHER_DOMAIN = ledger_domain("two+00000000+AA==")
PLAN = Plan(prompt=5, most=12, chunk=3, window=4)
ANSWER = list(range(21, 33))


def legs_of(answer: list[int] = ANSWER, plan: Plan = PLAN, **more: int) -> Legs:
    return Legs(plan, answer, [rates()] * 3, **more)


class Job:
    """A tab and its honest legs, in the order of a fast network."""

    def __init__(self, answer: list[int] = ANSWER, **more: int) -> None:
        self.legs = legs_of(answer, **more)
        self.tab = self.legs.tab()

    def tokens_to(self, position: int) -> None:
        """Every token up to the one that stands at `position`."""
        while len(self.tab.tokens) <= position:
            self.tab.take_token(self.legs.token(len(self.tab.tokens)))

    def send(self, leg: int, window: int, /, **changes: Any) -> None:
        self.tab.take_receipt(leg, self.legs.signed(leg, window, **changes), self.legs.sketches(leg, window))

    def send_all(self, window: int, liar: int = -1, changes: dict[str, Any] | None = None) -> None:
        for leg in range(3):
            self.send(leg, window, **((changes or {}) if leg == liar else {}))

    def through_prompt(self) -> None:
        """Both chunks of the prompt, and the first token."""
        self.send_all(0)
        self.tokens_to(5)
        self.send_all(1)


def counts(voucher: Voucher | None) -> tuple[int, int]:
    assert voucher is not None
    return voucher.tokens_in, voucher.tokens_out


def owed_for(legs: Legs, positions: int, late: int = 0) -> tuple[int, ...]:
    return tuple(owed(leg.rates, work_of(legs.plan, Stint(), positions, late=late)) for leg in legs.terms.route)


# Honest legs, in any order of arrival


@st.composite
def jobs(draw: st.DrawFn) -> tuple[Legs, Random]:
    window = draw(st.integers(1, 6))
    plan = Plan(
        prompt=draw(st.integers(1, 14)), most=draw(st.integers(1, 20)), chunk=draw(st.integers(1, 8)), window=window
    )
    stops_at = draw(st.integers(1, plan.most))
    answer = [21 + number for number in range(stops_at)]
    if stops_at < plan.most or draw(st.booleans()):
        answer[-1] = STOP
    price = st.integers(0, 5_000_000)
    leg_rates = [
        rates(
            opening=draw(st.integers(0, 20)),
            price_in=draw(price),
            price_out=draw(price),
            late_discount_ppm=draw(st.integers(0, 1_000_000)),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]
    made = Legs(plan, answer, leg_rates, credit=draw(st.integers(0, window)), late=draw(st.integers(0, 3)))
    return made, draw(st.randoms(use_true_random=False))


def check_bounds(schedule: Schedule) -> None:
    """What holds after every message, whoever is slow."""
    tab, legs = schedule.tab, schedule.legs
    plan, credit = legs.plan, legs.terms.credit
    tokens_in, tokens_out = tab.paid
    paid = positions_of(plan, tokens_in, tokens_out)
    # At most two windows beyond what every leg has signed for; one beyond the tokens that came, less what is on credit.
    assert paid <= window_end(plan, window_end(plan, tab.book.positions))
    ahead = plan.prompt - 1 + tab.generated + plan.window - credit
    assert paid <= max(plan.prompt, ahead, window_end(plan, 0))
    for leg, claim in enumerate(schedule.claims):
        # What a leg has done beyond its credit is promised to it.
        done = schedule.processed[leg]
        unpaid = done if done < plan.prompt else max(plan.prompt - 1, done - credit)
        assert claim.amount >= claim.owed(unpaid, late=schedule.late(leg))
        assert claim.amount <= legs.session.legs[leg].cap


@settings(max_examples=at_length(150), deadline=None)
@given(jobs())
def test_a_job_ends_paid_to_the_unit_whatever_the_order_of_arrival(job: tuple[Legs, Random]) -> None:
    legs, chance = job
    schedule = Schedule(legs, chance)
    check_bounds(schedule)
    while schedule.step():
        check_bounds(schedule)
    tab = schedule.tab
    assert tab.complete, "somebody waits for somebody for ever"
    assert tab.tokens == legs.tokens
    # Each window was drawn once, in order, under the seed of all nonces.
    windows = window_count(legs.plan, legs.end)
    assert len(tab.book.windows) == windows
    assert [(draw.window, draw.seed) for draw in schedule.draws] == [(each, legs.seed(each)) for each in range(windows)]
    assert tab.nonce == legs.chain.nonce(windows - 1)
    # Promises only rise, and the last one is what was earned.
    for before, after in zip(schedule.vouchers, schedule.vouchers[1:], strict=False):
        assert positions_of(legs.plan, *counts(before)) < positions_of(legs.plan, *counts(after))
    last = tab.last_voucher(honest=True)
    assert last.amounts == owed_for(legs, legs.end, legs.late_at(legs.end))
    assert last.receipts == tab.book.root
    signed = sign_voucher(DOMAIN, last, CLIENT)
    for leg, claim in enumerate(schedule.claims):
        take_voucher(claim, signed, late=legs.late_at(legs.end), last=True)
        assert claim.discharge(legs.end, late=legs.late_at(legs.end)).amount == last.amounts[leg]


@settings(max_examples=at_length(150), deadline=None)
@given(jobs(), st.integers(0, 200))
def test_a_job_that_is_cut_short_anywhere_pays_what_came_and_not_what_was_ahead(
    job: tuple[Legs, Random], steps: int
) -> None:
    legs, chance = job
    schedule = Schedule(legs, chance)
    for _ in range(steps):
        if not schedule.step():
            break
    tab = schedule.tab
    came = legs.plan.prompt - 1 + tab.generated if tab.generated else 0
    signed_for = tab.book.positions
    for honest in (True, False):
        last = tab.last_voucher(honest=honest)
        positions = positions_of(legs.plan, *counts(last))
        assert counts(last) == served(legs.plan, positions)
        assert signed_for <= positions <= (max(signed_for, came) if honest else signed_for)
        assert positions <= window_end(legs.plan, window_end(legs.plan, signed_for))
        for leg, claim in enumerate(schedule.claims):
            take_voucher(claim, sign_voucher(DOMAIN, last, CLIENT), late=schedule.late(leg), last=True)


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("credit", [0, 1])
def test_windows_of_one_token_and_credit_of_a_whole_one_do_not_stop_a_job(window: int, credit: int) -> None:
    plan = Plan(prompt=1, most=3, chunk=1, window=window)
    schedule = Schedule(Legs(plan, [21, 22, 23], [rates()], credit=credit * window), Random(0))
    while schedule.step():
        pass
    assert schedule.tab.complete


@pytest.mark.parametrize(("late", "earned"), [(0, 3 + 2 + 18), (2, 3 + 2 + 18 - 4), (1, 3 + 2 + 18 - 9)])
def test_tokens_that_a_leg_signed_were_late_are_paid_at_the_discount(late: int, earned: int) -> None:
    plan = Plan(prompt=2, most=9, chunk=2, window=3)
    schedule = Schedule(Legs(plan, ANSWER[:9], [rates(late_discount_ppm=500_000)], late=late), Random(1))
    while schedule.step():
        pass
    assert schedule.tab.last_voucher(honest=True).amounts == (earned,)


# The vouchers, one by one


def test_the_first_voucher_pays_opening_and_the_first_window_of_each_leg() -> None:
    legs = legs_of()
    first = first_voucher(legs.session, legs.terms)
    assert counts(first) == (3, 0)
    assert first.amounts == owed_for(legs, 3) == (6, 6, 6)
    assert first.receipts == NO_RECEIPTS
    check_voucher(DOMAIN, legs.session, sign_voucher(DOMAIN, first, CLIENT))


def test_the_voucher_for_the_next_window_travels_while_this_one_is_served() -> None:
    job = Job()
    assert counts(job.tab.next_voucher()) == (5, 1)  # the first window came with the order; this is the second
    assert job.tab.next_voucher() is None, "nothing is due twice"
    assert job.tab.next_voucher() is None, "no more than two windows beyond the receipts"
    job.send_all(0)
    assert counts(job.tab.next_voucher()) == (5, 4)
    job.tokens_to(5)
    job.send_all(1)
    assert job.tab.next_voucher() is None, "half a window is left"
    job.tokens_to(7)
    assert counts(job.tab.next_voucher()) == (5, 7)


@pytest.mark.parametrize(("under_way", "left"), [(None, 7), (0, 3), (4, 4), (6, 6), (99, 7)])
def test_a_voucher_is_signed_the_earlier_the_longer_its_way_is(under_way: int | None, left: int) -> None:
    """A quarter of a window before what is paid runs out, half a window where the way is long or not known."""
    plan = Plan(prompt=5, most=40, chunk=5, window=16, ahead=3)
    legs = legs_of(list(range(21, 61)), plan)
    tab = legs.tab()
    paid = 0
    while True:
        tab.take_token(legs.token(len(tab.tokens)))
        if (voucher := tab.next_voucher(under_way)) is not None:
            if paid > 1:
                assert paid - tab.generated == left
                return
            paid = voucher.tokens_out


def test_credit_is_not_paid_ahead() -> None:
    job = Job(credit=4)
    job.through_prompt()
    assert counts(job.tab.next_voucher()) == (5, 1)
    assert job.tab.next_voucher() is None


def test_a_leg_that_has_not_accepted_is_owed_nothing() -> None:
    legs = legs_of()
    accepted = {leg: legs.acceptances[leg] for leg in (0, 2)}
    assert legs.tab(acceptances=accepted).last_voucher(honest=True).amounts == (3, 0, 3)
    assert legs.tab().last_voucher(honest=True).amounts == (3, 3, 3)


# Lies

LIES: dict[str, tuple[int, dict[str, Any], str]] = {
    "a middle leg received other rows": (1, {"input": bytes(32)}, "what leg 0 says it sent is not what leg 1"),
    "a middle leg sent other rows": (1, {"output": bytes(32)}, "what leg 1 says it sent is not what leg 2"),
    "the first leg had other tokens": (0, {"input": bytes(32)}, "leg 0 signed for other tokens than it was sent"),
    "the last leg drew other tokens": (2, {"tokens": bytes(32)}, "leg 2 signed for other tokens than it sent"),
    "a leg that draws none signs for tokens": (1, {"tokens": b"\x01" * 32}, "leg 1 draws no tokens"),
    "a leg counts too many": (1, {"tokens_out": 9}, r"leg 1 counts 5\+9 tokens, not 5\+4"),
    "a leg counts too few": (2, {"tokens_out": 3}, r"leg 2 counts 5\+3 tokens, not 5\+4"),
    "a leg counts another prompt": (0, {"tokens_in": 4}, r"leg 0 counts 4\+4 tokens"),
    "a leg speaks of another window": (1, {"window": 3}, "in the place of leg 1 is for another leg or window"),
    "a leg speaks for another session": (1, {"session": b"\x31" * 32}, "of another session"),
    "a leg shows other sketches": (2, {"sketches": bytes(32)}, "leg 2 shows other sketches than it signed"),
    "a leg takes back energy": (0, {"millijoules": 1}, "leg 0 takes back energy"),
    "a leg changes its nonce": (1, {"nonce": b"\x09" * 32}, "leg 1: a nonce is not the one"),
    "more was late than there was": (0, {"late": 6}, "more tokens were late than there are"),
}


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_lying_leg_is_named_and_nobody_is_paid_more(lie: str) -> None:
    liar, changes, blame = LIES[lie]
    job = Job()
    job.through_prompt()
    job.tokens_to(9)
    with pytest.raises(DishonestError, match=blame):
        job.send_all(2, liar, changes)
    assert counts(job.tab.last_voucher(honest=False)) == (5, 1)
    assert len(job.tab.book.windows) == 2
    assert not list(iter_draws(job.tab))[2:], "no seed is shown for a window that does not hold"


def iter_draws(tab: Tab) -> Any:
    while (due := tab.next_draw()) is not None:
        yield due[0]


def test_the_same_window_without_a_lie_holds() -> None:
    job = Job()
    job.through_prompt()
    job.tokens_to(9)
    job.send_all(2)
    assert counts(job.tab.last_voucher(honest=False)) == (5, 4)
    assert [draw.window for draw in iter_draws(job.tab)] == [0, 1, 2]


def test_sketches_that_do_not_meet_stop_the_job_within_the_window() -> None:
    job = Job()
    job.send_all(0)
    job.tokens_to(5)
    job.send(0, 1)
    job.send(2, 1)
    entered_other = bytes(128) + job.legs.sketches(1, 1)[128:]
    with pytest.raises(DishonestError, match="the sketches of legs 0 and 1 differ"):
        job.tab.take_receipt(
            1, job.legs.signed(1, 1, sketches=sketches_hash([(job.legs.seed(0), entered_other)])), entered_other
        )


def test_another_legs_receipt_is_refused() -> None:
    legs = legs_of()
    for sender, receipt, key, domain, blame in (
        (1, legs.receipt(0, 0), legs.keys[0], DOMAIN, "in the place of leg 1 is for another leg"),
        (1, legs.receipt(1, 0), legs.keys[0], DOMAIN, "receipt of leg 1 is not signed by its provider"),
        (1, legs.receipt(1, 0), legs.keys[1], OTHER_DOMAIN, "for this ledger"),
        (1, legs.receipt(1, 0).replace(leg=7), legs.keys[1], DOMAIN, "a receipt for leg 7"),
    ):
        tab = legs.tab()
        tab.take_receipt(0, legs.signed(0, 0), b"")
        tab.take_receipt(2, legs.signed(2, 0), b"")
        with pytest.raises((DishonestError, SignatureError), match=blame):
            tab.take_receipt(sender, SignedReceipt(receipt=receipt, signature=sign_typed(domain, receipt, key)), b"")


@pytest.mark.parametrize("position", [4, 5, 7, MAX_TOKENS])
def test_a_token_out_of_place_is_refused(position: int) -> None:
    job = Job()
    job.tokens_to(5)
    with pytest.raises(DishonestError, match=f"position {position} where 6 is next"):
        job.tab.take_token(SampledToken(session=job.legs.id, position=position, token=3))
    job.tab.take_token(job.legs.token(6))


def test_a_token_that_the_model_does_not_have_is_refused() -> None:
    """The first leg would refuse it, too, but is never sent the last one: the client's own receipt would not verify."""
    legs = Job().legs
    tab = legs.tab(vocabulary=legs.tokens[5])
    with pytest.raises(DishonestError, match="the model does not have"):
        tab.take_token(legs.token(5))
    tab = legs.tab(vocabulary=legs.tokens[5] + 1)
    tab.take_token(legs.token(5))
    assert tab.tokens[-1] == legs.tokens[5]


def test_nothing_is_said_of_a_token_that_the_model_does_not_have() -> None:
    legs = Job().legs
    drawn = LogProb(legs.tokens[5], 9)
    for vocabulary, holds in ((100, False), (101, True)):
        tab = legs.tab(vocabulary=vocabulary)
        tab.terms = tab.terms.replace(sampling=tab.terms.sampling.replace(logprobs=1))
        with nullcontext() if holds else pytest.raises(DishonestError, match="the model does not have"):
            tab.take_token(legs.token(5), pack_said([drawn, LogProb(100, 3)]))
        assert len(tab.said) == holds


@pytest.mark.parametrize("answer", [[21, STOP], ANSWER], ids=["a stop token", "the last token allowed"])
def test_a_token_after_the_end_is_refused(answer: list[int]) -> None:
    job = Job(answer)
    job.tokens_to(len(job.legs.tokens) - 1)
    assert job.tab.ended
    after = SampledToken(session=job.legs.id, position=len(job.tab.tokens), token=3)
    with pytest.raises(DishonestError):
        job.tab.take_token(after)


def test_receipts_that_nobody_waits_for_are_refused() -> None:
    job = Job()
    for _ in range(3):
        job.send(1, 0)
    with pytest.raises(MalformedError, match="leg 1 sends receipts that nobody waits for"):
        job.send(1, 0)
    with pytest.raises(MalformedError, match="leg 9 sends receipts"):
        job.tab.take_receipt(9, job.legs.signed(1, 0), b"")


def test_receipts_that_count_tokens_which_never_came_pay_nothing() -> None:
    job = Job()
    job.through_prompt()
    job.send_all(2)  # the tokens that it counts may be on their way: it waits
    assert len(job.tab.book.windows) == 2
    assert counts(job.tab.last_voucher(honest=True)) == (5, 1)
    assert counts(job.tab.last_voucher(honest=False)) == (5, 1)


def test_tokens_without_receipts_are_paid_for_two_windows_and_no_further() -> None:
    job = Job()
    job.through_prompt()
    job.tokens_to(16)  # a last leg that makes up tokens, all at once
    assert job.tab.generated == 12
    assert counts(job.tab.last_voucher(honest=True)) == (5, 8)
    assert counts(job.tab.last_voucher(honest=False)) == (5, 1)


def test_a_job_that_is_stopped_pays_what_came() -> None:
    job = Job()
    job.through_prompt()
    assert counts(job.tab.next_voucher()) == (5, 5)
    job.tokens_to(7)
    assert counts(job.tab.last_voucher(honest=True)) == (5, 3)


def test_the_closing_receipts_bring_the_last_sketches_and_nothing_else() -> None:
    job = Job([21, STOP])
    job.send_all(0)
    job.tokens_to(6)
    job.send_all(1)
    job.send_all(2)
    assert job.tab.windows_over
    assert not job.tab.complete
    job.send(0, 3)
    job.send(1, 3)
    with pytest.raises(DishonestError, match="fixes bytes of no window"):
        job.send(2, 3, output=b"\x01" * 32)
    whole = Job([21, STOP])
    whole.send_all(0)
    whole.tokens_to(6)
    for window in (1, 2, 3):
        whole.send_all(window)
    assert whole.tab.complete


def test_every_complaint_is_the_peers_fault() -> None:
    for liar, changes, _ in LIES.values():
        job = Job()
        with pytest.raises(PeerError):
            job.send_all(0, liar, changes | {"tokens_out": 1})
