"""The settlement rules as cases: a state, an operation in full bytes, and the state after it or the code of the rule.

    python -m scripts.vectors.settlement [--check]

writes tests/vectors/settlement.json. Keys are fixed secrets, and signatures follow from them (RFC 6979), so the file is
the same on every machine. Each case stands by itself, so another implementation needs nothing but the file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.codec import encode
from protocol.eip712 import encode_type, sign_typed, struct_hash, typed_digest
from protocol.errors import PeerError, RuleError
from protocol.messages import (
    Discharge,
    Leg,
    Session,
    SignedDischarge,
    SignedReceipt,
    SignedVoucher,
    Voucher,
    session_id,
    sign_discharge,
    sign_voucher,
)
from protocol.note import NoteKey
from protocol.operations import (
    Action,
    Close,
    Deposit,
    Genesis,
    Open,
    Release,
    Settle,
    SignedOp,
    Stake,
    Unbond,
    Unstake,
    Withdraw,
    sign_op,
)
from protocol.settlement import MAX_MONEY, MAX_SESSION_S, Account, Books, Rules, SessionRecord, apply, ledger_domain
from protocol.signing import SigningKey
from scripts.vectors.books import state_of
from scripts.vectors.kept import keep
from scripts.vectors.lies import accusing, checkpoint_of, receipt_of, showing

__all__ = ["FILE", "document"]

FILE = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "settlement.json"
LOG_KEY = NoteKey("ledger.example/settlement", b"\x04" * 32)
VERIFIER_KEY = str(LOG_KEY.verifier)
DOMAIN, OTHER = ledger_domain(VERIFIER_KEY), ledger_domain("another ledger")
NAMES = ("operator", "client", "stranger", "broke", "leg 0", "leg 1", "leg 2")
SECRETS = {name: bytes([number]) * 32 for number, name in enumerate(NAMES, 1)}
KEYS = {name: SigningKey(secret) for name, secret in SECRETS.items()}
LEGS = tuple(KEYS[f"leg {number}"] for number in range(3))
NOW, EXPIRY, GRACE_S, FEE, CAP = 1_800_000_000, 1_800_000_600, 3_600, 2, 1_000
UNBONDING_S, NOTICE_S = 1_000, 500
RULES = Rules(
    operator=KEYS["operator"].address,
    verifier_key=VERIFIER_KEY,
    grace_s=GRACE_S,
    unbonding_s=UNBONDING_S,
    notice_s=NOTICE_S,
    faucet_limit=10**12,
    fee=FEE,
    bond_multiple=0,
)
NOBODY = bytes(20)
ABOUT = (
    "Cases for docs/spec/settlement.md, each on one of the states; written by scripts/vectors/settlement.py. "
    "Byte strings are hexadecimal, "
    "micro-units and nonces are text. An operation that is accepted gives this very entry, which names every account "
    "and session that it changed; one that is refused changes nothing."
)


def nothing() -> Books:
    """Before the genesis."""
    return Books()


def mid_life() -> Books:
    """Everybody but one has money; one session is open, in part settled and released, another one is closed."""
    books = Books(rules=RULES)
    for name, key in KEYS.items():
        books.accounts[key.address] = Account(0 if name == "broke" else 10_000, 7)
    open_, closed = session_of(0), session_of(1)
    books.sessions[session_id(open_)] = SessionRecord(open_, (100, 50, 0), (CAP, CAP, 400))
    books.sessions[session_id(closed)] = SessionRecord(closed, (5, 6, 7), (5, 6, 7))
    return books


def spent() -> Books:
    """As `mid_life`, and leg 0 has nothing."""
    books = mid_life()
    books.accounts[LEGS[0].address] = Account(0, 7)
    return books


def staked() -> Books:
    """As `mid_life`; leg 1 has something at stake, and leg 2 also something on its way out."""
    books = mid_life()
    books.accounts[LEGS[1].address] = Account(free=10_000, nonce=7, bond=501)
    books.accounts[LEGS[2].address] = Account(free=10_000, nonce=7, bond=300, unbonding=200, unlock_at=NOW + 10)
    books.accounts[KEYS["operator"].address] = Account(free=10_000, nonce=7, bond=1)
    return books


STATES: dict[str, Callable[[], Books]] = {
    "nothing": nothing,
    "mid-life": mid_life,
    "spent": spent,
    "staked": staked,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One operation on one state."""

    name: str
    by: str
    action: Action
    now: int = NOW
    nonce: int = 8
    state: str = "mid-life"
    signed: SignedOp | None = None
    """Where it is not what `by` signs for this ledger."""


