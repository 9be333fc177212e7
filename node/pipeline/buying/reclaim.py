"""What a client's unfinished sessions still hold, and having it back: at once where legs gave it up, else after the
grace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from node.pipeline.vouchers import VoucherStore
from node.ports import Settlement
from protocol.errors import RuleError
from protocol.identity.signing import SigningKey
from protocol.session.messages import SignedDischarge
from protocol.settlement import SessionRecord

__all__ = ["OpenSession", "freed_by", "open_sessions", "reclaim", "worth_having"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """A session that a job left open: a provider died, or this client did."""

    session: bytes
    reserved_micro: int
    """Micro-units held for it."""
    back_from: int
    """Unix seconds after which anyone may close it, and what is left returns."""
    discharges: tuple[SignedDischarge, ...]
    """What legs have given up already, to be shown to the ledger; without those that free nothing."""
    freed_micro: int
    """Micro-units that these return at once."""


def worth_having(amount_micro: int, fee_micro: int) -> bool:
    """Whether money that is held comes back at no loss, once the operation is paid that returns it."""
    return amount_micro > 0 and amount_micro >= fee_micro


def freed_by(discharges: Sequence[SignedDischarge], record: SessionRecord) -> tuple[tuple[SignedDischarge, ...], int]:
    """Those of some discharges that free something of a session, one for each leg; micro-units that they return."""
    least: dict[int, SignedDischarge] = {}
    for each in discharges:
        leg = each.discharge.leg
        if leg not in least or each.discharge.amount < least[leg].discharge.amount:
            least[leg] = each
    shown, freed = [], 0
    for leg, each in sorted(least.items()):
        returns = record.ceilings[leg] - max(record.settled[leg], each.discharge.amount)
        if returns > 0:
            shown.append(each)
            freed += returns
    return tuple(shown), freed


async def open_sessions(settlement: Settlement, journal: VoucherStore, *, now: int) -> list[OpenSession]:
    """The sessions in the journal that the venue holds money for; those that are done with leave the journal.

    Args:
        now: Unix seconds.
    """
    found, rules = [], await settlement.rules()
    for session, stored in (await journal.all()).items():
        back_from = stored.session.expiry + rules.grace_s
        record = await settlement.session(session)
        if record is not None and worth_having(record.reserved, rules.cost):
            discharges, freed = freed_by(stored.discharges, record)
            found.append(
                OpenSession(
                    session=session,
                    reserved_micro=record.reserved,
                    back_from=back_from,
                    discharges=discharges,
                    freed_micro=freed,
                )
            )
        elif record is not None or back_from < now:
            await journal.remove(session)  # nothing is left in it, or never opened and now too old to be
    return found


async def reclaim(settlement: Settlement, journal: VoucherStore, key: SigningKey, *, now: int) -> int:
    """Have back what can be had now; micro-units that came back.

    Sessions whose grace has ended are closed; of others, what their legs have given up is released.
    """
    returned, fee = 0, (await settlement.rules()).cost
    for each in await open_sessions(settlement, journal, now=now):
        if each.back_from < now:
            closed = await _close(settlement, each.session, key)
            if closed is None:
                continue
            returned += each.reserved_micro if closed else 0
            await journal.remove(each.session)
        elif worth_having(each.freed_micro, fee) and await _release(settlement, each, key):
            returned += each.freed_micro
            if not worth_having(each.reserved_micro - each.freed_micro, fee):
                await journal.remove(each.session)
    return returned


async def _close(settlement: Settlement, session: bytes, key: SigningKey) -> bool | None:
    """Whether it was this call that closed it: another process of the same key, or a provider, may be quicker. None
    where the grace has not ended by the venue's clock, which on a chain is that of its newest block.
    """
    try:
        await settlement.close(session, key)
    except RuleError as error:
        if error.code == "early":
            return None
        if error.code not in ("closed", "unknown-session"):
            raise
        return False
    return True


async def _release(settlement: Settlement, session: OpenSession, key: SigningKey) -> bool:
    """Whether it was this call that released it."""
    try:
        await settlement.release(session.discharges, key)
    except RuleError as error:
        if error.code not in ("released", "closed"):
            raise
        return False
    return True
