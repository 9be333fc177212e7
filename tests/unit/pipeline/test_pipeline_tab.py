"""What a client owes when legs tell the truth, and when one lies: it pays no more, and names the liar."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from node.pipeline.tab import Tab

from protocol.eip712 import sign_typed
from protocol.errors import DishonestError, MalformedError, PeerError, SignatureError
from protocol.frames import Receipted, SampledToken
from protocol.ids import keccak256
from protocol.messages import Leg, Receipt, Session, Voucher, session_id
from protocol.metering import Plan, served, window_end
from protocol.receipt import commitment_of
from protocol.session import ledger_domain
from protocol.signing import SigningKey

DOMAIN, OTHER_DOMAIN = ledger_domain("one+00000000+AA=="), ledger_domain("two+00000000+AA==")
KEYS = tuple(SigningKey(bytes([number]) * 32) for number in range(1, 4))
PROMPT = [11, 12, 13, 14, 15]
STOP = 0
PLAN = Plan(prompt=5, most=12, chunk=3, window=4)
TERMS = Session(
    client=SigningKey(b"\x77" * 32).address,
    expiry=2_000_000_000,
    window=PLAN.window,
    model=bytes(32),
    policy=bytes(32),
    salt=bytes(32),
    legs=tuple(Leg(provider=key.address, price_in=10**6, price_out=10**6, cap=100) for key in KEYS),
)
SESSION = session_id(TERMS)
ANSWER = list(range(21, 33))


class Job:
    """A tab, and the receipts that honest legs send for it."""

    def __init__(self, answer: list[int] = ANSWER) -> None:
        self.tab = Tab(TERMS, DOMAIN, PLAN, PROMPT, (STOP,))
        self.tokens = [*PROMPT, *answer]

    def token(self, position: int) -> SampledToken:
        return SampledToken(session=SESSION, position=position, token=self.tokens[position])

    def receipt(self, leg: int, start: int, end: int, **changes: Any) -> Receipt:
        """What leg `leg` signs for the window of positions ``[start, end)``."""
        between = [hashlib.sha256(f"{boundary} {start} {end}".encode()).digest() for boundary in range(len(KEYS))]
        yielded = self.tokens[max(start, PLAN.prompt - 1) + 1 : end + 1]
        tokens_in, tokens_out = served(PLAN, end)
        values = {
            "session": SESSION,
            "leg": leg,
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
            "input": commitment_of(self.tokens[start:end]) if leg == 0 else between[leg - 1],
            "output": commitment_of(yielded) if leg == len(KEYS) - 1 else between[leg],
            "fingerprint": keccak256(self.sketch(leg)),
            "millijoules": 7 * end,
        }
        return Receipt(**{**values, **changes})

    def sketch(self, leg: int) -> bytes:
        return bytes([leg]) * 128

    def send(self, leg: int, receipt: Receipt, *, key: SigningKey | None = None, domain: Any = DOMAIN) -> None:
        frame = Receipted(receipt=receipt, signature=sign_typed(domain, receipt, key or KEYS[leg]))
        self.tab.take_receipt(leg, frame, self.sketch(leg))

    def send_all(self, start: int, end: int, liar: int = -1, changes: dict[str, Any] | None = None) -> None:
        """Every leg's receipt for the positions ``[start, end)``; `changes` are in that of the liar."""
        for leg in range(len(KEYS)):
            self.send(leg, self.receipt(leg, start, end, **((changes or {}) if leg == liar else {})))

    def end_window(self, start: int) -> None:
        self.send_all(start, window_end(PLAN, start))

    def through_prompt(self) -> None:
        """Both chunks of the prompt paid, processed and receipted; the first token has come."""
        assert counts(self.tab.next_voucher()) == (3, 0)
        self.end_window(0)
        assert counts(self.tab.next_voucher()) == (5, 0)
        self.tab.take_token(self.token(5))
        self.end_window(3)


def counts(voucher: Voucher | None) -> tuple[int, int]:
    assert voucher is not None
    return voucher.tokens_in, voucher.tokens_out


def test_honest_legs_are_paid_for_everything() -> None:
    job = Job()
    job.through_prompt()
    assert counts(job.tab.next_voucher()) == (5, 1)
    start, paid = 5, []
    for position in range(6, 17):
        job.tab.take_token(job.token(position))
        if position == window_end(PLAN, start) or position == 16:
            end = min(window_end(PLAN, start), 16)
            job.send_all(start, end)
            start = end
        voucher = job.tab.next_voucher()
        if voucher is not None:
            paid.append(counts(voucher))
    assert job.tab.complete
    assert paid[-1] == (5, 12)
    assert paid == sorted(paid)
    assert job.tab.last_voucher(honest=True).tokens_out == 12
    assert len(job.tab.windows) == 5


def test_nothing_is_due_twice() -> None:
    job = Job()
    assert job.tab.next_voucher() is not None
    assert job.tab.next_voucher() is None