def session_of(salt: int, *, cap: int = CAP, expiry: int = EXPIRY, client: str = "client") -> Session:
    legs = tuple(Leg(provider=key.address, cap=cap) for key in LEGS)
    return Session(
        client=KEYS[client].address, expiry=expiry, terms=b"\x11" * 32, salt=salt.to_bytes(32, "big"), legs=legs
    )


def voucher_of(*amounts: int, salt: int = 0, by: str = "client", domain: Any = DOMAIN) -> SignedVoucher:
    voucher = Voucher(
        session=session_id(session_of(salt)), amounts=amounts, tokens_in=9, tokens_out=3, receipts=b"\x22" * 32
    )
    return sign_voucher(domain, voucher, KEYS[by])


def discharge_of(
    leg: int, amount: int, *, salt: int = 0, by: str | None = None, domain: Any = DOMAIN
) -> SignedDischarge:
    discharge = Discharge(session=session_id(session_of(salt)), leg=leg, amount=amount)
    return sign_discharge(domain, discharge, KEYS[by or f"leg {leg}"])


def opening(session: Session, signature: bytes = b"") -> Open:
    return Open(actor=NOBODY, nonce=0, session=session, signature=signature)


def settling(*vouchers: SignedVoucher) -> Settle:
    return Settle(actor=NOBODY, nonce=0, vouchers=vouchers)


def releasing(*discharges: SignedDischarge) -> Release:
    return Release(actor=NOBODY, nonce=0, discharges=discharges)


def closing(salt: int = 0) -> Close:
    return Close(actor=NOBODY, nonce=0, session=session_id(session_of(salt)))


def withdrawing(amount: int) -> Withdraw:
    return Withdraw(actor=NOBODY, nonce=0, amount=amount, reference="home")


def depositing(amount: int, to: str = "client") -> Deposit:
    return Deposit(actor=NOBODY, nonce=0, account=KEYS[to].address, amount=amount, reference="bank transfer 17")


def beginning(**changes: Any) -> Genesis:
    rules = {
        "verifier_key": VERIFIER_KEY,
        "grace": GRACE_S,
        "faucet_limit": 10**12,
        "fee": FEE,
        "unbonding": UNBONDING_S,
        "notice": NOTICE_S,
        "bond_multiple": 0,
        **changes,
    }
    return Genesis(actor=NOBODY, nonce=0, **rules)


def signed_by(key: str, action: Action, *, actor: str, nonce: int = 8, domain: Any = DOMAIN) -> SignedOp:
    return sign_op(domain, KEYS[key], action.replace(actor=KEYS[actor].address, nonce=nonce))


def cases() -> list[Case]:
    """Every rule beside what it allows."""
    return [
        *_genesis(),
        *_signatures(),
        *_money(),
        *_open(),
        *_settle(),
        *_release(),
        *_close(),
        *_stake(),
        *_slash(),
        *_equivocation(),
        *_fee(),
    ]


def _genesis() -> list[Case]:
    return [
        Case(name="a ledger begins", by="operator", action=beginning(), state="nothing", nonce=1),
        Case(name="with a fee of zero", by="operator", action=beginning(fee=0), state="nothing", nonce=1),
        Case(name="another ledger's key", by="operator", action=beginning(verifier_key="x"), state="nothing", nonce=1),
        Case(name="a second genesis", by="operator", action=beginning()),
        Case(name="anything before the genesis", by="operator", action=depositing(5), state="nothing", nonce=1),
    ]


