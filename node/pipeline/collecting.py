"""Has vouchers redeemed, several for one fee: for the node that earned them, and for whoever does it for others.

Anyone may settle: what a voucher pays goes to the legs of its session, whoever submits it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from node.ports import Settlement
from protocol.errors import RuleError, SignatureError
from protocol.identity.signing import SigningKey
from protocol.session.messages import SignedVoucher
from protocol.settlement.redeeming import Redeemable, fee_part

__all__ = ["NOT_NOW", "Collected", "Collection", "Refusal", "collect"]

Refusal = RuleError | SignatureError
"""Why a venue does not take an operation."""
NOT_NOW = ("settled", "bond")
"""Codes that say nothing against a voucher: somebody was quicker, or a bond bounds what is paid in this period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """A voucher that the venue has taken."""

    claim: Redeemable
    fee: int
    """Micro-units of the operation's fee that fall on it."""
    entry: str
    """Where the venue's books have the operation."""
    evidence: bytes
    """Of the operation, which may have paid less than was promised: a bond can bound that for a time."""


@dataclass(frozen=True, slots=True)
class Collection:
    """What became of some vouchers that were submitted together."""

    taken: tuple[Collected, ...]
    refused: tuple[tuple[Redeemable, Refusal], ...]
    unsure: tuple[Redeemable, ...]
    """Not tried alone: each brings no more than it costs, and one of all has spoilt their operation."""


async def collect(
    settlement: Settlement,
    batch: Sequence[Redeemable],
    vouchers: Mapping[bytes, SignedVoucher],
    key: SigningKey,
    fee: int,
) -> Collection:
    """Submit the vouchers of a batch in one operation; where its rules forbid it, those that are worth it one by one.

    Raises UnreachableError, or another PeerError, where the venue does not answer, or not what holds: it may have taken
    them or not.
    """
    try:
        return Collection(await _submit(settlement, batch, vouchers, key, fee), (), ())
    except (RuleError, SignatureError) as error:
        if len(batch) == 1:
            return Collection((), ((batch[0], error),), ())
    taken: list[Collected] = []
    refused: list[tuple[Redeemable, Refusal]] = []
    alone = [claim for claim in batch if claim.worth > fee]
    for claim in alone:
        try:
            taken.extend(await _submit(settlement, (claim,), vouchers, key, fee))
        except (RuleError, SignatureError) as error:
            refused.append((claim, error))
    return Collection(tuple(taken), tuple(refused), tuple(claim for claim in batch if claim.worth <= fee))


async def _submit(
    settlement: Settlement,
    batch: Sequence[Redeemable],
    vouchers: Mapping[bytes, SignedVoucher],
    key: SigningKey,
    fee: int,
) -> tuple[Collected, ...]:
    evidence = await settlement.settle(tuple(vouchers[claim.session] for claim in batch), key)
    entry, sessions = settlement.taken(evidence).place, [claim.session for claim in batch]
    return tuple(
        Collected(claim=claim, fee=fee_part(fee, sessions, claim.session), entry=entry, evidence=evidence)
        for claim in batch
    )