LIES: dict[str, tuple[int, dict[str, Any], str]] = {
    "a middle leg commits to other input": (1, {"input": bytes(32)}, "what leg 0 says it sent is not what leg 1"),
    "a middle leg commits to other output": (1, {"output": bytes(32)}, "what leg 1 says it sent is not what leg 2"),
    "the first leg commits to another prompt": (0, {"input": bytes(32)}, "leg 0 signed for another prompt"),
    "the last leg commits to other tokens": (2, {"output": bytes(32)}, "leg 2 signed for other tokens"),
    "a leg counts too many": (1, {"tokens_out": 9}, "leg 1 counts 5.9 tokens, not 5.4"),
    "a leg counts too few": (2, {"tokens_out": 3}, "leg 2 counts 5.3 tokens, not 5.4"),
    "a leg counts another prompt": (0, {"tokens_in": 4}, "leg 0 counts 4.4 tokens"),
    "a leg speaks for another session": (1, {"session": b"\x31" * 32}, "receipt in place 1 is for another"),
    "a leg reveals another sketch": (2, {"fingerprint": bytes(32)}, "leg 2 revealed another sketch"),
}


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_lying_leg_is_named_and_nobody_is_paid_more(lie: str) -> None:
    liar, changes, blame = LIES[lie]
    job = Job()
    job.through_prompt()
    assert counts(job.tab.next_voucher()) == (5, 1)
    for position in range(6, 9):
        job.tab.take_token(job.token(position))
    before = job.tab.paid
    with pytest.raises(DishonestError, match=blame):
        job.send_all(5, 8, liar, changes)
    assert counts(job.tab.last_voucher(honest=False)) == before
    assert len(job.tab.windows) == 2


def test_another_legs_receipt_is_refused() -> None:
    job = Job()
    with pytest.raises(DishonestError, match="leg 1 sent a receipt of leg 0"):
        job.send(1, job.receipt(0, 0, 3), key=KEYS[0])
    with pytest.raises(SignatureError, match="receipt of leg 1 is not signed by its provider"):
        job.send(1, job.receipt(1, 0, 3), key=KEYS[0])
    with pytest.raises(SignatureError, match="for this ledger"):
        job.send(1, job.receipt(1, 0, 3), domain=OTHER_DOMAIN)
    with pytest.raises(DishonestError, match="leg 1 sent a receipt of leg 7"):
        job.send(1, job.receipt(1, 0, 3).replace(leg=7))
    job.send(1, job.receipt(1, 0, 3))


@pytest.mark.parametrize("position", [4, 5, 7, 2**32 - 1])
def test_a_token_out_of_place_is_refused(position: int) -> None:
    job = Job()
    job.through_prompt()
    wrong = SampledToken(session=SESSION, position=position, token=3)
    with pytest.raises(DishonestError, match=f"position {position} where 6 is next"):
        job.tab.take_token(wrong)
    job.tab.take_token(job.token(6))


@pytest.mark.parametrize("answer", [[21, STOP, 22], ANSWER], ids=["a stop token", "the last token allowed"])
def test_a_token_after_the_end_is_refused(answer: list[int]) -> None:
    job = Job(answer)
    job.through_prompt()
    while not job.tab.ended:
        job.tab.take_token(job.token(len(job.tab.tokens)))
    after = SampledToken(session=SESSION, position=len(job.tab.tokens), token=3)
    with pytest.raises(DishonestError):
        job.tab.take_token(after)


def test_receipts_for_windows_that_were_never_paid_are_refused() -> None:
    job = Job()
    for number in range(3):
        job.send(1, job.receipt(1, 0, 3, millijoules=number))
    with pytest.raises(MalformedError, match="leg 1 sends receipts for windows that were never paid"):
        job.send(1, job.receipt(1, 0, 3))
    assert job.tab.paid == (0, 0)


def test_receipts_that_count_tokens_which_never_came_pay_nothing() -> None:
    job = Job()
    job.through_prompt()
    assert counts(job.tab.next_voucher()) == (5, 1)
    with pytest.raises(DishonestError, match="count more tokens than came"):
        job.end_window(5)
    assert counts(job.tab.last_voucher(honest=False)) == (5, 1)


def test_tokens_without_receipts_are_paid_for_one_window_and_no_further() -> None:
    job = Job()
    job.through_prompt()
    for position in range(6, 17):  # a last leg that makes up tokens, all at once
        job.tab.take_token(job.token(position))
    assert job.tab.generated == 12
    assert counts(job.tab.next_voucher()) == (5, 1 + PLAN.window)
    assert job.tab.next_voucher() is None
    assert counts(job.tab.last_voucher(honest=True)) == (5, 1 + PLAN.window)


def test_tokens_before_the_prompt_is_through_are_not_paid() -> None:
    job = Job()
    assert counts(job.tab.next_voucher()) == (3, 0)
    for position in range(5, 9):
        job.tab.take_token(job.token(position))
    assert job.tab.next_voucher() is None
    assert counts(job.tab.last_voucher(honest=True)) == (3, 0)


def test_a_job_that_is_stopped_pays_what_came() -> None:
    job = Job()
    job.through_prompt()
    job.tab.next_voucher()
    for position in range(6, 8):
        job.tab.take_token(job.token(position))
    assert counts(job.tab.last_voucher(honest=True)) == (5, 3)


def test_every_complaint_is_the_peers_fault() -> None:
    for liar, changes, _ in LIES.values():
        job = Job()
        with pytest.raises(PeerError):
            job.send_all(0, 3, liar, {"tokens_out": 1} | changes)