def _signatures() -> list[Case]:
    good = withdrawing(5)
    swapped = signed_by("client", good, actor="client")
    other = encode(good.replace(actor=KEYS["client"].address, nonce=9))
    return [
        Case(name="the actor's signature", by="client", action=good),
        Case(name="a nonce may leave a gap", by="client", action=good, nonce=700),
        Case(name="the last nonce again", by="client", action=good, nonce=7),
        Case(name="a nonce below", by="client", action=good, nonce=6),
        Case(name="signed by another", by="client", action=good, signed=signed_by("stranger", good, actor="client")),
        Case(
            name="signed for another ledger",
            by="client",
            action=good,
            signed=signed_by("client", good, actor="client", domain=OTHER),
        ),
        Case(name="changed after signing", by="client", action=good, signed=swapped.replace(action=other)),
        Case(name="no signature", by="client", action=good, signed=swapped.replace(signature=bytes(64))),
        Case(name="no operation", by="client", action=good, signed=swapped.replace(action=encode(session_of(0)))),
    ]


def _money() -> list[Case]:
    return [
        Case(name="the operator deposits", by="operator", action=depositing(5)),
        Case(name="a deposit of nothing", by="operator", action=depositing(0)),
        Case(name="a deposit by another", by="client", action=depositing(5)),
        Case(name="a deposit to the last unit that counts", by="operator", action=depositing(MAX_MONEY - 10_000)),
        Case(name="a deposit of one more", by="operator", action=depositing(MAX_MONEY - 9_999)),
        Case(name="all but the fee goes out", by="client", action=withdrawing(10_000 - FEE)),
        Case(name="one more goes out", by="client", action=withdrawing(10_001 - FEE)),
        Case(name="nothing goes out", by="client", action=withdrawing(0)),
        Case(name="the operator withdraws free of charge", by="operator", action=withdrawing(10_000)),
    ]


def _open() -> list[Case]:
    session = session_of(2)
    by_client = sign_typed(DOMAIN, session, KEYS["client"])
    edges = {"at its expiry": NOW, "a second before its expiry": NOW + 1, "90 days ahead": NOW + MAX_SESSION_S,
             "more than 90 days ahead": NOW + MAX_SESSION_S + 1}  # fmt: skip
    rich = session.replace(legs=(Leg(provider=LEGS[0].address, cap=10_000 - FEE),))
    return [
        Case(name="the client opens", by="client", action=opening(session)),
        Case(name="the client opens with a second signature", by="client", action=opening(session, by_client)),
        Case(name="another opens for the client", by="stranger", action=opening(session, by_client)),
        Case(name="another opens without the client", by="stranger", action=opening(session)),
        Case(
            name="another opens with its own signature",
            by="stranger",
            action=opening(session, sign_typed(DOMAIN, session, KEYS["stranger"])),
        ),
        Case(
            name="another opens with a signature for another ledger",
            by="stranger",
            action=opening(session, sign_typed(OTHER, session, KEYS["client"])),
        ),
        *(
            Case(name=f"opened {name}", by="client", action=opening(session.replace(expiry=expiry)))
            for name, expiry in edges.items()
        ),
        Case(name="a session that is open", by="client", action=opening(session_of(0))),
        Case(name="a session that is closed", by="client", action=opening(session_of(1))),
        Case(name="caps of zero", by="client", action=opening(session_of(2, cap=0))),
        Case(name="caps and fee are all that is there", by="client", action=opening(rich)),
        Case(
            name="caps and fee are one more",
            by="client",
            action=opening(rich.replace(legs=(Leg(provider=LEGS[0].address, cap=10_001 - FEE),))),
        ),
    ]


