"""Forged bundles: receipts, windows, tokens, nonces and sketches (receipt.md, R5 to R8)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from agreed_job import agree, chain_of
from forged_bundles import honest_bundle, honest_play, lying, refused
from played_job import Play

from protocol.energy.power import JOB_SLACK_US, most_millijoules
from protocol.errors import DishonestError, MalformedError, SignatureError
from protocol.identity.ids import MAX_TOKENS
from protocol.market.offer import Provenance
from protocol.receipts.bundle import Bundle, verify_bundle
from protocol.session.fingerprint import SKETCH_BYTES
from protocol.session.messages import UNMEASURED, SignedReceipt
from protocol.session.metering import served
from protocol.session.receipt import NO_HASH, bytes_hash, token_bytes


@pytest.fixture(scope="module")
def honest() -> Play:
    """One whole job of three legs; its bundle is `bundle`."""
    return honest_play()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return honest_bundle()


# R5: receipts, one by one


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"session": bytes(32)}, "another session"),
        ({"leg": 2}, "not signed by its provider"),
        ({"leg": 9}, "another session, or of 3 legs"),
        ({"window": 4}, "another leg or window"),
        ({"tokens_in": 11}, "counts 11"),
        ({"tokens_out": 9}, "counts 10.9"),
        ({"tokens_out": MAX_TOKENS}, "counts"),
        ({"input": bytes(32)}, "not what leg 1 says"),
        ({"output": bytes(32)}, "not what leg 2 says"),
        ({"tokens": b"\x01" * 32}, "draws no tokens"),
        ({"nonce": b"\x01" * 32}, "leg 1: a nonce"),
        ({"nonce": chain_of("leg 1").nonce(4)}, "leg 1: a nonce"),
        ({"nonce": chain_of("leg 0").nonce(3)}, "leg 1: a nonce"),
        ({"sketches": bytes(32)}, "other sketches than it signed"),
        ({"millijoules": 10}, "takes back energy"),
        ({"rows": 3}, "takes back energy"),
        ({"millijoules": UNMEASURED}, "energy without a source"),
        ({"source": Provenance.UNKNOWN}, "energy without a source"),
        ({"late": 5}, "more tokens were late"),
        ({"pue_milli": 999}, "PUE below 1"),
        ({"p50_us": 1001}, "median above"),
    ],
)
def test_a_receipt_that_lies(changes: dict[str, Any], says: str) -> None:
    """Leg 1, in the fourth window, where the first whole window of generated tokens ends."""
    play = Play(agree(), lying(1, 3, **changes)).run()
    with pytest.raises((DishonestError, SignatureError), match=says):
        verify_bundle(play.bundle())


def test_energy_that_falls_in_the_last_word() -> None:
    play = Play(agree(), lying(0, 6, millijoules=1)).run()
    refused(play.bundle(), "takes back energy")


def test_r10_energy_beyond_what_the_hardware_can_have_drawn_while_the_session_was_open() -> None:
    """A machine of two cores, opened and settled within the same second."""
    most = most_millijoules("cpu", 2, 2 * JOB_SLACK_US)
    verify_bundle(Play(agree(), lying(0, 6, millijoules=most)).run().bundle())
    beyond = Play(agree(), lying(0, 6, millijoules=most + 1)).run()
    refused(beyond.bundle(), "leg 0 says that it has spent 12000 J, and its hardware can have drawn 12000 J at most")


def test_late_tokens_that_are_taken_back() -> None:
    play = Play(agree(), lying(2, 5, late=0))
    for window in range(6):
        play.window(late={2: 1} if window == 4 else {})
    refused(play.bundle(), "takes back energy, rows or late")


def test_a_receipt_that_somebody_else_signed(bundle: Bundle) -> None:
    (first, shown), *others = bundle.windows[2]
    forged = SignedReceipt(receipt=first.receipt, signature=bundle.windows[2][1][0].signature)
    windows = (*bundle.windows[:2], ((forged, shown), *others), *bundle.windows[3:])
    refused(replace(bundle, windows=windows), "not signed by its provider", SignatureError)


def test_a_receipt_of_an_empty_window() -> None:
    """Counts of nothing new: it was an IndexError once."""
    play = Play(agree())
    play.window(end=4)
    play.window(end=8)
    counts = dict(zip(("tokens_in", "tokens_out"), served(play.agreed.plan, 8), strict=True))
    play.alter = lambda receipt, shown: (receipt.replace(**counts), shown)
    play.window(end=10)
    refused(play.bundle(play.voucher(8)), "window 2 is empty")


def test_rows_of_receipts_that_are_empty(bundle: Bundle) -> None:
    for windows in (((),), (*bundle.windows[:2], (), *bundle.windows[3:]), (*bundle.windows, ())):
        with pytest.raises((MalformedError, DishonestError)):
            verify_bundle(replace(bundle, windows=windows))


# R6: windows


@pytest.mark.parametrize("missing", range(6))
def test_a_window_that_is_missing(bundle: Bundle, missing: int) -> None:
    windows = bundle.windows[:missing] + bundle.windows[missing + 1 :]
    with pytest.raises(DishonestError):
        verify_bundle(replace(bundle, windows=windows))


def test_windows_that_are_swapped_or_doubled(bundle: Bundle) -> None:
    one, two, three, *others = bundle.windows
    for windows in ((two, one, three, *others), (one, one, two, three, *others), (one, three, two, *others)):
        with pytest.raises(DishonestError):
            verify_bundle(replace(bundle, windows=windows))


def test_legs_that_are_swapped_missing_or_doubled_in_a_window(bundle: Bundle) -> None:
    one, (first, second, third), *others = bundle.windows
    for row in ((second, first, third), (first, second), (first, second, third, third), (first, first, third)):
        with pytest.raises(DishonestError):
            verify_bundle(replace(bundle, windows=(one, row, *others)))


def test_a_closing_row_in_the_middle(bundle: Bundle) -> None:
    *windows, closing = bundle.windows
    refused(replace(bundle, windows=(*windows[:3], closing, *windows[3:])), "closing row of receipts stands before")
    refused(replace(bundle, windows=(*windows, closing, closing)), "closing row of receipts stands before")
    refused(replace(bundle, windows=(closing,)), "of no window")
    refused(replace(bundle, windows=(closing,), nonce=None), "no window to close")


def test_a_closing_row_of_some_legs_or_with_bytes(bundle: Bundle) -> None:
    *windows, closing = bundle.windows
    refused(replace(bundle, windows=(*windows, closing[:2])), "closing receipt of a leg is missing")
    for name in ("input", "output", "tokens"):
        play = Play(agree(), lying(1, 6, **{name: b"\x01" * 32})).run()
        refused(play.bundle(), "fixes bytes of no window")


def test_a_window_that_ends_before_it_should() -> None:
    play = Play(agree())
    play.window(end=3)
    play.window(end=7)
    refused(play.bundle(), "ends before it should")


def test_a_last_window_after_the_end_of_the_plan() -> None:
    play = Play(agree()).run(close=False)
    play.window(end=21)
    with pytest.raises(DishonestError):
        verify_bundle(play.bundle(play.voucher(20)))


def test_what_one_leg_sent_is_not_what_the_next_received() -> None:
    play = Play(agree(), lying(2, 1, input=bytes_hash(b"other rows"))).run()
    refused(play.bundle(), "what leg 1 says it sent is not what leg 2 says it received")


# R7: tokens


def test_one_token_is_changed(bundle: Bundle) -> None:
    for at in range(len(bundle.tokens)):
        tokens = list(bundle.tokens)
        tokens[at] ^= 1
        refused(replace(bundle, tokens=tuple(tokens)), "signed for other tokens")


def test_5000_tokens_are_appended_that_nobody_signed(bundle: Bundle) -> None:
    refused(replace(bundle, tokens=bundle.tokens + (5,) * 5000), "where the receipts cover 21")
    refused(replace(bundle, tokens=bundle.tokens[:-1]), "more tokens than there are")


def test_a_token_that_the_model_does_not_have() -> None:
    play = Play(agree(), tokens=[1000] * 10).run()
    refused(play.bundle(), "a token that the model does not have")


def test_a_last_leg_that_signs_for_other_tokens_than_it_sent() -> None:
    for said in (bytes_hash(token_bytes([1])), NO_HASH, bytes_hash(b"")):
        play = Play(agree(), lying(2, 2, tokens=said)).run()
        refused(play.bundle(), "leg 2 signed for other tokens")


# R8: nonces and sketches


def test_a_client_whose_nonces_are_not_those_of_the_terms(bundle: Bundle, honest: Play) -> None:
    chain = honest.agreed.client_chain
    for nonce in (chain.nonce(4), chain.nonce(6), chain_of("another").nonce(5), bytes(32)):
        refused(replace(bundle, nonce=nonce), "not the one that was committed to")
    refused(replace(bundle, nonce=None), "nonce is missing, or of no window")
    early = Play(agree()).bundle()
    refused(replace(early, nonce=chain.nonce(0)), "nonce is missing, or of no window")


@pytest.mark.parametrize(
    ("window", "at", "neighbours"), [(2, 0, "0 and 1"), (6, -1, "1 and 2"), (6, SKETCH_BYTES, "1 and 2")]
)
def test_sketches_of_neighbours_that_differ_by_one_bit(window: int, at: int, neighbours: str) -> None:
    def flip(leg: int, index: int, shown: bytes) -> bytes:
        if (leg, index) != (1, window):
            return shown
        changed = bytearray(shown)
        changed[at] ^= 1
        return bytes(changed)

    refused(Play(agree(), forge=flip).run().bundle(), f"the sketches of legs {neighbours} differ")


def test_a_client_that_tells_the_legs_another_seed() -> None:
    """What honest legs then show fits no re-execution under the window's own seed: it proves nothing against them."""
    play = Play(agree(), tell=lambda seed: seed[::-1]).run()
    refused(play.bundle(), "sketches")


