"""Evidence from a contract: calls read as strictly as they are written, and what follows from them."""

from __future__ import annotations

import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_world import CLIENT, MILLION, PROVIDERS, STRANGER, discharge_of, make_session, voucher_of

from node.settlement.contract import settlement_contract
from protocol.chain.chain_evidence import ChainProof, check_chain_proof, check_opening_call
from protocol.chain.contract import Contract
from protocol.chain.contract_calls import (
    close_call,
    fresh,
    marks_of,
    open_call,
    read_call,
    read_marks,
    release_call,
    session_values,
    settle_call,
)
from protocol.chain.rlp import read_rlp, rlp
from protocol.chain.transaction import Transaction, read_transaction
from protocol.encoding.codec import decode, encode
from protocol.errors import DishonestError, JoulemeshError, MalformedError, PeerError
from protocol.identity.ids import Address
from protocol.identity.signing import SigningKey
from protocol.session.messages import session_id
from protocol.settlement import SessionRecord
from protocol.settlement.operations import Close, Open, Release, Settle

CONTRACT = Contract(8453, Address(b"\x77" * 20))
SESSION = make_session()
RECORD = SessionRecord(SESSION, (1, 2, 0), (MILLION, 50, MILLION))


def proof_of(data: bytes, key: SigningKey = CLIENT, **changes: object) -> ChainProof:
    values = {"chain_id": 8453, "nonce": 7, "tip": 1, "max_fee": 2, "gas": 99, "to": CONTRACT.address, "data": data}
    made = Transaction(**{**values, **changes})  # type: ignore[arg-type]
    return ChainProof(
        transaction=made.signed(key), block=5, block_hash=b"\x05" * 32, time=1_800_000_000, inclusion=None
    )


def test_a_contract_is_read_as_it_is_written() -> None:
    assert Contract.parse(str(CONTRACT)) == CONTRACT
    for wrong in ("", "evm:", "evm:1", "evm:01:" + "0x" + "11" * 20, "evm:-1:0x" + "11" * 20, "eth:1:0x" + "11" * 20):
        with pytest.raises(JoulemeshError):
            Contract.parse(wrong)


def test_calls_are_those_of_the_contract() -> None:
    abi = settlement_contract().abi
    legs = [int.from_bytes(leg.provider, "big") << 64 | leg.cap for leg in SESSION.legs]
    said = (SESSION.client, SESSION.expiry, SESSION.terms, SESSION.salt, legs)
    marks = marks_of(RECORD)
    pay, word = voucher_of(CONTRACT.domain, SESSION, 1, 2, 3), discharge_of(CONTRACT.domain, SESSION, 1, 9)
    halves = pay.signature[:32], pay.signature[32:]
    voucher = pay.voucher
    claim = (said, marks, voucher.amounts, voucher.tokens_in, voucher.tokens_out, voucher.receipts, *halves)
    assert open_call(SESSION) == abi.call("open", said)
    assert settle_call([(RECORD, pay)]) == abi.call("settle", [claim])
    packed = b"\1" + (9).to_bytes(8, "big") + word.signature
    assert release_call(RECORD, [word]) == abi.call("release", said, marks + packed)
    assert close_call(RECORD) == abi.call("close", said, marks)


def test_what_a_call_does_follows_from_it() -> None:
    domain, me = CONTRACT.domain, STRANGER.address
    opened = read_call(open_call(SESSION), CLIENT.address, 3)
    assert isinstance(opened.action, Open)
    assert (opened.action.actor, opened.action.nonce, opened.after) == (CLIENT.address, 3, (fresh(SESSION),))
    settled = read_call(settle_call([(RECORD, voucher_of(domain, SESSION, 5, 99, 0))]), me, 0)
    assert isinstance(settled.action, Settle)
    assert settled.of(session_id(SESSION)) == SessionRecord(SESSION, (5, 50, 0), RECORD.ceilings)
    words = [
        discharge_of(domain, SESSION, 0, 7),
        discharge_of(domain, SESSION, 1, 0),
        discharge_of(domain, SESSION, 2, 0),
    ]
    released = read_call(release_call(RECORD, words), me, 0)
    assert isinstance(released.action, Release)
    assert released.of(session_id(SESSION)) == SessionRecord(SESSION, RECORD.settled, (7, 2, 0))
    odd = settlement_contract().abi.call("release", session_values(SESSION), marks_of(RECORD) + bytes(72))
    with pytest.raises(MalformedError, match="not all their bytes"):
        read_call(odd, me, 0)
    closed = read_call(close_call(RECORD), me, 0)
    assert closed.action == Close(actor=me, nonce=0, session=session_id(SESSION))
    assert closed.of(session_id(SESSION)) == SessionRecord(SESSION, RECORD.settled, RECORD.settled)
    assert closed.of(bytes(32)) is None


