"""What a neighbour may say of drafts, and what not: each lie beside the truth that it looks like."""

from __future__ import annotations

import numpy as np
import pytest
from counting_engine import WIDTH
from small_market import VERIFIER_KEY, KnownEnergy

from node.pipeline.serving.flow import Ends, Flow
from node.pipeline.serving.looking_back import LookingBack
from node.pipeline.serving.meter import Meter
from node.pipeline.serving.rows import Arrived
from node.pipeline.serving.trail import Trails
from node.pipeline.serving.windows import Signer, Windows
from node.ports import StepOutput
from protocol.drafting.drafts import Mask
from protocol.errors import MalformedError
from protocol.identity.signing import SigningKey
from protocol.models.activations import ActivationType
from protocol.session.draws import NonceChain
from protocol.session.terms import Plan, Speculation
from protocol.settlement import ledger_domain

SESSION = b"\x01" * 32
PLAN = Plan(prompt=3, most=40, chunk=8, window=16)
MASK = Mask(b"\x02" * 32, SESSION)
FIRST = Ends(first=True, last=False)
MIDDLE = Ends(first=False, last=False)
LAST = Ends(first=False, last=True)


def flow_of(ends: Ends, *, depth: int = 3, flights: int = 2, plan: Plan = PLAN) -> Flow:
    signer = Signer(
        session=SESSION,
        leg=1,
        key=SigningKey(b"\x03" * 32),
        domain=ledger_domain(VERIFIER_KEY),
        chain=NonceChain(bytes(32), 100),
        meter=Meter(account=KnownEnergy(), pue_milli=1100),
    )
    windows = Windows(plan, signer, first=ends.first, activations=ActivationType.FP32, late_us=10**9, width=WIDTH)
    return Flow(
        plan,
        SESSION,
        windows,
        Trails().begin(4 * WIDTH),
        ends,
        activations=ActivationType.FP32,
        speculation=Speculation(depth=depth, flights=flights),
        show_ids=lambda rows: MASK.show(rows.drafts, route=0, flight=rows.flight, position=rows.first_draft),
        stop_tokens=(0,),
        looking_back=LookingBack(plan, None, draws=ends.last),
    )


def rows(position: int, length: int, certain: int, guesses: tuple[int, ...] = (), flight: int = 1) -> Arrived:
    data = np.zeros((length, WIDTH), dtype=np.float32)
    at = max(position, certain)
    return Arrived.of(position, data, certain, flight, MASK.hide(guesses, route=0, flight=flight, position=at), 0)


def run(flow: Flow, tokens: tuple[int, ...] = ()) -> tuple[int, ...]:
    """One pass over what waits first; what the last leg sends on of the tokens that it draws."""
    piece = flow.take(flow.ready_rows(1_000))
    hidden = np.zeros((piece.length, WIDTH), dtype=np.float32)
    drawn = tokens[: piece.draws]
    output = StepOutput(session=SESSION, position=piece.position, length=piece.length, hidden=hidden, tokens=drawn)
    onward = flow.complete(piece, output, now_us=0)
    return () if onward is None else onward.tokens


@pytest.mark.parametrize("depth", [0, 3])
def test_no_piece_of_a_prompt_crosses_the_end_of_a_window(depth: int) -> None:
    """However much has come and is paid: with more rows of a session in a frame the next leg would end the link."""
    flow = flow_of(FIRST, depth=depth, plan=Plan(prompt=20, most=4, chunk=8, window=16))
    flow.arrive(Arrived.of(0, tuple(range(20)), 20, 0, b"", 0))
    assert flow.ready_rows(1_000) == 8


def prompted(ends: Ends, **settings: int) -> Flow:
    """After the prompt; the last leg has drawn token 7."""
    flow = flow_of(ends, **settings)
    flow.arrive(rows(0, 3, 3))
    run(flow, (7,))
    flow._windows.next_receipt(3, 0, last=ends.last, finished=False)
    return flow


def test_the_last_leg_keeps_what_it_draws_itself() -> None:
    flow = prompted(LAST)
    flow.arrive(rows(3, 4, 4, (8, 9, 5)))
    assert run(flow, (8, 9, 6, 4)) == (8, 9, 6)
    assert (flow.computed, flow.arrived) == (6, 6)
    flow.arrive(rows(7, 2, 4, (1, 1), 2))  # follows from the guess that was wrong
    assert flow.ready_rows(1_000) == 0
    flow.arrive(rows(6, 1, 7))
    assert run(flow, (3,)) == (3,)