def _settle() -> list[Case]:
    end = EXPIRY + GRACE_S
    good = settling(voucher_of(200, 60, 10))
    return [
        Case(name="every leg earns more", by="leg 0", action=good),
        Case(name="anybody settles", by="stranger", action=good),
        Case(name="one rises, one falls", by="leg 1", action=settling(voucher_of(10, 70, 0))),
        Case(name="nothing rises", by="leg 0", action=settling(voucher_of(100, 50, 0))),
        Case(name="all are below", by="leg 0", action=settling(voucher_of(99, 49, 0))),
        Case(name="to the cap", by="leg 0", action=settling(voucher_of(CAP, CAP, 400))),
        Case(name="above a cap", by="leg 0", action=settling(voucher_of(CAP + 1, CAP, 400))),
        Case(name="above what was discharged", by="leg 2", action=settling(voucher_of(0, 0, 500))),
        Case(name="too few amounts", by="leg 0", action=settling(voucher_of(200, 60))),
        Case(name="too many amounts", by="leg 0", action=settling(voucher_of(200, 60, 10, 1))),
        Case(name="signed by a leg", by="leg 0", action=settling(voucher_of(200, 60, 10, by="leg 0"))),
        Case(name="for another ledger", by="leg 0", action=settling(voucher_of(200, 60, 10, domain=OTHER))),
        Case(name="an unknown session", by="leg 0", action=settling(voucher_of(200, 60, 10, salt=9))),
        Case(name="a closed session", by="leg 0", action=settling(voucher_of(200, 60, 10, salt=1))),
        Case(
            name="two vouchers of one session", by="leg 0", action=settling(voucher_of(200, 0, 0), voucher_of(0, 60, 0))
        ),
        Case(name="one of two is refused", by="leg 0", action=settling(voucher_of(200, 0, 0), voucher_of(200, 0, 0))),
        Case(name="at expiry", by="leg 0", action=good, now=EXPIRY),
        Case(name="after expiry", by="leg 0", action=good, now=EXPIRY + 1),
        Case(name="when the grace ends", by="leg 0", action=good, now=end),
        Case(name="after the grace", by="leg 0", action=good, now=end + 1),
    ]


def _release() -> list[Case]:
    return [
        Case(name="one leg is enough", by="client", action=releasing(discharge_of(1, 50))),
        Case(name="anybody releases", by="stranger", action=releasing(discharge_of(0, 300))),
        Case(name="all legs, which closes", by="client", action=releasing(*(discharge_of(n, 0) for n in range(3)))),
        Case(name="below what is settled", by="client", action=releasing(discharge_of(0, 0))),
        Case(name="what is held already", by="client", action=releasing(discharge_of(2, 400))),
        Case(name="more than the cap", by="client", action=releasing(discharge_of(0, CAP + 1))),
        Case(name="no such leg", by="client", action=releasing(discharge_of(3, 0, by="leg 0"))),
        Case(name="another leg's word", by="client", action=releasing(discharge_of(0, 0, by="leg 1"))),
        Case(name="the client's word", by="client", action=releasing(discharge_of(0, 0, by="client"))),
        Case(name="a word for another ledger", by="client", action=releasing(discharge_of(0, 0, domain=OTHER))),
        Case(name="released from an unknown session", by="client", action=releasing(discharge_of(0, 0, salt=9))),
        Case(name="released from a closed session", by="client", action=releasing(discharge_of(0, 0, salt=1))),
        Case(name="one word twice", by="client", action=releasing(discharge_of(1, 50), discharge_of(1, 50))),
        Case(name="released after the grace", by="client", action=releasing(discharge_of(1, 50)), now=EXPIRY + 10**5),
    ]


