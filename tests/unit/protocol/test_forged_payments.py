"""Forged bundles: vouchers and text (receipt.md, R9 and R11)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from agreed_job import CLIENT, agree
from forged_bundles import STRANGER, honest_bundle, honest_play, refused
from played_job import Play

from protocol.errors import MalformedError, SignatureError
from protocol.identity.ids import MAX_TOKENS
from protocol.receipts.bundle import Bundle, verify_bundle
from protocol.receipts.bundle_text import seal_transcript


@pytest.fixture(scope="module")
def honest() -> Play:
    """One whole job of three legs; its bundle is `bundle`."""
    return honest_play()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return honest_bundle()


# R9: the voucher


@pytest.mark.parametrize(
    "counts",
    [
        {"tokens_in": 11},
        {"tokens_in": 9},
        {"tokens_in": MAX_TOKENS},
        {"tokens_in": 10, "tokens_out": 0},
        {"tokens_out": 10},
        {"tokens_out": 12},
        {"tokens_out": MAX_TOKENS},
    ],
)
def test_a_voucher_for_more_or_fewer_tokens_than_there_were(
    bundle: Bundle, honest: Play, counts: dict[str, int]
) -> None:
    refused(replace(bundle, pay=honest.voucher(**counts)), "voucher")


def test_a_voucher_beyond_the_receipts() -> None:
    play = Play(agree())
    play.window()
    play.window()
    assert verify_bundle(play.bundle(play.voucher(13))).tokens_out == 4
    play = Play(agree())
    play.window()
    play.window()
    refused(play.bundle(play.voucher(14)), "far beyond the receipts")


def test_a_voucher_below_the_receipts() -> None:
    play = Play(agree()).run()
    refused(play.bundle(play.voucher(17)), "less than every leg has signed for")


def test_amounts_above_the_caps(bundle: Bundle, honest: Play) -> None:
    cap = bundle.session.legs[2].cap
    over = honest.voucher(amounts=(*bundle.pay.voucher.amounts[:2], cap + 1))
    with pytest.raises(MalformedError) as raised:
        verify_bundle(replace(bundle, pay=over))
    assert raised.value.code == "cap"


@pytest.mark.parametrize("step", [-1, 1])
@pytest.mark.parametrize("leg", range(3))
def test_amounts_other_than_what_was_earned(leg: int, step: int) -> None:
    play = Play(agree()).run(generated=6)
    earned = list(play.voucher().voucher.amounts)
    earned[leg] += step
    refused(play.bundle(play.voucher(amounts=tuple(earned))), f"leg {leg} is paid {earned[leg]}")


def test_amounts_for_another_number_of_legs(bundle: Bundle, honest: Play) -> None:
    pay = honest.voucher(amounts=bundle.pay.voucher.amounts[:2])
    refused(replace(bundle, pay=pay), "amounts for 2 legs of 3", MalformedError)


def test_a_voucher_that_names_other_receipts(bundle: Bundle, honest: Play) -> None:
    refused(replace(bundle, pay=honest.voucher(receipts=bytes(32))), "names other receipts")
    shorter = replace(bundle, windows=bundle.windows[:-1])
    refused(shorter, "names other receipts")


def test_a_voucher_by_somebody_else_or_for_another_session(bundle: Bundle, honest: Play) -> None:
    refused(replace(bundle, pay=honest.voucher(key=STRANGER)), "not signed by the session's client", SignatureError)
    refused(replace(bundle, pay=honest.voucher(session=bytes(32))), "another session", MalformedError)


# R11: text


def test_text_that_is_altered_in_the_file(bundle: Bundle) -> None:
    for text in (("Q", "B"), ("q", "A"), ("", ""), ("Q", "A\n"), ("A", "Q"), ("QA", "")):
        refused(replace(bundle, text=text), "not the one that the client sealed")


def test_text_without_the_clients_word_or_the_word_without_text(bundle: Bundle) -> None:
    refused(replace(bundle, transcript=None), "without its client's word")
    refused(replace(bundle, text=None), "without its client's word")
    verify_bundle(replace(bundle, text=None, transcript=None))


def test_a_transcript_by_another_or_of_another_session(bundle: Bundle) -> None:
    refused(
        replace(bundle, transcript=seal_transcript(bundle.session, ("Q", "A"), STRANGER)),
        "not sealed by the session's client",
    )
    other = bundle.session.replace(salt=b"\x05" * 32)
    refused(replace(bundle, transcript=seal_transcript(other, ("Q", "A"), CLIENT)), "of another session")