def test_a_launch_that_begins_with_the_token_drawn_goes_on() -> None:
    flow = prompted(LAST)
    flow.arrive(rows(3, 2, 4, (8,)))
    flow.arrive(rows(5, 2, 4, (9, 2), 2))
    flow.arrive(rows(7, 2, 4, (1, 1), 3))
    assert run(flow, (8, 9)) == (8, 9)
    assert run(flow, (2, 5)) == (2, 5)
    assert flow.ready_rows(1_000) == 0  # it begins with 1, and 5 was drawn
    assert flow.arrived == 7


def test_a_stop_token_among_drafts_is_the_last() -> None:
    flow = prompted(LAST)
    flow.arrive(rows(3, 3, 4, (8, 9)))
    assert run(flow, (8, 0, 4)) == (8, 0)
    assert flow.ended


def test_nothing_runs_after_a_stop_token_that_was_guessed() -> None:
    flow = prompted(LAST)
    flow.arrive(rows(3, 2, 4, (8,)))
    flow.arrive(rows(5, 2, 4, (0, 2), 2))
    assert run(flow, (8, 0)) == (8, 0)
    assert flow.ended
    assert flow.ready_rows(1_000) == 0


LIES = {
    "deeper than agreed": (rows(3, 5, 4, (1, 2, 3, 4)), rows(3, 4, 4, (1, 2, 3))),
    "an id too few": (rows(3, 3, 4, (1,)), rows(3, 3, 4, (1, 2))),
    "an id too many": (rows(3, 1, 4, (1,)), rows(3, 1, 4)),
    "a gap": (rows(4, 2, 4, (1, 2)), rows(3, 2, 4, (1,))),
    "back before what stands": (rows(2, 2, 3, (1,)), rows(3, 2, 4, (1,))),
    "beyond the order": (rows(3, 41, 44), rows(3, 1, 4)),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("ends", [MIDDLE, LAST])
def test_what_no_honest_neighbour_sends_ends_the_session(lie, ends) -> None:
    wrong, right = LIES[lie]
    with pytest.raises(MalformedError):
        prompted(ends).arrive(wrong)
    prompted(ends).arrive(right)


@pytest.mark.parametrize("ends", [MIDDLE, LAST])
def test_more_than_is_to_be_under_way_ends_the_session(ends) -> None:
    flow = prompted(ends)
    flow.arrive(rows(3, 4, 4, (1, 2, 3)))
    flow.arrive(rows(7, 3, 4, (4, 5, 6), 2))
    with pytest.raises(MalformedError):
        flow.arrive(rows(10, 1, 4, (7,), 3))


def test_nobody_tells_the_last_leg_what_it_has_not_drawn() -> None:
    prompted(LAST).arrive(rows(3, 1, 4))
    with pytest.raises(MalformedError):
        prompted(LAST).arrive(rows(3, 2, 5))
    prompted(MIDDLE).arrive(rows(3, 2, 5))  # a leg between cannot know


def test_without_drafts_in_the_terms_there_are_none() -> None:
    flow = prompted(MIDDLE, depth=0, flights=0)
    with pytest.raises(MalformedError):
        flow.arrive(rows(3, 2, 4, (1,)))
    flow.arrive(rows(3, 2, 5))
    with pytest.raises(MalformedError):
        flow.arrive(rows(4, 1, 5))


def test_a_middle_leg_goes_back_to_what_stands_and_no_further() -> None:
    flow = prompted(MIDDLE)
    flow.arrive(rows(3, 4, 4, (1, 2, 3)))
    run(flow)
    assert flow.computed == 7
    flow.arrive(rows(5, 2, 6, (4,), 2))
    assert (flow.computed, flow.arrived) == (5, 7)
    with pytest.raises(MalformedError):
        flow.arrive(rows(5, 1, 6))


def test_rows_that_are_taken_back_while_they_run_do_not_count() -> None:
    flow = prompted(MIDDLE)
    flow.arrive(rows(3, 4, 4, (1, 2, 3)))
    piece = flow.take(flow.ready_rows(1_000))
    flow.arrive(rows(5, 1, 6))
    hidden = np.zeros((4, WIDTH), dtype=np.float32)
    onward = flow.complete(piece, StepOutput(session=SESSION, position=3, length=4, hidden=hidden, tokens=()), now_us=0)
    assert onward is not None
    assert (onward.position, onward.length, flow.computed) == (3, 2, 5)
    assert len(onward.drafts) == 4


def test_guesses_run_ahead_of_pay_by_what_may_be_under_way_and_what_stands_does_not() -> None:
    flow = prompted(MIDDLE)
    flow.arrive(rows(3, 4, 4, (1, 2, 3)))
    assert flow.ready_rows(3) == 0  # the token that stands is not paid
    assert flow.ready_rows(4) == 4
    run(flow)
    flow.arrive(rows(7, 3, 4, (4, 5, 6), 2))
    assert flow.ready_rows(4) == 3
    assert flow.ready_rows(2) == 1
    assert flow.ready_rows(1) == 0
