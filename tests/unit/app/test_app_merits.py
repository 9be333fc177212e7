"""What is known for a key, from each of its sources, and that no source is missed where it fails."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from market_offers import NOW, key_of

from node.app.network.merits import Merits
from protocol.errors import UnreachableError
from protocol.reputation.merit import Merit, merit_of
from protocol.reputation.standing import NEWCOMER, Deed, Standing, Tally

SERVED = Standing({Deed.SERVED: Tally(count=1, last_at=NOW - 500)})
FAILED = Standing({Deed.SERVED: Tally(count=1, last_at=NOW - 500), Deed.FAILED: Tally(count=1, last_at=NOW - 10)}, 1)
LIED = Standing({Deed.LIED: Tally(count=1, last_at=NOW - 10**6)})


@pytest.mark.parametrize(
    ("standing", "paid", "answered", "merit"),
    [
        (NEWCOMER, False, False, Merit.NEWCOMER),
        (NEWCOMER, False, True, Merit.ANSWERED),
        (NEWCOMER, True, True, Merit.PAID),
        (SERVED, True, True, Merit.SERVED),
        (SERVED, False, False, Merit.SERVED),
        (FAILED, True, True, Merit.SHUNNED),
        (LIED, True, True, Merit.SHUNNED),
    ],
)
def test_the_best_that_is_known_counts_unless_it_is_shunned(
    standing: Standing, paid: bool, answered: bool, merit: Merit
) -> None:
    assert merit_of(standing, paid=paid, answered=answered, now=NOW) is merit


def test_a_failure_is_forgiven_in_time() -> None:
    assert merit_of(FAILED, paid=False, answered=False, now=NOW + 50) is Merit.SERVED


@pytest.mark.asyncio
async def test_the_ledger_is_asked_and_its_last_word_counts_while_it_is_silent() -> None:
    key, other = key_of(1), key_of(2)
    merits = Merits(lambda: NOW, standing=lambda address: SERVED if address == other.address else NEWCOMER)
    await merits.refresh()
    assert (merits.of(key.public_key), merits.of(other.public_key)) == (Merit.NEWCOMER, Merit.SERVED)

    async def paid() -> Mapping[bytes, int]:
        return {key.address: 3}

    async def gone() -> Mapping[bytes, int]:
        raise UnreachableError("the ledger does not answer")

    merits.ask = paid
    await merits.refresh()
    assert merits.of(key.public_key) is Merit.PAID
    assert merits.is_paid(key.public_key)
    merits.ask = gone
    await merits.refresh()
    assert merits.of(key.public_key) is Merit.PAID
    assert not merits.is_paid(other.public_key)


def test_who_answered_is_known_until_it_is_silent() -> None:
    merits, key = Merits(lambda: NOW), key_of(1).public_key
    merits.answered(key)
    assert merits.of(key) is Merit.ANSWERED
    merits.silent(key)
    assert merits.of(key) is Merit.NEWCOMER