def test_evidence_is_of_one_contract_and_one_opening() -> None:
    proof = proof_of(open_call(SESSION))
    shown = check_opening_call(encode(proof), SESSION, CONTRACT)
    assert shown.call.action.actor == CLIENT.address
    for lie in (
        proof_of(open_call(make_session(salt=1))),
        proof_of(settle_call([(fresh(SESSION), voucher_of(CONTRACT.domain, SESSION, 1, 2, 3))])),
        proof_of(open_call(SESSION), STRANGER),
        proof_of(open_call(SESSION), chain_id=1),
        proof_of(open_call(SESSION), to=b"\x78" * 20),
        proof_of(open_call(SESSION), to=b""),
    ):
        with pytest.raises(DishonestError):
            check_opening_call(encode(lie), SESSION, CONTRACT)
    for noise in (b"", b"noise", proof.transaction):
        with pytest.raises(PeerError):
            check_opening_call(noise, SESSION, CONTRACT)


def test_a_call_has_one_spelling() -> None:
    data = settle_call([(RECORD, voucher_of(CONTRACT.domain, SESSION, 1, 2, 3))])
    for other in (
        data + bytes(32),
        data[:-32],
        data[:4],
        b"",
        b"\0" * 4 + data[4:],
        data[:4] + bytes(31) + b"\x40" + data[36:],
    ):
        with pytest.raises(MalformedError):
            read_call(other, CLIENT.address, 0)
    spoilt = bytearray(open_call(SESSION))
    spoilt[4 + 32] = 1  # above the client's address
    with pytest.raises(MalformedError):
        read_call(bytes(spoilt), CLIENT.address, 0)


def test_marks_are_those_of_the_session() -> None:
    assert read_marks(SESSION, marks_of(RECORD)) == RECORD
    marks, over = marks_of(RECORD), bytes(7) + b"\x05" + bytes(7) + b"\x04"
    for wrong in (b"", marks[:32], marks[:-1], marks + bytes(16), over + bytes(32)):
        with pytest.raises(MalformedError):
            read_marks(SESSION, wrong)


@given(st.binary(max_size=300), st.integers(0, 299), st.integers(0, 255))
@settings(max_examples=at_length(150), deadline=None)
def test_no_bytes_do_more_than_fail(noise: bytes, place: int, byte: int) -> None:
    whole = bytearray(proof_of(release_call(RECORD, [discharge_of(CONTRACT.domain, SESSION, 1, 9)])).transaction)
    whole[place % len(whole)] = byte
    for data in (noise, bytes(whole)):
        proof = ChainProof(transaction=data or b"\0", block=1, block_hash=bytes(32), time=1, inclusion=None)
        try:
            shown = check_chain_proof(proof, CONTRACT)
        except PeerError:
            continue
        assert shown.call.after
    assert decode(encode(proof), ChainProof) == proof


def test_transactions_are_read_as_they_are_signed() -> None:
    for key in (CLIENT, *PROVIDERS):
        made = Transaction(chain_id=1, nonce=2, tip=3, max_fee=4, gas=5, to=b"\x11" * 20, data=b"six")
        assert read_transaction(made.signed(key)) == (made, key.address)
    signed = made.signed(CLIENT)
    items = read_rlp(signed[1:])
    assert isinstance(items, list)
    for place, value in ((6, b"\1"), (8, [b"\1"]), (5, b"\x11" * 19), (9, b"\2"), (11, b"\xff" * 32), (0, b"\0\1")):
        changed = [*items]
        changed[place] = value
        with pytest.raises(PeerError):
            read_transaction(b"\x02" + rlp(changed))
    for wrong in (b"", b"\x01" + signed[1:], signed + b"\0", signed[:-1]):
        with pytest.raises(PeerError):
            read_transaction(wrong)


ITEMS = st.recursive(st.binary(max_size=80), lambda inner: st.lists(inner, max_size=5), max_leaves=12)


@given(ITEMS, st.binary(max_size=60))
@settings(max_examples=at_length(150), deadline=None)
def test_rlp_has_one_spelling(item: object, noise: bytes) -> None:
    data = rlp(item)  # type: ignore[arg-type]
    try:
        assert read_rlp(data) == item
    except MalformedError:
        assert str(item).count("[") > 7, "only depth is refused"
    try:
        found = read_rlp(noise)
    except MalformedError:
        return
    assert rlp(found) == noise
