"""What a client's unfinished sessions still hold, and having it back once their grace has ended."""

from __future__ import annotations

from dataclasses import dataclass

from node.pipeline.vouchers import VoucherStore
from node.ports import Settlement
from protocol.errors import RuleError
from protocol.messages import Close
from protocol.signing import SigningKey

__all__ = ["OpenSession", "open_sessions", "reclaim"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """A session that a job left open: a provider died, or this client did."""

    session: bytes
    reserved: int
    """Micro-units held for it."""
    back_from: int
    """Unix seconds after which anyone may close it, and what is left returns."""


async def open_sessions(settlement: Settlement, journal: VoucherStore, *, grace_s: int, now: int) -> list[OpenSession]:
    """The sessions in the journal that the ledger holds open; those that are done with leave the journal."""
    found = []
    for session, stored in (await journal.all()).items():
        back_from = stored.session.expiry + grace_s
        known = await settlement.session(session)
        effect = None if known is None else known[1].entry.sessions[0]
        if effect is not None and not effect.closed:
            found.append(OpenSession(session=session, reserved=effect.reserved, back_from=back_from))
        elif effect is not None or back_from < now:
            await journal.remove(session)  # closed, or never opened and now too old to be
    return found


async def reclaim(settlement: Settlement, journal: VoucherStore, key: SigningKey, *, grace_s: int, now: int) -> int:
    """Close every session whose grace has ended; micro-units that came back."""
    returned = 0
    for each in await open_sessions(settlement, journal, grace_s=grace_s, now=now):
        if each.back_from < now:
            returned += each.reserved if await _close(settlement, each.session, key) else 0
            await journal.remove(each.session)
    return returned


async def _close(settlement: Settlement, session: bytes, key: SigningKey) -> bool:
    """Whether it was this call that closed it: another process of the same key, or a provider, may be quicker."""
    try:
        await settlement.submit(Close(session=session, discharges=()), key)
    except RuleError as error:
        if error.code != "closed":
            raise
        return False
    return True