def _close() -> list[Case]:
    end = EXPIRY + GRACE_S
    return [
        Case(name="closed after the grace", by="stranger", action=closing(), now=end + 1),
        Case(name="closed when the grace ends", by="client", action=closing(), now=end),
        Case(name="closed before", by="client", action=closing()),
        Case(name="closed twice", by="client", action=closing(1), now=end + 1),
        Case(name="an unknown session is closed", by="client", action=closing(9), now=end + 1),
    ]


def _stake() -> list[Case]:
    at = {"state": "staked"}
    end = NOW + 10
    stake, unstake = (lambda amount, kind=kind: kind(actor=NOBODY, nonce=0, amount=amount) for kind in (Stake, Unstake))
    unbond = Unbond(actor=NOBODY, nonce=0)
    return [
        Case(name="money is staked", by="client", action=stake(700)),
        Case(name="more is staked", by="leg 1", action=stake(1), **at),
        Case(name="all but the fee is staked", by="client", action=stake(10_000 - FEE)),
        Case(name="one more is staked", by="client", action=stake(10_001 - FEE)),
        Case(name="nothing is staked", by="client", action=stake(0)),
        Case(name="a stake is taken back", by="leg 1", action=unstake(501), **at),
        Case(name="more than the stake is taken back", by="leg 1", action=unstake(502), **at),
        Case(name="nothing is taken back", by="leg 1", action=unstake(0), **at),
        Case(name="all that is unbonding waits anew", by="leg 2", action=unstake(100), now=end - 1, **at),
        Case(name="the wait has ended", by="leg 2", action=unbond, now=end, **at),
        Case(name="the wait has not ended", by="leg 2", action=unbond, now=end - 1, **at),
        Case(name="nothing is unbonding", by="leg 1", action=unbond, now=end, **at),
    ]


def _slash() -> list[Case]:
    def lie(leg: int = 1, *, salt: int = 0, by: str = "", domain: Any = DOMAIN, **changes: Any) -> SignedReceipt:
        return receipt_of(domain, session_of(salt), leg, KEYS[by or f"leg {leg}"], **{"rows": 14, **changes})

    one, at = lie(rows=13), {"by": "stranger", "state": "staked"}
    other_nonce = b"\x67" * 32
    return [
        Case(name="two receipts under one nonce", action=accusing(one, lie()), **at),
        Case(name="what is unbonding is lost too", action=accusing(lie(2), lie(2, rows=13)), **at),
        Case(name="a leg convicts itself", by="leg 1", state="staked", action=accusing(one, lie())),
        Case(name="of a closed session", action=accusing(lie(salt=1), lie(salt=1, rows=13)), **at),
        Case(name="whoever has nothing at stake", action=accusing(lie(0), lie(0, rows=13)), **at),
        Case(name="not in order", action=accusing(one, lie(), swapped=True), **at),
        Case(name="one receipt twice", action=accusing(one, one), **at),
        Case(name="under two nonces", action=accusing(one, lie(nonce=other_nonce)), **at),
        Case(name="for two windows", action=accusing(one, lie(window=4)), **at),
        Case(name="of two legs", action=accusing(one, lie(2)), **at),
        Case(name="of two sessions", action=accusing(one, lie(salt=1)), **at),
        Case(name="closing receipts", action=accusing(lie(nonce=bytes(32)), lie(nonce=bytes(32), rows=13)), **at),
        Case(name="of no leg", action=accusing(lie(3, by="leg 1"), lie(3, by="leg 1", rows=13)), **at),
        Case(name="one signed by another", action=accusing(one, lie(by="leg 2")), **at),
        Case(name="one signed for another ledger", action=accusing(one, lie(domain=OTHER)), **at),
        Case(name="receipts of an unknown session", action=accusing(lie(salt=9), lie(salt=9, rows=13)), **at),
        Case(name="without money, an accusation that pays", by="broke", state="staked", action=accusing(one, lie())),
        Case(
            name="without money, one that pays nothing",
            by="broke",
            state="staked",
            action=showing(checkpoint_of(DOMAIN, KEYS["operator"]), checkpoint_of(DOMAIN, KEYS["operator"], root=9)),
        ),
    ]


