"""Forged bundles: what a ledger would have to lie (receipt.md, R3, R4 and R10)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from agreed_job import CLIENT, agree
from forged_bundles import STRANGER, honest_bundle, honest_play, refused
from market_offers import NOW
from paper_ledger import PaperLedger
from played_job import Play

from protocol.encoding.codec import decode, encode
from protocol.errors import MalformedError, PeerError, SignatureError
from protocol.receipts.bundle import Bundle, verify_bundle
from protocol.settlement.evidence import LogProof
from protocol.settlement.operations import LogEntry, Release, SessionEffect, Settle, sign_op


@pytest.fixture(scope="module")
def honest() -> Play:
    """One whole job of three legs; its bundle is `bundle`."""
    return honest_play()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return honest_bundle()


# R3, R4 and R10: the ledger


def proof(evidence: bytes) -> LogProof:
    return decode(evidence, LogProof)


def test_two_logs_of_one_size_under_one_key() -> None:
    """The ledger shows the client one log and everybody else another: the bundle proves it."""
    play = Play(agree()).run()
    ledger = play.agreed.ledger
    other = ledger.fork()
    made = play.bundle()
    other.fund(STRANGER.address, 5)
    while len(other.entries) < len(ledger.entries):
        other.fund(STRANGER.address, 5)
    refused(replace(made, opened=other.evidence(play.agreed.opened)), "two different logs")


def test_two_entries_in_one_place() -> None:
    play = Play(agree())
    other = play.agreed.ledger.fork()
    made = play.bundle(end="open")
    other.act(CLIENT, Settle, vouchers=(play.voucher(8),))
    for _ in range(4):
        other.fund(STRANGER.address, 5)
    refused(replace(made, released=other.evidence(len(play.agreed.ledger.entries) - 1)), "two entries in one place")


@pytest.fixture(scope="module")
def short() -> Bundle:
    """Of an answer that ended early, so that the legs gave something back."""
    made = Play(agree()).run(generated=6).bundle()
    assert made.released is not None
    return made


def test_entries_that_are_out_of_order(short: Bundle) -> None:
    refused(replace(short, settled=short.released, released=short.settled), "out of order")


@pytest.mark.parametrize("which", ["opened", "settled", "released"])
def test_an_entry_that_is_not_in_the_log(short: Bundle, which: str) -> None:
    honest_proof = proof(getattr(short, which))
    entry = decode(honest_proof.entry, LogEntry)
    forged = encode(honest_proof.replace(entry=encode(entry.replace(time=entry.time + 1))))
    refused(replace(short, **{which: forged}), "not in the tree")
    other = honest_proof.replace(index=honest_proof.index - 1)
    with pytest.raises(PeerError):
        verify_bundle(replace(short, **{which: encode(other)}))


def test_another_ledgers_entries_under_this_ones_name(bundle: Bundle) -> None:
    other = PaperLedger(NOW, name="ledger.example/other")
    with pytest.raises(PeerError):
        verify_bundle(replace(bundle, verifier_key=other.verifier_key))
    with pytest.raises(PeerError):
        verify_bundle(replace(bundle, opened=other.evidence(0)))


def forged_entry(play: Play, index: int, changes: Callable[[LogEntry], LogEntry]) -> bytes:
    """The ledger writes an entry down that the rules do not give, and signs for it."""
    ledger = play.agreed.ledger
    return ledger.evidence(ledger.write(changes(ledger.entries[index])))


def session_effect(**changes: Any) -> Callable[[LogEntry], LogEntry]:
    def change(entry: LogEntry) -> LogEntry:
        return entry.replace(sessions=tuple(effect.replace(**changes) for effect in entry.sessions))

    return change


def effect_of(evidence: bytes | None) -> SessionEffect:
    assert evidence is not None
    return decode(proof(evidence).entry, LogEntry).sessions[0]


def test_an_opening_that_reserved_something_else() -> None:
    play = Play(agree())
    caps = tuple(leg.cap for leg in play.agreed.session.legs)
    for wrong in ({"ceilings": (caps[0], caps[1], caps[2] - 1)}, {"settled": (0, 0, 1)}):
        opened = forged_entry(play, play.agreed.opened, session_effect(**wrong))
        refused(replace(play.bundle(end="open"), opened=opened, settled=opened), "did not reserve the caps")
        play = Play(agree())


def test_an_opening_of_another_session(bundle: Bundle) -> None:
    other = agree(salt=1)
    refused(replace(bundle, opened=other.ledger.evidence(other.opened)), "another session|two different logs")
    refused(replace(bundle, opened=bundle.settled), "another one")


def test_a_session_opened_after_its_expiry() -> None:
    play = Play(agree())
    late = lambda entry: entry.replace(time=play.agreed.session.expiry)  # noqa: E731
    opened = forged_entry(play, play.agreed.opened, late)
    made = play.bundle(end="open")
    refused(replace(made, opened=opened, settled=opened), "had expired")


def test_an_entry_with_fewer_legs_than_the_session() -> None:
    for counts in ({"settled": (7, 7)}, {"ceilings": (7, 7)}, {"settled": (7,) * 4, "ceilings": (7,) * 4}):
        play = Play(agree())
        made = play.bundle(end="open")
        settled = forged_entry(play, len(play.agreed.ledger.entries) - 1, session_effect(**counts))
        refused(replace(made, settled=settled), "another number of legs")


def test_a_voucher_that_was_not_paid_out(honest: Play) -> None:
    play = Play(agree()).run()
    made = play.bundle(end="open")
    full = effect_of(made.settled).settled
    short = forged_entry(play, len(play.agreed.ledger.entries) - 1, session_effect(settled=(*full[:2], full[2] - 1)))
    refused(replace(made, settled=short), "did not settle the voucher for leg 2")


def test_settled_amounts_that_fall() -> None:
    play = Play(agree()).run(generated=3)
    made = play.bundle()
    paid = effect_of(made.released).settled
    fallen = (paid[0] - 1, *paid[1:])
    index = len(play.agreed.ledger.entries) - 1
    refused(replace(made, released=forged_entry(play, index, session_effect(settled=fallen))), "took back what leg 0")


def test_a_ledger_that_pays_a_leg_more_than_its_cap() -> None:
    play = Play(agree()).run()
    made = play.bundle(end="open")
    index = len(play.agreed.ledger.entries) - 1
    caps = tuple(leg.cap for leg in play.agreed.session.legs)
    over = (caps[0] + 1, *caps[1:])
    refused(replace(made, settled=forged_entry(play, index, session_effect(settled=over))), "more than its cap")
    both = session_effect(settled=over, ceilings=over)
    refused(replace(made, settled=forged_entry(play, index, both)), "keeps money that it had released")


@pytest.mark.parametrize("end", ["release", "close"])
def test_a_last_entry_that_keeps_money_back(end: str) -> None:
    play = Play(agree()).run(generated=3)
    made = play.bundle(end=end)
    index = len(play.agreed.ledger.entries) - 1
    ceilings = effect_of(made.released).ceilings
    kept = forged_entry(play, index, session_effect(ceilings=(*ceilings[:2], ceilings[2] + 1)))
    refused(replace(made, released=kept), "keeps money back")


def test_a_session_that_was_closed_before_its_time() -> None:
    play = Play(agree()).run(generated=3)
    made = play.bundle(end="close")
    early = lambda entry: entry.replace(time=NOW + 600)  # noqa: E731
    last = forged_entry(play, len(play.agreed.ledger.entries) - 1, early)
    refused(replace(made, released=last), "closed before its time")


def rewritten(play: Play, action: type[Any], effect: SessionEffect, **fields: Any) -> bytes:
    """An entry that the ledger wrote for an operation which the rules would refuse."""
    ledger = play.agreed.ledger
    made = action(actor=CLIENT.address, nonce=1000, **fields)
    op = sign_op(ledger.domain, CLIENT, made)
    return ledger.evidence(ledger.write(LogEntry(time=ledger.now, op=op, accounts=(), sessions=(effect,), burned=0)))


def test_a_discharge_of_another_leg_or_by_somebody_else() -> None:
    play = Play(agree()).run(generated=3)
    made = play.bundle(end="open")
    before = effect_of(made.settled)
    freed = before.replace(ceilings=(before.ceilings[0], before.settled[1], before.ceilings[2]))
    amount = before.settled[1]
    assert verify_bundle(
        replace(made, released=rewritten(play, Release, freed, discharges=(play.discharge(1, amount),)))
    ).refunded
    for key in (play.agreed.keys[0], CLIENT):
        forged = play.discharge(1, amount, key)
        released = rewritten(play, Release, freed, discharges=(forged,))
        refused(replace(made, released=released), "not signed by its leg", SignatureError)
    nobody = rewritten(play, Release, freed, discharges=(play.discharge(1, amount, leg=3),))
    refused(replace(made, released=nobody), "no leg of it", MalformedError)


def test_a_settlement_by_a_voucher_that_the_client_never_signed() -> None:
    play = Play(agree()).run(generated=3)
    forged = play.voucher(14, STRANGER)
    made = play.bundle(end="open")
    caps = tuple(leg.cap for leg in play.agreed.session.legs)
    effect = effect_of(made.settled).replace(settled=forged.voucher.amounts, ceilings=caps)
    settled = rewritten(play, Settle, effect, vouchers=(forged,))
    refused(replace(made, settled=settled), "not signed by the session's client", SignatureError)


def test_an_entry_that_its_actor_did_not_sign() -> None:
    play = Play(agree())
    made = play.bundle()
    forged = lambda entry: entry.replace(op=entry.op.replace(signature=bytes(63) + b"\x01"))  # noqa: E731
    last = forged_entry(play, len(play.agreed.ledger.entries) - 1, forged)
    with pytest.raises(SignatureError):
        verify_bundle(replace(made, released=last))
