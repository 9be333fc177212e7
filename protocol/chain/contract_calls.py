"""Calls of the settlement contract as operations of the settlement rules, in both directions.

A call carries whole sessions, and their marks as they stood before: so what it does to them follows from the call alone
(docs/spec/contract.md, clause K7).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from protocol.chain.abi import decode_all, encode_all, types_of
from protocol.errors import InvalidError, MalformedError
from protocol.identity.ids import Address, keccak256
from protocol.session.messages import (
    Discharge,
    Leg,
    Session,
    SignedDischarge,
    SignedVoucher,
    Voucher,
    session_id,
)
from protocol.settlement import SessionRecord
from protocol.settlement.operations import Action, Close, Open, Release, Settle

__all__ = [
    "ContractCall",
    "close_call",
    "fresh",
    "marks_hash",
    "marks_of",
    "open_call",
    "read_call",
    "read_marks",
    "release_call",
    "session_values",
    "settle_call",
]

_SESSION = "(address,uint40,bytes32,bytes32,uint224[])"
_SIGNATURES = {
    "open": f"open({_SESSION})",
    "openFor": f"openFor({_SESSION},(bytes32,bytes32))",
    "settle": f"settle(({_SESSION},bytes,uint64[],uint64,uint64,bytes32,bytes32,bytes32)[])",
    "release": f"release({_SESSION},bytes)",
    "close": f"close({_SESSION},bytes)",
}
_TYPES = {name: types_of(signature) for name, signature in _SIGNATURES.items()}
_SELECTORS = {keccak256(signature.encode())[:4]: name for name, signature in _SIGNATURES.items()}
_BY_NAME = {name: selector for selector, name in _SELECTORS.items()}
_WORD = 32
_MARK = 16
_AMOUNT_BITS = 64
_DISCHARGE = struct.Struct(">BQ")
"""Leg and amount, before the signature."""
_DISCHARGE_BYTES = _DISCHARGE.size + 2 * _WORD


@dataclass(frozen=True, slots=True)
class ContractCall:
    """What a call asks for, and what it makes of each session in it if the contract takes it."""

    action: Action
    """Its actor and nonce are those of the transaction; it stands for what the ledger would have been sent."""
    after: tuple[SessionRecord, ...]
    """Each session in the call, once, as the call leaves it."""

    def of(self, session: bytes) -> SessionRecord | None:
        """What becomes of one session; None where the call is not about it."""
        return next((each for each in self.after if session_id(each.session) == session), None)


# Marks (K3)


def marks_of(record: SessionRecord) -> bytes:
    """16 bytes for each leg: what it was paid, and its ceiling."""
    pairs = zip(record.settled, record.ceilings, strict=True)
    return b"".join((paid << _AMOUNT_BITS | ceiling).to_bytes(_MARK, "big") for paid, ceiling in pairs)


def read_marks(session: Session, marks: bytes) -> SessionRecord:
    """A session with these marks. Raises MalformedError where they are none of it."""
    if len(marks) != _MARK * len(session.legs):
        raise MalformedError("marks of another number of legs than the session has")
    numbers = [int.from_bytes(marks[at : at + _MARK // 2], "big") for at in range(0, len(marks), _MARK // 2)]
    settled, ceilings = tuple(numbers[::2]), tuple(numbers[1::2])
    if any(paid > ceiling for paid, ceiling in zip(settled, ceilings, strict=True)):
        raise MalformedError("marks that no session like this has")
    return SessionRecord(session, settled, ceilings)


def marks_hash(record: SessionRecord) -> bytes:
    """What the contract stores of a session that is open."""
    return keccak256(marks_of(record))


def fresh(session: Session) -> SessionRecord:
    """A session as it opens."""
    return SessionRecord(session, (0,) * len(session.legs), tuple(leg.cap for leg in session.legs))


# Calls, written


def open_call(session: Session) -> bytes:
    """The data of a transaction by which a session's client opens it."""
    return _call("open", session_values(session))


def settle_call(claims: Iterable[tuple[SessionRecord, SignedVoucher]]) -> bytes:
    """The data of one that redeems vouchers of sessions that stand so."""
    return _call("settle", [_claim(record, pay) for record, pay in claims])


def release_call(record: SessionRecord, discharges: Iterable[SignedDischarge]) -> bytes:
    """The data of one that shows the discharges of a session that stands so."""
    said = b"".join(_DISCHARGE.pack(each.discharge.leg, each.discharge.amount) + each.signature for each in discharges)
    return _call("release", session_values(record.session), marks_of(record) + said)


def close_call(record: SessionRecord) -> bytes:
    """The data of one that closes a session that stands so."""
    return _call("close", session_values(record.session), marks_of(record))


def _call(name: str, *values: Any) -> bytes:
    return _BY_NAME[name] + encode_all(_TYPES[name], values)