def _equivocation() -> list[Case]:
    key, at = KEYS["operator"], {"by": "stranger", "state": "staked"}
    one = checkpoint_of(DOMAIN, key)
    provider = [checkpoint_of(DOMAIN, LEGS[1], root=root) for root in (0x88, 0x89)]
    nobody = [checkpoint_of(DOMAIN, KEYS["client"], root=root) for root in (0x88, 0x89)]
    return [
        Case(
            name="two roots of one size, and one unit at stake",
            action=showing(one, checkpoint_of(DOMAIN, key, root=9)),
            **at,
        ),
        Case(name="two roots under any key with a stake", action=showing(*provider), **at),
        Case(name="two roots under a key without one", action=showing(*nobody), **at),
        Case(name="roots not in order", action=showing(*provider, swapped=True), **at),
        Case(name="one root", action=showing(one, one), **at),
        Case(name="two sizes", action=showing(one, checkpoint_of(DOMAIN, key, root=9, size=6)), **at),
        Case(name="two logs", action=showing(one, checkpoint_of(DOMAIN, key, root=9, origin=1)), **at),
        Case(name="roots under two keys", action=showing(one, provider[1]), **at),
        Case(name="a root for another ledger", action=showing(one, checkpoint_of(OTHER, key, root=9)), **at),
    ]


def _fee() -> list[Case]:
    broke = "broke"
    return [
        Case(name="without money, a settlement for others", by=broke, action=settling(voucher_of(200, 60, 10))),
        Case(name="without money, a release", by=broke, action=releasing(discharge_of(1, 50))),
        Case(name="without money, a closing", by=broke, action=closing(), now=EXPIRY + GRACE_S + 1),
        Case(name="the fee out of what is redeemed", by="leg 0", action=settling(voucher_of(102, 0, 0)), state="spent"),
        Case(name="less than the fee is redeemed", by="leg 0", action=settling(voucher_of(101, 0, 0)), state="spent"),
    ]


# As JSON


def document() -> dict[str, Any]:
    """The whole file."""
    return {
        "about": ABOUT,
        "verifier_key": VERIFIER_KEY,
        "domain": {
            "name": DOMAIN.name,
            "version": DOMAIN.version,
            "chainId": DOMAIN.chain_id,
            "verifyingContract": DOMAIN.verifying_contract.hex(),
            "separator": DOMAIN.separator.hex(),
        },
        "parties": {name: {"secret": SECRETS[name].hex(), "address": key.address.hex()} for name, key in KEYS.items()},
        "states": {name: state_of(state()) for name, state in STATES.items()},
        "cases": [_case(case) for case in cases()],
    }


def _case(case: Case) -> dict[str, Any]:
    action = case.action.replace(actor=KEYS[case.by].address, nonce=case.nonce)
    signed = sign_op(DOMAIN, KEYS[case.by], action) if case.signed is None else case.signed
    found: dict[str, Any] = {
        "name": case.name,
        "kind": action.kind,
        "now": case.now,
        "before": case.state,
        "operation": encode(signed).hex(),
        "action": signed.action.hex(),
        "type": encode_type(type(action)),
        "struct_hash": struct_hash(action).hex(),
        "digest": typed_digest(DOMAIN, action).hex(),
        "signature": signed.signature.hex(),
    }
    if case.signed is not None:  # what is hashed above is not what was submitted
        for name in ("type", "struct_hash", "digest"):
            del found[name]
    books = STATES[case.state]()
    try:
        outcome = apply(books, DOMAIN, signed, case.now)
    except (RuleError, PeerError) as error:
        return {**found, "accepted": False, "code": error.code}
    books.record(outcome)
    return {**found, "accepted": True, "entry": encode(outcome.entry).hex(), "after": state_of(books)}


def main() -> int:
    return keep(FILE, document())


if __name__ == "__main__":
    sys.exit(main())
