"""How long a client waits for a route that says nothing (docs/spec/market.md, clause M13).

By the figures of its offers. One that claims to be slow is waited for no longer than `MOST_S` at a time. One that
claims to be fast is given `LEAST_S`: an honest machine whose cores are all taken stands still for seconds, and to give
up on it costs a second session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from protocol.market.offer import Offer
from protocol.policy.policy import TIME_PER_TOKEN_US
from protocol.routing.ways import UNKNOWN_RTT_US
from protocol.session.terms import Terms
from protocol.units import ceil_div

__all__ = ["LEAST_S", "MOST_S", "Patience", "crawl_s", "is_adrift", "patience_with"]

FACTOR = 4
"""So many times as long as the offers' figures say."""
DRIFT = 2
"""A token may take so many times what the legs sign, and the way: their machines have other things to do."""
LEAST_S = 10
"""Seconds without a word that any route is given."""
SUSPECT_S = 2
"""Seconds without a token in which no leg that could be replaced is looked for: it costs a question to each."""
MOST_S = 30
"""Seconds without a word after which any route is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds that a client waits."""

    prompt_s: int
    """Without a word from any leg, while the prompt is worked on."""
    first_s: int
    """For the first token in all, whatever the legs say meanwhile."""
    token_s: int
    """Without a word from any leg, once tokens come."""
    suspect_s: int
    """Without a word, once tokens come, until a leg that could be replaced is looked for."""


def patience_with(terms: Terms, offers: Sequence[Offer]) -> Patience:
    """How long to wait for the route of some terms; `offers` are its legs', in the same order."""
    plan = terms.plan
    # A position among many of a chunk takes no longer than one alone.
    prompt_us = _sum(terms, offers, lambda offer: min(offer.prompt_us, offer.position_us))
    chunk_s = _bounded(min(plan.chunk, plan.prompt) * prompt_us + _hops_us(terms))
    token_s = _bounded(_token_us(terms, offers))
    return Patience(
        prompt_s=chunk_s,
        first_s=ceil_div(plan.prompt, plan.chunk) * chunk_s + token_s,
        token_s=token_s,
        suspect_s=max(SUSPECT_S, min(MOST_S, ceil_div(FACTOR * _token_us(terms, offers), 1_000_000))),
    )


def crawl_s(terms: Terms, offers: Sequence[Offer]) -> float:
    """Seconds for a token, over many of them, that no honest route takes. None may be slower than the job's class."""
    most_us = TIME_PER_TOKEN_US.get(terms.policy.latency_class, 0)
    return FACTOR * min(most_us, _token_us(terms, offers)) / 1_000_000


def is_adrift(seen_us: int, signed_us: Sequence[int]) -> bool:
    """Whether what legs sign of their own times is too little for what their client saw (clause M84).

    Args:
        seen_us: between two tokens, at the client.
        signed_us: what a token took at each leg of the route, by its own receipts.
    """
    return seen_us > DRIFT * sum(signed_us) + UNKNOWN_RTT_US * (len(signed_us) + 1)


def _token_us(terms: Terms, offers: Sequence[Offer]) -> int:
    """Microseconds for a token that is late at every leg, and on its way."""
    return _sum(terms, offers, lambda offer: offer.late_us) + _hops_us(terms)


def _hops_us(terms: Terms) -> int:
    return UNKNOWN_RTT_US * (len(terms.route) + 1)


def _sum(terms: Terms, offers: Sequence[Offer], figure: Callable[[Offer], int]) -> int:
    """Over the legs of a route, of the blocks that each serves."""
    legs = zip(terms.route, offers, strict=True)
    return sum(ceil_div(figure(offer) * len(leg.span), len(offer.span)) for leg, offer in legs)


def _bounded(expected_us: int) -> int:
    return max(LEAST_S, min(MOST_S, ceil_div(FACTOR * expected_us, 1_000_000)))