def session_values(session: Session) -> tuple[Any, ...]:
    """A session as the contract's functions take it."""
    legs = [int.from_bytes(leg.provider, "big") << _AMOUNT_BITS | leg.cap for leg in session.legs]
    return session.client, session.expiry, session.terms, session.salt, legs


def _claim(record: SessionRecord, pay: SignedVoucher) -> tuple[Any, ...]:
    voucher = pay.voucher
    counts = voucher.tokens_in, voucher.tokens_out, voucher.receipts
    return session_values(record.session), marks_of(record), voucher.amounts, *counts, *_split(pay.signature)


def _split(signature: bytes) -> tuple[bytes, bytes]:
    return signature[:_WORD], signature[_WORD:]


# Calls, read


def read_call(data: bytes, actor: Address, nonce: int) -> ContractCall:
    """What a transaction with this data asks of the contract.

    Args:
        actor: who sent it.
        nonce: its number among the actor's.

    Raises MalformedError: it is no call about sessions, or not in its one spelling.
    """
    name = _SELECTORS.get(data[:4], "")
    if not name:
        raise MalformedError("a transaction that calls nothing about sessions")
    values = decode_all(_TYPES[name], data[4:])
    try:
        if _call(name, *values) != data:
            raise MalformedError("a call of the contract that is not in its one spelling")
        return _READERS[name](actor, nonce, *values)
    except (InvalidError, OverflowError) as error:
        raise MalformedError(f"a call of the contract with what no message allows: {error}") from None


def _read_open(actor: Address, nonce: int, said: Any, signature: tuple[bytes, ...] = ()) -> ContractCall:
    session = _read_session(said)
    action = Open(actor=actor, nonce=nonce, session=session, signature=b"".join(signature))
    return ContractCall(action, (fresh(session),))


def _read_settle(actor: Address, nonce: int, claims: Sequence[Any]) -> ContractCall:
    after: dict[bytes, SessionRecord] = {}
    vouchers = []
    for said, marks, amounts, tokens_in, tokens_out, receipts, r, vs in claims:
        before = read_marks(_read_session(said), marks)
        identity = session_id(before.session)
        voucher = Voucher(
            session=identity, amounts=tuple(amounts), tokens_in=tokens_in, tokens_out=tokens_out, receipts=receipts
        )
        vouchers.append(SignedVoucher(voucher=voucher, signature=r + vs))
        if len(amounts) != len(before.settled):
            raise MalformedError("a claim for another number of legs")
        reached = zip(before.settled, before.ceilings, amounts, strict=True)
        paid = tuple(max(settled, min(ceiling, amount)) for settled, ceiling, amount in reached)
        after[identity] = SessionRecord(before.session, paid, before.ceilings)
    return ContractCall(Settle(actor=actor, nonce=nonce, vouchers=tuple(vouchers)), tuple(after.values()))


def _read_release(actor: Address, nonce: int, said: Any, marks_and_words: bytes) -> ContractCall:
    session = _read_session(said)
    width = _MARK * len(session.legs)
    before, words = read_marks(session, marks_and_words[:width]), marks_and_words[width:]
    identity, ceilings = session_id(before.session), list(before.ceilings)
    discharges = []
    if len(words) % _DISCHARGE_BYTES:
        raise MalformedError("discharges that have not all their bytes")
    for at in range(0, len(words), _DISCHARGE_BYTES):
        leg, amount = _DISCHARGE.unpack_from(words, at)
        signature = words[at + _DISCHARGE.size : at + _DISCHARGE_BYTES]
        discharge = Discharge(session=identity, leg=leg, amount=amount)
        discharges.append(SignedDischarge(discharge=discharge, signature=signature))
        if leg >= len(ceilings):
            raise MalformedError("a discharge of a leg that the session does not have")
        ceilings[leg] = min(ceilings[leg], max(before.settled[leg], amount))
    after = SessionRecord(before.session, before.settled, tuple(ceilings))
    return ContractCall(Release(actor=actor, nonce=nonce, discharges=tuple(discharges)), (after,))


def _read_close(actor: Address, nonce: int, said: Any, marks: bytes) -> ContractCall:
    before = read_marks(_read_session(said), marks)
    after = SessionRecord(before.session, before.settled, before.settled)
    return ContractCall(Close(actor=actor, nonce=nonce, session=session_id(before.session)), (after,))


def _read_session(said: Any) -> Session:
    client, expiry, terms, salt, legs = said
    parties = tuple(_read_leg(each.to_bytes(_WORD, "big")) for each in legs)
    return Session(client=client, expiry=expiry, terms=terms, salt=salt, legs=parties)


def _read_leg(word: bytes) -> Leg:
    if any(word[:4]):
        raise MalformedError("a leg with more than a provider and a cap")
    return Leg(provider=Address(word[4:24]), cap=int.from_bytes(word[24:], "big"))


_READERS: dict[str, Callable[..., ContractCall]] = {
    "open": _read_open,
    "openFor": _read_open,
    "settle": _read_settle,
    "release": _read_release,
    "close": _read_close,
}
