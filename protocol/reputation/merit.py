"""Whom to keep and to look at first, where not all find room: keys cost nothing, so what counts is what is behind.

It orders; it forbids nothing. A newcomer has none, and still gets its chance (docs/spec/market.md, clause M8).
"""

from __future__ import annotations

from enum import IntEnum

from protocol.reputation.standing import Deed, Standing, shunned_until

__all__ = ["Merit", "merit_of"]


class Merit(IntEnum):
    """What is known for a key, least first."""

    SHUNNED = 0
    """It failed or cheated this party, and is left alone for now."""
    NEWCOMER = 1
    """Nothing is known of it."""
    ANSWERED = 2
    """It is connected, and answered: there is a machine behind it."""
    PAID = 3
    """It was paid for sessions on the ledger: somebody bought from it."""
    SERVED = 4
    """It served this very party."""


def merit_of(standing: Standing, *, paid: bool, answered: bool, now: int) -> Merit:
    """The merit of one key.

    Args:
        paid: whether the ledger knows it as a provider that was paid.
        answered: whether it is connected here, and answered.
        now: unix seconds.
    """
    if standing.tallies:  # of most nothing is remembered, and a book asks about all of them
        if shunned_until(standing) > now:
            return Merit.SHUNNED
        if standing.of(Deed.SERVED).count:
            return Merit.SERVED
    if paid:
        return Merit.PAID
    return Merit.ANSWERED if answered else Merit.NEWCOMER
