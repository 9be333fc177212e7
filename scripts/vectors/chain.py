"""Write tests/vectors/chain.json: evidence from a settlement contract, and what is none (docs/spec/contract.md, K7).

    python -m scripts.vectors.chain

The keys are made for this and hold nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from protocol.chain.chain_evidence import ChainProof, check_chain_proof
from protocol.chain.contract import Contract
from protocol.chain.contract_calls import close_call, fresh, open_call, release_call, settle_call
from protocol.chain.rlp import Item, read_rlp, rlp
from protocol.chain.transaction import Transaction
from protocol.encoding.codec import encode
from protocol.errors import PeerError
from protocol.identity.ids import Address
from protocol.identity.signing import SigningKey
from protocol.session.messages import (
    Discharge,
    Leg,
    Session,
    SignedVoucher,
    Voucher,
    session_id,
    sign_discharge,
    sign_voucher,
)
from protocol.settlement import SessionRecord

PAGE = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "chain.json"
CONTRACT = Contract(8453, Address(b"\x77" * 20))
CLIENT, ONE, OTHER = (SigningKey(bytes([each]) * 32) for each in (2, 16, 17))
SESSION = Session(
    client=CLIENT.address,
    expiry=1_800_000_600,
    terms=b"\x11" * 32,
    salt=b"\x22" * 32,
    legs=(Leg(provider=ONE.address, cap=1_000), Leg(provider=OTHER.address, cap=500)),
)
SECOND = SESSION.replace(salt=b"\x33" * 32)
STANDS = SessionRecord(SESSION, (10, 0), (1_000, 400))


def voucher(session: Session, *amounts: int) -> SignedVoucher:
    """The client's, for so many tokens as it has legs."""
    said = Voucher(session=session_id(session), amounts=amounts, tokens_in=3, tokens_out=4, receipts=bytes(32))
    return sign_voucher(CONTRACT.domain, said, CLIENT)


def sent(data: bytes, key: SigningKey = ONE, **changes: Any) -> bytes:
    """A signed transaction with this data."""
    values = {"chain_id": 8453, "nonce": 7, "tip": 1, "max_fee": 2 * 10**9, "gas": 200_000, "to": CONTRACT.address}
    return Transaction(**{**values, "data": data, **changes}).signed(key)


def changed(signed: bytes, place: int, value: Item) -> bytes:
    """The same with another field."""
    items = read_rlp(signed[1:])
    if isinstance(items, (bytes, int)):
        raise TypeError("a transaction is a list")
    fields = [*items]
    fields[place] = value
    return signed[:1] + rlp(fields)


def calls() -> Iterator[tuple[str, bytes]]:
    """Transactions, by what they are."""
    words = [
        sign_discharge(CONTRACT.domain, Discharge(session=session_id(SESSION), leg=leg, amount=amount), key)
        for leg, amount, key in ((0, 20, ONE), (1, 0, OTHER))
    ]
    opening, settling = open_call(SESSION), settle_call([(STANDS, voucher(SESSION, 30, 450))])
    two = [(STANDS, voucher(SESSION, 5, 6)), (fresh(SECOND), voucher(SECOND, 1_000, 500))]
    whole = sent(settling)
    yield "open by the client", sent(opening, CLIENT)
    yield "settle, one amount above its ceiling", whole
    yield "settle two sessions, the first amount below what was paid", sent(settle_call(two))
    yield "release two legs", sent(release_call(STANDS, words), OTHER)
    yield "close", sent(close_call(STANDS), OTHER, nonce=0)
    yield "of another chain", sent(opening, CLIENT, chain_id=1)
    yield "to another contract", sent(opening, CLIENT, to=b"\x78" * 20)
    yield "of another type", b"\x01" + whole[1:]
    yield "with coin", changed(whole, 6, b"\x01")
    yield "with an access list", changed(whole, 8, [[b"\x78" * 20, []]])
    yield "with a number that begins with zero", changed(whole, 1, b"\x00\x07")
    yield "with s in the upper half", changed(whole, 11, b"\xff" * 32)
    yield "with bytes behind it", whole + b"\x00"
    yield "with bytes behind the call", sent(settling + bytes(32))
    yield "with an offset that leads elsewhere", sent(settling[:35] + b"\x40" + settling[36:])
    yield "of a function that is about no session", sent(b"\x00" * 4 + settling[4:])
    yield "with a mark above its ceiling", sent(close_call(SessionRecord(SESSION, (11, 0), (10, 400))))
    yield "with marks of another number of legs", sent(close_call(SessionRecord(SESSION, (1,), (10,))))
    yield "with nine claims", sent(settle_call([two[0]] * 9))
    yield "with a cut-off call", sent(settling[:-32])


def case(name: str, transaction: bytes) -> dict[str, Any]:
    """As it stands in the file."""
    proof = ChainProof(transaction=transaction, block=5, block_hash=b"\x05" * 32, time=1_800_000_000, inclusion=None)
    said = {"name": name, "evidence": encode(proof).hex()}
    try:
        shown = check_chain_proof(proof, CONTRACT)
    except PeerError as error:
        return {**said, "error": error.code}
    action = shown.call.action
    sessions = [
        {
            "session": session_id(each.session).hex(),
            "settled": list(map(str, each.settled)),
            "ceilings": list(map(str, each.ceilings)),
        }
        for each in shown.call.after
    ]
    return {**said, "transaction": shown.transaction.hex(), "action": encode(action).hex(), "sessions": sessions}


def document() -> dict[str, Any]:
    """All of the file."""
    about = "chain-proof/1 for one contract: what each stands for, or that it is none. Amounts are text."
    return {"about": about, "contract": str(CONTRACT), "cases": [case(*each) for each in calls()]}


if __name__ == "__main__":
    PAGE.write_text(json.dumps(document(), indent=1) + "\n")
