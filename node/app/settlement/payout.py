"""Sends what a node has earned out of the ledger, to a destination that its machine holds no key for.

What is sent follows from the account as it stands, and the ledger takes it only where nothing else was done with the
account since: so an answer that is lost, a crash and another process of the same key send nothing twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from node.earnings import StoredJournal
from node.events import Events, PaidOut, PayoutFailed
from node.ports import Clock, Withdrawals
from protocol.errors import JoulemeshError, LocalError, RuleError
from protocol.identity.signing import SigningKey
from protocol.settlement import Account
from protocol.units import MICRO

__all__ = ["Destination", "Payouts"]

LOOK_S = 15.0
"""Seconds between looks at the account."""
PAUSE_S = 3600
"""Seconds from one payout to the next, also over restarts."""
AGAIN_S = 60
"""Seconds after one that was not taken, or got no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """What an operator wants."""

    to: str
    """An address, or a line for the ledger's operator."""
    above: int
    """Micro-units that stay."""
    fee_share_ppm: int
    """The fee is to be at most so many millionths of a payout."""


class Payouts:
    """Belongs to one event loop."""

    def __init__(
        self,
        venue: Withdrawals,
        key: SigningKey,
        journal: StoredJournal,
        wanted: Destination,
        clock: Clock,
        events: Events,
    ) -> None:
        self._venue = venue
        self._key = key
        self._journal = journal
        self._wanted = wanted
        self._clock = clock
        self._events = events
        self._next_at: int | None = None
        """Unix seconds; None before the journal was asked when the last one was."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Send what is free above what stays, if it is time."""
        now = self._clock()
        if self._next_at is None:
            try:
                self._next_at = await self._journal.last_payout_at() + PAUSE_S
            except LocalError:
                self._next_at = now + PAUSE_S  # told by the journal; it may have been a moment ago
        if now < self._next_at:
            return
        try:
            rules, account = await self._venue.rules(), await self._venue.account(self._key.address)
        except JoulemeshError:
            return  # the ledger is away: that is told by whoever watches it
        fee = rules.cost
        amount = account.free - self._wanted.above - rules.fee
        if amount > 0 and fee * MICRO <= self._wanted.fee_share_ppm * amount:
            await self._send(amount, fee, account)

    async def _send(self, amount: int, fee: int, account: Account) -> None:
        to, nonce, now = self._wanted.to, account.nonce, self._clock()
        self._journal.payout_sent(after=nonce, amount=amount, fee=fee, to=to)
        await self._journal.written()
        # A crash from here on leaves a payout in the journal that is not known to have been taken.
        self._next_at = now + AGAIN_S
        try:
            taken = await self._venue.withdraw(amount, to, self._key, seen=account)
        except RuleError as error:
            self._journal.payout_refused(after=nonce)
            if error.code == "nonce":
                self._next_at = now  # the account has moved meanwhile: look again
            else:
                self._events(PayoutFailed(amount_micro=amount, code=error.code, reason=error.message))
        except JoulemeshError as error:  # taken or not: the account will show
            self._events(PayoutFailed(amount_micro=amount, code=error.code, reason=error.message))
        else:
            self._next_at = now + PAUSE_S
            self._journal.payout_taken(after=nonce, entry=taken.place)
            self._events(PaidOut(amount_micro=amount, to=to, entry=taken.place))
        await self._journal.written()