def test_sketches_that_are_not_those_that_were_signed(bundle: Bundle) -> None:
    (signed, shown), *others = bundle.windows[3]
    for wrong, error in ((shown[:-1] + b"\xff", DishonestError), (shown[:-1], MalformedError), (b"", DishonestError)):
        windows = (*bundle.windows[:3], ((signed, wrong), *others), *bundle.windows[4:])
        refused(replace(bundle, windows=windows), "sketches", error)


@pytest.mark.parametrize("spans", [((0, 6),), ((0, 2), (2, 4), (4, 6))])
def test_a_first_leg_that_shows_a_sketch_of_tokens(spans: tuple[tuple[int, int], ...]) -> None:
    def forge(leg: int, _: int, shown: bytes) -> bytes:
        return shown if leg or not shown else b"\x01" + shown[1:]

    refused(Play(agree(spans=spans), forge=forge).run().bundle(), "sketch of token ids")


def test_sketches_may_be_shown_as_late_as_the_plan_allows() -> None:
    """With three windows ahead two may wait for their sketches while another is signed for, and not a third."""
    for lag, ahead in ((0, 1), (2, 3), (7, 8)):
        play = Play(agree(ahead=ahead, most=30), lag=lag).run()
        found = verify_bundle(play.bundle())
        assert [len(each) for each in found.sketches] == [3] * len(found.windows)
    refused(Play(agree(ahead=1), lag=1).run().bundle(), "leg 0 does not show sketches of a window that it served")
    refused(Play(agree(ahead=3, most=30), lag=3).run().bundle(), "does not show sketches")


