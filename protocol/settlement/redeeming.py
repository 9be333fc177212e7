"""Which vouchers are worth an operation now: together with others, and never after it is too late for them.

An operation redeems several vouchers for one fee. Pure: who looks them up on a venue and submits them is elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protocol.settlement.operations import MAX_SETTLED
from protocol.units import MICRO

__all__ = ["Redeemable", "batches", "fee_part", "worth_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeemable:
    """A voucher that pays more than the venue has paid on its session so far."""

    session: bytes
    worth: int
    """Micro-units more."""
    expiry: int
    """Of the session, Unix seconds; from then on its grace runs, and it waits for no company."""


def batches(
    claims: Iterable[Redeemable], *, fee: int, share_ppm: int, now: int, last: bool = False
) -> list[tuple[Redeemable, ...]]:
    """What to submit now, at most `MAX_SETTLED` vouchers at once.

    Vouchers of sessions that have expired go first, and for whatever exceeds the fee: held back any longer they would
    be lost. Others fill up their operations, and have operations of their own where the fee is at most `share_ppm`
    millionths of what these bring.

    Args:
        fee: micro-units that an operation costs.
        last: there may be no later time: all count as expired.
    """
    worthy = [claim for claim in claims if claim.worth > 0]
    urgent = [claim for claim in worthy if last or claim.expiry <= now]
    patient = [claim for claim in worthy if not (last or claim.expiry <= now)]
    ordered = [*_dearest_first(urgent), *_dearest_first(patient)]
    chosen = []
    for start in range(0, len(ordered), MAX_SETTLED):
        batch = tuple(ordered[start : start + MAX_SETTLED])
        brings = sum(claim.worth for claim in batch)
        if brings > fee and (start < len(urgent) or fee * MICRO <= share_ppm * brings):
            chosen.append(batch)
    return chosen


def _dearest_first(claims: Iterable[Redeemable]) -> list[Redeemable]:
    return sorted(claims, key=lambda claim: (-claim.worth, claim.session))


def fee_part(fee: int, sessions: Sequence[bytes], session: bytes) -> int:
    """What of an operation's fee falls on one of the sessions in it; all parts together are the fee."""
    ordered = sorted(sessions)
    return fee // len(ordered) + (ordered.index(session) < fee % len(ordered))


def worth_of(amounts: Sequence[int], settled: Sequence[int], ceilings: Sequence[int]) -> tuple[int, ...]:
    """For each leg of a session, micro-units that a voucher of these amounts would bring it (clause L8).

    Empty where the voucher has another number of legs.
    """
    if len(amounts) != len(settled):
        return ()
    claims = zip(amounts, settled, ceilings, strict=True)
    return tuple(max(0, min(claimed, most) - before) for claimed, before, most in claims)
