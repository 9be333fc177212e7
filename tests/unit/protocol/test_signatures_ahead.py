"""Signers that were found before a rule asks for them: all that it asks for, and nothing that is not so."""

from __future__ import annotations

import msgpack
import pytest
from ledger_world import (
    CLIENT,
    MILLION,
    OPERATOR,
    PROVIDERS,
    STRANGER,
    checkpoint_of,
    equivocation,
    make_session,
    notice,
    open_session,
    receipt_of,
    release,
    settle_all,
    slash,
    stake,
    unstake,
    voucher_of,
    withdraw,
)
from ruled_ledger import DOMAIN, SESSION, RuledLedger

from protocol.encoding.codec import Message, encode
from protocol.errors import SignatureError
from protocol.identity.eip712 import Domain, Recover, recover_typed, sign_typed
from protocol.identity.ids import Address
from protocol.settlement import Books, glance, ledger_domain, outcome_as_written, replay
from protocol.settlement import signatures as room
from protocol.settlement.operations import ACTIONS, Close, SignedOp, Unbond, sign_op
from protocol.settlement.signatures import NOBODY, KnownSigners, signatures_in, signers_of


def busy_ledger() -> RuledLedger:
    """One whose log has operations of nearly every kind."""
    ledger = RuledLedger()
    other = make_session(STRANGER, salt=7, cap=30)
    ledger.do(CLIENT, open_session(other, sign_typed(DOMAIN, other, STRANGER)))
    vouchers = voucher_of(DOMAIN, SESSION, 5, 6, 7), voucher_of(DOMAIN, other, 1, 1, 1, key=STRANGER)
    ledger.do(PROVIDERS[0], settle_all(*vouchers))
    ledger.do(CLIENT, release(DOMAIN, SESSION, [5, 6, 7]))
    ledger.do(PROVIDERS[0], stake(1000))
    ledger.do(PROVIDERS[0], unstake(10))
    ledger.do(STRANGER, slash(receipt_of(DOMAIN, SESSION), receipt_of(DOMAIN, SESSION, rows=99)))
    ledger.do(OPERATOR, notice(ledger.now + 300))
    ledger.do(PROVIDERS[1], stake(1000))
    two = (checkpoint_of(DOMAIN, PROVIDERS[1]), checkpoint_of(DOMAIN, PROVIDERS[1], root=b"\x89" * 32))
    ledger.do(STRANGER, equivocation(DOMAIN, *two))
    ledger.do(CLIENT, withdraw(3))
    return ledger


def spied(signers: KnownSigners, asked: list[tuple[bytes, Address]]) -> Recover:
    def recover(domain: Domain, value: Message, signature: bytes) -> Address:
        asked.append((signature, signers(domain, value, signature)))
        return asked[-1][1]

    return recover


def test_every_signature_that_a_rule_asks_for_is_known() -> None:
    ledger = busy_ledger()
    kinds = {type(entry.op.read()) for entry in ledger.log}
    assert kinds >= set(ACTIONS) - {Close, Unbond}  # these carry none but their actor's
    for known in (True, False):
        books, asked = Books(), list[tuple[bytes, Address]]()
        for entry in ledger.log:
            signers = KnownSigners(DOMAIN)
            if known:
                signers.learn(entry.op, signers_of(DOMAIN, entry.op))

            replay(books, DOMAIN, entry, spied(signers, asked))
        carried = [
            (signature, recover_typed(DOMAIN, value, signature))
            for entry in ledger.log
            for value, signature in signatures_in(entry.op)
        ]
        assert asked == carried
        assert books == ledger.books


def test_what_was_learned_is_not_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    signers = KnownSigners(DOMAIN)
    signed = busy_ledger().log[-1].op
    signers.learn(signed, signers_of(DOMAIN, signed))
    monkeypatch.setattr(room, "recover_typed", lambda *_: pytest.fail("it was looked for again"))
    assert signers(DOMAIN, signed.read(), signed.signature) == CLIENT.address


def withdrawal(amount: int) -> SignedOp:
    return sign_op(DOMAIN, CLIENT, withdraw(amount).replace(actor=CLIENT.address, nonce=9))


def test_a_signer_is_known_of_one_statement_for_one_ledger() -> None:
    one, other = withdrawal(1), withdrawal(2)
    for domain, said, signature in (
        (DOMAIN, other, one.signature),
        (DOMAIN, one, other.signature),
        (ledger_domain("other+00000000+AA=="), one, one.signature),
    ):
        signers = KnownSigners(DOMAIN)
        signers.learn(one, [CLIENT.address])
        assert signers(domain, said.read(), signature) != CLIENT.address


def test_what_nobody_signed_is_refused_as_before() -> None:
    forged = withdrawal(1).replace(signature=bytes(64))
    assert signers_of(DOMAIN, forged) == [NOBODY]
    signers = KnownSigners(DOMAIN)
    signers.learn(forged, [NOBODY])
    with pytest.raises(SignatureError):
        signers(DOMAIN, forged.read(), forged.signature)


def test_of_what_was_found_each_operation_takes_its_own() -> None:
    found = iter([CLIENT.address, STRANGER.address])
    signers, one, other = KnownSigners(DOMAIN), withdrawal(1), withdrawal(2)
    signers.learn(one, found)
    assert len(signers) == 1
    signers.learn(other, found)
    assert signers(DOMAIN, other.read(), other.signature) == STRANGER.address


def test_few_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KnownSigners, "MOST", 2)
    signers = KnownSigners(DOMAIN)
    operations = [withdrawal(amount) for amount in range(1, 6)]
    liar = Address(b"\x09" * 20)
    for each in operations:
        signers.learn(each, [liar])
    told = [signers(DOMAIN, each.read(), each.signature) for each in operations]
    assert told == [CLIENT.address] * 3 + [liar] * 2


def test_money_is_what_it_was() -> None:
    """The signers of a whole log at once, as a replay has them."""
    ledger, books = busy_ledger(), Books()
    signers = KnownSigners(DOMAIN)
    for entry in ledger.log:
        signers.learn(entry.op, signers_of(DOMAIN, entry.op))
    for entry in ledger.log:
        replay(books, DOMAIN, entry, signers)
    assert books.total() == 5 * MILLION - 3 - books.burned


def test_an_entry_is_what_the_rules_write_or_is_read() -> None:
    """Whatever bit of it is another: then the slow way says why, and nothing has changed."""
    ledger, books = busy_ledger(), Books()
    for number, entry in enumerate(ledger.log):
        data = encode(entry)
        for place in range(number % 7, len(data), 97):
            other = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            assert outcome_as_written(books, DOMAIN, other, glance(other)) is None, (number, place)
        assert outcome_as_written(books, DOMAIN, data + b"\0", glance(data + b"\0")) is None
        outcome = outcome_as_written(books, DOMAIN, data, glance(data))
        assert outcome is not None
        assert outcome.entry == entry
        books.record(outcome)
    assert books == ledger.books
    for odd in (b"", b"\xc0", encode(ledger.log[0].op), msgpack.packb(["entry/2", True, [b"", b""], [], [], 0])):
        assert glance(odd) is None
