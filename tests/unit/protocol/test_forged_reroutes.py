"""Forged bundles: routes that changed otherwise than the client has signed (session.md, N6 and N7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from agreed_job import CLIENT, agree
from forged_bundles import STRANGER, refused
from market_offers import key_of
from played_job import Play

from protocol.errors import DishonestError, MalformedError, PeerError, SignatureError
from protocol.identity.signing import SigningKey
from protocol.receipts.bundle import verify_bundle
from protocol.session.terms import open_reroutes

# R8 and N6: reroutes


def rerouted(*route: tuple[int, tuple[int, int]], after: int = 3, key: SigningKey = CLIENT, **changes: Any) -> Play:
    """A job whose route changes after so many windows; the lie is in what is signed, not in who serves."""
    play = Play(agree(standbys=((2, 4), (0, 6))))
    for _ in range(after):
        play.window()
    play.reroute(*route, key=key, **changes)
    return play


TAKES_OVER = ((0, (0, 2)), (3, (2, 4)), (2, (4, 6)))


def test_a_reroute_signed_by_another() -> None:
    verify_bundle(rerouted(*TAKES_OVER).run().bundle())
    for key in (STRANGER, key_of(3)):
        refused(rerouted(*TAKES_OVER, key=key).run().bundle(), "not signed by the session's client", SignatureError)


@pytest.mark.parametrize("changes", [{"session": bytes(32)}, {"number": 0}, {"number": 2}])
def test_a_reroute_of_another_session_or_replayed(changes: dict[str, Any]) -> None:
    refused(rerouted(*TAKES_OVER, **changes).run().bundle(), "another session, or out of order")


def test_reroutes_out_of_order_or_twice() -> None:
    play = rerouted(*TAKES_OVER)
    play.window()
    play.reroute((4, (0, 6)))
    made = play.run().bundle()
    verify_bundle(made)
    one, two = made.reroutes
    for reroutes in ((two, one), (one, one, two), (one, two, two), (two,)):
        refused(replace(made, reroutes=reroutes), "out of order")
    with pytest.raises(PeerError):
        verify_bundle(replace(made, reroutes=(one,)))
    with pytest.raises(PeerError):
        verify_bundle(replace(made, reroutes=()))


def test_a_reroute_that_goes_back_behind_the_one_before() -> None:
    play = rerouted(*TAKES_OVER)
    play.reroute((4, (0, 6)), position=play.position - 2)
    refused(play.bundle(), "goes back behind")


def test_a_reroute_inside_a_window() -> None:
    play = rerouted(*TAKES_OVER, after=3)
    made = play.run().bundle()
    inside = Play(play.agreed)
    inside.position = 12
    inside.reroute(*TAKES_OVER)
    refused(replace(made, reroutes=tuple(inside.reroutes)), "begins inside of a window")


def test_a_reroute_from_a_position_that_nobody_has_signed_for() -> None:
    play = Play(agree(standbys=((2, 4), (0, 6))))
    for _ in range(3):
        play.window()
    play.position = 13
    play.reroute(*TAKES_OVER)
    play.position = 10
    refused(play.bundle(), "where nobody has signed")


def test_a_leg_that_was_left_comes_back() -> None:
    play = rerouted(*TAKES_OVER)
    play.window()
    play.reroute((0, (0, 2)), (1, (2, 4)), (2, (4, 6)))
    refused(play.bundle(), "does not come back")


@pytest.mark.parametrize(
    ("route", "says"),
    [
        (((0, (0, 2)), (3, (1, 4)), (2, (4, 6))), "gap or overlaps"),
        (((0, (0, 2)), (3, (2, 4))), "ends at block 4 of 6"),
        (((4, (0, 2)), (3, (2, 5)), (2, (5, 6))), "leg 3 agreed to blocks 2:4"),
        (((0, (0, 1)), (4, (1, 6))), "leg 0 goes on, so it keeps its blocks"),
        (((4, (0, 2)), (4, (2, 6))), "names a leg twice"),
        (((0, (0, 2)), (5, (2, 6))), "one that the session does not have"),
    ],
)
def test_a_reroute_to_blocks_or_legs_that_were_not_agreed(route: Any, says: str) -> None:
    play = rerouted(*route)
    with pytest.raises((MalformedError, DishonestError), match=says):
        open_reroutes(play.reroutes, play.agreed.terms, play.agreed.session, blocks=6)


def test_receipts_of_the_old_route_after_a_reroute() -> None:
    """The client keeps the dead leg's word and pays it on: the reroute says otherwise."""
    play = Play(agree(standbys=((2, 4), (0, 6)))).run()
    early = Play(play.agreed)
    early.position = 10
    early.reroute(*TAKES_OVER)
    refused(replace(play.bundle(), reroutes=tuple(early.reroutes)), "another leg or window|another session")


def test_a_standby_that_serves_without_having_accepted() -> None:
    play = Play(agree(standbys=((2, 4),), silent={3}))
    play.window()
    play.reroute(*TAKES_OVER)
    refused(play.run().bundle(), "leg 3 is for another leg or window")


def test_a_standby_that_is_paid_and_has_accepted_nothing() -> None:
    play = Play(agree(standbys=((2, 4),), silent={3})).run()
    amounts = (*play.amounts(20)[:3], 7)
    refused(play.bundle(play.voucher(amounts=amounts)), "leg 3 is paid and has accepted nothing")
