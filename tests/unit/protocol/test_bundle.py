"""Honest bundles of every kind of job verify, and say what happened."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from agreed_job import RATES, agree
from forged_bundles import refused
from market_offers import some_limits, some_rates
from played_job import Play

from protocol.errors import DishonestError
from protocol.market.offer import Provenance
from protocol.receipts.bundle import verify_bundle, without_text
from protocol.receipts.bundle_file import dump_bundle, load_bundle
from protocol.session.messages import UNMEASURED
from protocol.session.metering import last_position, window_count
from protocol.session.terms import Speculation
from protocol.units import ceil_div


def test_an_honest_bundle_verifies() -> None:
    play = Play(agree()).run()
    bundle = play.bundle()
    found = verify_bundle(bundle)
    assert (found.tokens_in, found.tokens_out) == (10, 11)
    assert found.amounts == bundle.pay.voucher.amounts == play.amounts(last_position(play.agreed.plan))
    assert found.refunded == sum(leg.cap for leg in bundle.session.legs) - sum(found.amounts)
    assert found.held == 0
    assert found.millijoules == (10 * 20,) * 3
    assert len(found.windows) == len(found.seeds) == len(found.sketches) == window_count(play.agreed.plan) == 6
    assert found.complete
    assert len(found.offers) == 3
    assert found.checkpoint.size == len(play.agreed.ledger.entries)
    assert found.proof_bytes % 32 == 0


def test_without_its_text_it_proves_the_rest() -> None:
    whole = Play(agree()).run().bundle()
    bare = without_text(whole)
    shown = dump_bundle(bare)
    found = verify_bundle(load_bundle(shown.encode()))
    assert found.withheld
    assert replace(found, withheld=False) == verify_bundle(whole)
    assert {json.loads(shown)[name] for name in ("tokens", "logprobs", "text", "transcript")} == {None}
    lied = [list(row) for row in bare.windows]
    lied[2] = [lied[2][0], lied[1][1], lied[2][2]]
    for forged in (
        replace(bare, text=whole.text, transcript=whole.transcript),
        replace(bare, transcript=whole.transcript),
        replace(bare, said=(b"12345678",)),
        replace(bare, windows=bare.windows[:-2]),
        replace(bare, windows=tuple(map(tuple, lied))),
        replace(whole, tokens=()),
    ):
        with pytest.raises(DishonestError):
            verify_bundle(forged)


PLANS = [
    {"prompt": 1, "most": 1, "chunk": 1, "window": 1},
    {"prompt": 1, "most": 9, "chunk": 4, "window": 1},
    {"prompt": 3, "most": 9, "chunk": 50, "window": 4},
    {"prompt": 12, "most": 2, "chunk": 4, "window": 8},
    {"prompt": 13, "most": 16, "chunk": 1, "window": 16},
]


@pytest.mark.parametrize("spans", [((0, 6),), ((0, 2), (2, 6)), tuple((n, n + 1) for n in range(6))])
@pytest.mark.parametrize("plan", PLANS)
def test_one_leg_or_many_with_any_windows(spans: tuple[tuple[int, int], ...], plan: dict[str, int]) -> None:
    play = Play(agree(spans=spans, **plan)).run()
    found = verify_bundle(play.bundle())
    assert (found.tokens_in, found.tokens_out) == (plan["prompt"], plan["most"])
    assert len(found.windows) == window_count(play.agreed.plan)


@pytest.mark.parametrize("generated", range(1, 12))
def test_an_answer_may_end_anywhere(generated: int) -> None:
    found = verify_bundle(Play(agree()).run(generated=generated).bundle())
    assert (found.tokens_in, found.tokens_out) == (10, generated)
    assert found.complete


@pytest.mark.parametrize("windows", [0, 1, 2, 3, 4])
def test_a_job_that_broke_off_pays_for_the_windows_that_are_proven(windows: int) -> None:
    play = Play(agree())
    for _ in range(windows):
        play.window()
    found = verify_bundle(play.bundle(text=None))
    assert not found.complete
    assert found.tokens_in + found.tokens_out == (0, 4, 8, 11, 14)[windows]


def test_what_was_paid_ahead_is_two_windows_at_most() -> None:
    play = Play(agree())
    play.window()
    assert verify_bundle(play.bundle(play.voucher(10))).tokens_in == 10


@pytest.mark.parametrize("end", ["release", "close", "open"])
def test_a_session_may_be_released_closed_or_still_open(end: str) -> None:
    found = verify_bundle(Play(agree()).run(generated=3).bundle(end=end))
    rest = sum(leg.cap for leg in found.session.legs) - sum(found.amounts)
    assert (found.refunded, found.held) == ((0, rest) if end == "open" else (rest, 0))


def test_late_tokens_are_cheaper_where_the_rates_say_so() -> None:
    plain, late = Play(agree()), Play(agree())
    for play in (plain, late):
        while play.position < last_position(play.agreed.plan):
            slow = {1: 1} if play is late and play.position >= 10 else {}
            play.window(late=slow)
        play.close()
    full, cheaper = verify_bundle(plain.bundle()).amounts, verify_bundle(late.bundle()).amounts
    assert (full[0], full[2]) == (cheaper[0], cheaper[2])
    assert cheaper[1] < full[1]


def test_cached_positions_are_paid_as_cached() -> None:
    """Legs 0 and 1 can send again what they sent; leg 1 holds the least, so what it needs is sent again."""
    anew = Play(agree()).run()
    again = Play(agree(continues=9, cached={0: 9, 2: 4}, replays=(0, 1))).run()
    full, found = verify_bundle(anew.bundle()).amounts, verify_bundle(again.bundle())
    assert found.amounts[0] < found.amounts[2] < full[2]
    assert found.amounts[1] == full[1]
    assert [(each.start, each.end) for each in found.windows][:2] == [(9, 10), (10, 13)]
    assert again.agreed.starts == (9, 0, 4)


def test_who_cannot_send_again_computes_again_and_is_paid_for_it() -> None:
    play = Play(agree(continues=9, cached={0: 9, 2: 4}))
    assert play.agreed.starts == (0, 0, 4)
    assert verify_bundle(play.run().bundle()).amounts[0] == verify_bundle(Play(agree()).run().bundle()).amounts[0]


def test_a_session_that_continues_another_says_so_and_may_end_before_its_first_window() -> None:
    play = Play(agree(continues=9, cached={0: 9, 1: 9, 2: 9}))
    assert play.agreed.base == 9
    assert verify_bundle(play.bundle()).amounts == (7, 7, 7), "what was held before earns nothing by itself"
    found = verify_bundle(Play(agree(continues=9, cached={0: 9, 1: 9, 2: 9})).run().bundle())
    assert found.base == 9
    assert found.continues == b"\x77" * 32
    assert verify_bundle(Play(agree()).run().bundle()).continues is None


@pytest.mark.parametrize(("wasted", "rejected"), [((5, 3, 4), 3), ((0, 9, 9), 0), ((90, 80, 99), 2 * 3 * 4)])
def test_rejected_rows_are_paid_as_far_as_all_legs_agree(wasted: tuple[int, ...], rejected: int) -> None:
    """At most as many as drafts there can have been: so deep, so many under way, for each token."""
    dear = {"rates": some_rates(**RATES, price_rejected=200_000), "limits": some_limits(draft_depth=2)}
    drafts = Speculation(depth=2, flights=3)

    def played(paid: int) -> Play:
        play = Play(
            agree(offers=dict.fromkeys(range(3), dear), change=lambda terms: terms.replace(speculation=drafts)),
            rejected=dict.fromkeys(range(3), paid),
        )
        for _ in range(3):
            play.window()
        play.window(wasted=dict(enumerate(wasted)))
        play.close()
        return play

    found = verify_bundle(played(rejected).bundle())
    assert found.amounts[0] == 7 + ceil_div(10 * 1_000_000 + 4 * 2_500_001 + rejected * 200_000, 1_000_000)
    for other in (rejected + 10, rejected - 10):
        if other >= 0:
            refused(played(other).bundle(), "is paid")


def test_a_standby_takes_over_for_a_leg_that_died() -> None:
    play = Play(agree(standbys=((2, 4), (0, 6)), silent={4}))
    for _ in range(4):
        play.window()
    died_at = play.position
    play.reroute((0, (0, 2)), (3, (2, 4)), (2, (4, 6)))
    found = verify_bundle(play.run().bundle())
    before = play.amounts(died_at)
    assert found.amounts[1] == before[1]
    assert found.amounts[3] > found.amounts[0] - before[0], "it had to compute the whole sequence again"
    assert found.amounts[4] == 0
    assert found.millijoules[4] is None
    assert [leg.leg for leg in found.windows[-1].route] == [0, 3, 2]


def test_a_route_may_change_before_the_first_window_and_twice_at_one_place() -> None:
    play = Play(agree(standbys=((0, 4), (0, 6))))
    play.reroute((3, (0, 4)), (2, (4, 6)))
    play.reroute((4, (0, 6)))
    found = verify_bundle(play.run().bundle())
    assert [leg.leg for leg in found.windows[0].route] == [4]
    assert found.amounts[:4] == (7,) * 4, "who accepted has its opening charge"


def test_energy_may_be_unknown() -> None:
    play = Play(
        agree(), lambda receipt, shown: (receipt.replace(millijoules=UNMEASURED, source=Provenance.UNKNOWN), shown)
    )
    assert verify_bundle(play.run().bundle()).millijoules == (None,) * 3


def test_the_file_holds_the_whole_bundle() -> None:
    for bundle in (
        Play(agree(standbys=((0, 6),))).run().bundle(),
        Play(agree()).bundle(end="open", text=None),
    ):
        assert load_bundle(dump_bundle(bundle).encode()) == bundle
