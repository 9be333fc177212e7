"""How long a silent route is waited for: seconds, by its own figures, whatever these are."""

from __future__ import annotations

from typing import Any

import pytest
from agreed_job import agree
from market_offers import an_offer

from protocol.market.offer import MAX_DURATION_US, Offer
from protocol.session.patience import LEAST_S, MOST_S, SUSPECT_S, Patience, crawl_s, patience_with
from protocol.session.terms import Terms

SPANS = ((0, 2), (2, 4))


def route(**changes: Any) -> tuple[Terms, list[Offer]]:
    terms = agree(spans=SPANS, prompt=20, chunk=8).terms
    return terms, [an_offer(leg, span, **changes) for leg, span in enumerate(SPANS)]


def patience(**changes: Any) -> Patience:
    return patience_with(*route(**changes))


def test_a_fast_route_is_given_the_least() -> None:
    assert patience(prompt_us=1, position_us=1, late_us=1) == Patience(
        prompt_s=LEAST_S, first_s=4 * LEAST_S, token_s=LEAST_S, suspect_s=SUSPECT_S
    )


def test_the_time_follows_from_the_offers_figures() -> None:
    # A chunk of 8 positions takes 2 * 8 * 0.2 s, and 3 ways of 0.1 s; a late token 2 * 2 s and the same ways.
    slow = patience(prompt_us=200_000, position_us=400_000, late_us=2_000_000)
    assert (slow.prompt_s, slow.token_s, slow.first_s) == (14, 18, 3 * 14 + 18)


def test_a_prompt_position_counts_no_more_than_one_alone() -> None:
    assert patience(prompt_us=MAX_DURATION_US, position_us=1, late_us=1) == patience(
        prompt_us=1, position_us=1, late_us=1
    )


@pytest.mark.parametrize("figure", [10_000_000, MAX_DURATION_US])
def test_no_claim_buys_more_than_the_most(figure: int) -> None:
    stalling = patience(prompt_us=figure, position_us=figure, late_us=figure)
    assert stalling == Patience(prompt_s=MOST_S, first_s=4 * MOST_S, token_s=MOST_S, suspect_s=MOST_S)


def test_tokens_that_crawl_are_beyond_what_is_late_and_beyond_the_jobs_class() -> None:
    assert crawl_s(*route(late_us=50_000, position_us=1)) == pytest.approx(4 * 0.4)
    assert crawl_s(*route(late_us=MAX_DURATION_US)) == 4.0, "a chat waits a second for a token, whatever an offer says"