def test_a_closing_receipt_shows_all_that_is_left() -> None:
    play = Play(agree(ahead=3, most=30), lag=2).run(close=False)
    assert len(verify_bundle(play.bundle()).sketches) == len(play.rows) - 3, "the rest is not in"
    whole = Play(agree(ahead=3, most=30), lag=2).run().bundle()
    (signed, shown), *others = whole.windows[-1]
    assert len(shown) == 3 * 2 * SKETCH_BYTES
    for wrong in (shown[: 4 * SKETCH_BYTES], shown[2 * SKETCH_BYTES :], shown + shown[: 2 * SKETCH_BYTES], b""):
        refused(replace(whole, windows=(*whole.windows[:-1], ((signed, wrong), *others))), "sketches")


def test_sketches_of_neighbours_meet_whenever_they_come() -> None:
    def forge(leg: int, window: int, shown: bytes) -> bytes:
        return shown if leg != 1 or len(shown) < 6 * SKETCH_BYTES else shown[:-1] + bytes([shown[-1] ^ 1])

    play = Play(agree(ahead=3, most=30), forge=forge, lag=2).run()
    refused(play.bundle(), "the sketches of legs 1 and 2 differ")


def test_sketches_before_there_is_anything_to_sketch() -> None:
    def forge(_: int, window: int, shown: bytes) -> bytes:
        return shown if window else bytes(2 * SKETCH_BYTES)

    refused(Play(agree(), forge=forge).run().bundle(), "leg 0 shows sketches of a window that it did not serve")
