"""Cases of stakes, proofs, notices, bounds and forgetting (docs/spec/settlement.md, clauses L14 to L19)."""

from __future__ import annotations

from typing import Any

from protocol.session.messages import (
    SignedReceipt,
)
from protocol.settlement.operations import (
    Notice,
    Stake,
    Unbond,
    Unstake,
)
from scripts.vectors.ledger_states import (
    DOMAIN,
    EXPIRY,
    FEE,
    GRACE_S,
    KEYS,
    LEGS,
    NOBODY,
    NOTICE_S,
    NOW,
    OTHER,
    UNBONDING_S,
    Case,
    closing,
    opening,
    session_of,
    settling,
    voucher_of,
    withdrawing,
)
from scripts.vectors.lies import accusing, checkpoint_of, receipt_of, showing

__all__ = [
    "announcing",
    "bounds_cases",
    "equivocation_cases",
    "forgetting_cases",
    "notice_cases",
    "slash_cases",
    "stake_cases",
]


def stake_cases() -> list[Case]:
    """L14 to L16: into the stake, out of it, and free again."""
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


def slash_cases() -> list[Case]:
    """L17: two receipts."""

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


def equivocation_cases() -> list[Case]:
    """L17: two checkpoints."""
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
        Case(
            name="two roots of another ledger, whose operator has a stake here",
            action=showing(*(checkpoint_of(OTHER, LEGS[1], root=root) for root in (0x88, 0x89)), ledger=OTHER),
            **at,
        ),
        Case(name="two roots, and another ledger named", action=showing(*provider, ledger=OTHER), **at),
    ]


def announcing(effective: int, **changes: int) -> Notice:
    return Notice(
        actor=NOBODY, nonce=0, effective=effective, **{"faucet_limit": 7, "fee": 9, "bond_multiple": 1, **changes}
    )


def notice_cases() -> list[Case]:
    """L18: other rules."""
    soon, at = NOW + NOTICE_S, {"by": "operator"}
    return [
        Case(name="other rules are announced", action=announcing(soon), **at),
        Case(name="announced too late", action=announcing(soon - 1), **at),
        Case(name="announced without a fee", action=announcing(soon, fee=0), **at),
        Case(name="announced by another", by="client", action=announcing(soon)),
        Case(name="announced anew", action=announcing(soon), state="noticed", **at),
        Case(
            name="announced once the one before holds",
            action=announcing(soon + 100),
            state="noticed",
            now=NOW + 100,
            **at,
        ),
        Case(name="a second before the new fee", by="client", action=withdrawing(1), state="noticed", now=NOW + 99),
        Case(name="when the new fee holds", by="client", action=withdrawing(1), state="noticed", now=NOW + 100),
        Case(name="the new fee is too much", by="client", action=withdrawing(9_996), state="noticed", now=NOW + 100),
    ]


def bounds_cases() -> list[Case]:
    """L8: what bonds bound."""
    at = {"by": "client", "state": "bounded"}
    return [
        Case(name="within the bonds", action=settling(voucher_of(160, 140, 0)), **at),
        Case(name="beyond one bond", action=settling(voucher_of(161, 140, 0)), **at),
        Case(name="beyond all bonds", action=settling(voucher_of(900, 900, 400)), **at),
        Case(name="another period begins", action=settling(voucher_of(900, 900, 400)), now=NOW + UNBONDING_S, **at),
        Case(
            name="the last second of a period",
            action=settling(voucher_of(900, 900, 400)),
            now=NOW + UNBONDING_S - 1,
            **at,
        ),
        Case(name="bonds let nothing rise", action=settling(voucher_of(200, 0, 0), voucher_of(201, 0, 0)), **at),
        Case(name="nothing would rise under bonds", action=settling(voucher_of(100, 50, 0)), **at),
    ]


def forgetting_cases() -> list[Case]:
    """L19: what is forgotten."""
    end = EXPIRY + GRACE_S
    return [
        Case(name="a closed session in its grace", by="client", action=closing(1), now=end),
        Case(name="a closed session after its grace", by="client", action=closing(1), now=end + 1),
        Case(name="a forgotten session is opened", by="client", action=opening(session_of(1)), now=end + 1),
        Case(name="what is open is not forgotten", by="client", action=closing(), now=end + 10**6),
    ]
