"""States of a ledger, and operations on them, for the cases of the settlement rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from protocol.identity.signing import SigningKey
from protocol.log.note import NoteKey
from protocol.session.messages import (
    Discharge,
    Leg,
    Session,
    SignedDischarge,
    SignedVoucher,
    Voucher,
    session_id,
    sign_discharge,
    sign_voucher,
)
from protocol.settlement import (
    Account,
    Books,
    Change,
    Rules,
    SessionRecord,
    ledger_domain,
)
from protocol.settlement.operations import (
    Action,
    Close,
    Deposit,
    Genesis,
    Open,
    Release,
    Settle,
    SignedOp,
    Withdraw,
    sign_op,
)

__all__ = [
    "CAP",
    "DOMAIN",
    "EXPIRY",
    "FEE",
    "GRACE_S",
    "KEYS",
    "LEGS",
    "LOG_KEY",
    "NAMES",
    "NOBODY",
    "NOTICE_S",
    "NOW",
    "OTHER",
    "RULES",
    "SECRETS",
    "STATES",
    "UNBONDING_S",
    "VERIFIER_KEY",
    "Case",
    "beginning",
    "bounded",
    "closing",
    "depositing",
    "discharge_of",
    "mid_life",
    "nothing",
    "noticed",
    "opening",
    "releasing",
    "session_of",
    "settling",
    "signed_by",
    "spent",
    "staked",
    "voucher_of",
    "withdrawing",
]


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


def noticed() -> Books:
    """As `mid_life`; other rules were announced."""
    books = mid_life()
    coming = Change(effective=NOW + 100, faucet_limit=0, fee=5, bond_multiple=3)
    books.rules = replace(RULES, coming=coming)
    return books


def bounded() -> Books:
    """As `staked`; vouchers pay a provider at most its bond in a period, and have paid some."""
    books = staked()
    books.rules = replace(RULES, bond_multiple=1)
    period = NOW // UNBONDING_S
    books.accounts[LEGS[0].address] = Account(free=10_000, nonce=7, bond=90, period=period, claimed=30)
    books.accounts[LEGS[1].address] = Account(free=10_000, nonce=7, bond=90, period=period - 1, claimed=90)
    return books


STATES: dict[str, Callable[[], Books]] = {
    "nothing": nothing,
    "mid-life": mid_life,
    "spent": spent,
    "staked": staked,
    "noticed": noticed,
    "bounded": bounded,
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
