"""The settlement rules as cases: a state, an operation in full bytes, and the state after it or the code of the rule.

    python -m scripts.vectors.settlement [--check]

writes tests/vectors/settlement.json. Keys are fixed secrets, and signatures follow from them (RFC 6979), so the file is
the same on every machine. Each case stands by itself, so another implementation needs nothing but the file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from protocol.encoding.codec import encode
from protocol.errors import PeerError, RuleError
from protocol.identity.eip712 import encode_type, sign_typed, struct_hash, typed_digest
from protocol.session.messages import (
    Leg,
)
from protocol.settlement import (
    MAX_MONEY,
    MAX_SESSION_S,
    apply,
)
from protocol.settlement.operations import (
    sign_op,
)
from scripts.vectors.books import state_of
from scripts.vectors.kept import keep
from scripts.vectors.ledger_states import (
    CAP,
    DOMAIN,
    EXPIRY,
    FEE,
    GRACE_S,
    KEYS,
    LEGS,
    NOW,
    OTHER,
    SECRETS,
    STATES,
    VERIFIER_KEY,
    Case,
    beginning,
    closing,
    depositing,
    discharge_of,
    opening,
    releasing,
    session_of,
    settling,
    signed_by,
    voucher_of,
    withdrawing,
)
from scripts.vectors.stake_cases import (
    bounds_cases,
    equivocation_cases,
    forgetting_cases,
    notice_cases,
    slash_cases,
    stake_cases,
)

__all__ = ["FILE", "document"]

FILE = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "settlement.json"
ABOUT = (
    "Cases for docs/spec/settlement.md, each on one of the states; written by scripts/vectors/settlement.py. "
    "Byte strings are hexadecimal, "
    "micro-units and nonces are text. An operation that is accepted gives this very entry, which names every account "
    "and session that it changed; one that is refused changes nothing."
)


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
        *stake_cases(),
        *slash_cases(),
        *equivocation_cases(),
        *notice_cases(),
        *bounds_cases(),
        *forgetting_cases(),
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
        Case(name="closed twice", by="client", action=closing(1), now=end),
        Case(name="an unknown session is closed", by="client", action=closing(9), now=end + 1),
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
        "states": {name: state_of(state(), NOW) for name, state in STATES.items()},
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
    return {**found, "accepted": True, "entry": encode(outcome.entry).hex(), "after": state_of(books, case.now)}


def main() -> int:
    return keep(FILE, document())


if __name__ == "__main__":
    sys.exit(main())
