"""A ledger's state as JSON, for vectors: byte strings in hexadecimal, amounts and nonces as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from protocol.encoding.codec import encode
from protocol.settlement import Books

__all__ = ["state_of"]


def state_of(books: Books, now: int) -> dict[str, Any]:
    """Rules, accounts, the sessions that are not forgotten, and what is burned."""
    rules = books.rules
    grace_s = 0 if rules is None else rules.grace_s
    return {
        "rules": None
        if rules is None
        else {
            "operator": rules.operator.hex(),
            "verifier_key": rules.verifier_key,
            "grace_s": rules.grace_s,
            "faucet_limit": str(rules.faucet_limit),
            "fee": str(rules.fee),
            "unbonding_s": rules.unbonding_s,
            "notice_s": rules.notice_s,
            "bond_multiple": rules.bond_multiple,
            "coming": None
            if rules.coming is None
            else {
                "effective": rules.coming.effective,
                "faucet_limit": str(rules.coming.faucet_limit),
                "fee": str(rules.coming.fee),
                "bond_multiple": rules.coming.bond_multiple,
            },
        },
        "accounts": {
            address.hex(): {name: str(value) for name, value in asdict(account).items()}
            for address, account in sorted(books.accounts.items())
        },
        "sessions": {
            identity.hex(): {
                "session": encode(record.session).hex(),
                "settled": _texts(record.settled),
                "ceilings": _texts(record.ceilings),
            }
            for identity, record in sorted(books.sessions.items())
            if not record.is_forgotten(now, grace_s)
        },
        "burned": str(books.burned),
    }


def _texts(amounts: Sequence[int]) -> list[str]:
    return [str(amount) for amount in amounts]
