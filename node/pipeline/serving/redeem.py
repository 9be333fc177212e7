"""Turns vouchers into money: settles what a client did not settle itself, also after a restart.

A voucher is safe in the `VoucherStore` before it counts. Clients usually settle at once, so a finished session is left
alone for a moment; whatever the ledger then does not show is submitted, again and again until it is in or too late.
Nothing is asked of the ledger for a session that nothing can be had from.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from node.events import DiskRefused, Events, VoucherNotRedeemable, VoucherRedeemed
from node.pipeline.serving.seen import SeenSessions, remembered_until
from node.pipeline.vouchers import StoredVoucher, VoucherStore
from node.ports import Clock, Settlement
from protocol.errors import JoulemeshError, LocalError, RuleError, UnreachableError
from protocol.signing import SigningKey

__all__ = ["Redeemer"]

RETRY_S = 15.0
"""Pause between rounds; a ledger that is down is asked again at this pace."""
FIRST_PAUSE_S = 15
"""After a session that could not be redeemed; twice as long after each further time."""
LONGEST_PAUSE_S = 3600


@dataclass(slots=True)
class _Promised:
    """What a session is good for, as it is on disk."""

    stored: StoredVoucher
    try_at: int = 0
    """Unix seconds."""
    pause_s: int = FIRST_PAUSE_S

    def put_off(self, now: int) -> None:
        """Not now: later, but not after the session has expired, when it matters most."""
        expiry = self.stored.session.expiry
        self.try_at = now + FIRST_PAUSE_S if now >= expiry else min(now + self.pause_s, expiry)
        self.pause_s = min(LONGEST_PAUSE_S, 2 * self.pause_s)


class Redeemer:
    """Settles the stored voucher of every session that is over, and knows which sessions were ever ordered here.

    Args:
        seen: the sessions that are over and were done with.
        patience_s: how long a client has to settle before this node does it.
    """

    def __init__(
        self,
        settlement: Settlement,
        store: VoucherStore,
        seen: SeenSessions,
        key: SigningKey,
        clock: Clock,
        events: Events,
        *,
        patience_s: float = 5.0,
    ) -> None:
        self._settlement = settlement
        self._store = store
        self._seen = seen
        self._key = key
        self._clock = clock
        self._events = events
        self._patience_s = patience_s
        self._live: set[bytes] = set()
        self._promised: dict[bytes, _Promised] = {}
        self._loaded = False
        """Whether what an earlier run left is among `_promised`."""
        self._over = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether no further session can be remembered, and so none be taken."""
        return self._seen.full

    async def remember(self, session: bytes, stored: StoredVoucher) -> None:
        """Durable when this returns; the session counts as live until `redeem_soon` or `refuse`.

        Raises LocalError where the disk does not take it: then what it held before counts on.
        """
        new = session not in self._live
        self._live.add(session)
        try:
            await self._store.put(session, stored)
        except LocalError:
            if new:
                self._live.discard(session)
            raise
        self._promised[session] = _Promised(stored)

    async def refuse(self, session: bytes, stored: StoredVoucher) -> None:
        """The session was ordered and is not served: its voucher is never redeemed, durably when this returns.

        Raises LocalError where the disk does not take it: it is not redeemed in this run of the program.
        """
        self._promised.pop(session, None)
        self._live.discard(session)
        await self._forget(session, stored)

    def knows(self, session: bytes) -> bool:
        """Whether the session was ever accepted or refused here, for as long as an order for it can live."""
        return (
            session in self._live
            or session in self._promised
            or session in self._seen
            or (not self._loaded and self._store.knows(session))
        )

    def redeem_soon(self, session: bytes) -> None:
        """The session is over: settle it unless its client does so first."""
        self._live.discard(session)
        self._over.set()

    def redeem_instead(self, session: bytes, stored: StoredVoucher) -> None:
        """The disk did not take what is left of a promise: what is redeemed is this all the same, as long as we run."""
        self._promised[session] = _Promised(stored)

    async def run(self) -> None:
        """Until cancelled. Sessions left over from an earlier run are redeemed first."""
        while True:
            await self.redeem_all()
            try:
                async with asyncio.timeout(RETRY_S):
                    await self._over.wait()
                self._over.clear()
                await asyncio.sleep(self._patience_s)
            except TimeoutError:
                continue

    async def redeem_all(self) -> None:
        """One round over every session that is over and due. What the disk does not do now, a later round does."""
        await self._load()
        for session, promised in list(self._promised.items()):
            if session in self._live or promised.try_at > self._clock():
                continue
            try:
                await self._try(session, promised)
            except UnreachableError:
                return  # the ledger is away: what it says of that is told by whoever watches it
            except LocalError as error:
                self._events(DiskRefused(reason=error.message))

    async def _load(self) -> None:
        if self._loaded:
            return
        try:
            found = await self._store.all()
        except LocalError as error:
            self._events(DiskRefused(reason=error.message))
            return
        for session, stored in found.items():
            if session not in self._seen:
                self._promised.setdefault(session, _Promised(stored))
        self._loaded = True

    async def _try(self, session: bytes, promised: _Promised) -> None:
        try:
            over = await self._redeem(session, promised.stored)
        except RuleError as error:
            # That was its client, a moment ago; or our bond bounds what we are paid in this period.
            over = error.code not in ("settled", "bond")
            if over:
                self._events(VoucherNotRedeemable(session=session, reason=error.message))
        except UnreachableError:
            raise
        except JoulemeshError:
            over = False  # what the ledger says of this session does not hold; others are not held up by it
        promised.put_off(self._clock())
        if over:
            await self._forget(session, promised.stored)
            self._promised.pop(session, None)

    async def _forget(self, session: bytes, stored: StoredVoucher) -> None:
        """Done with: remembered for as long as an order for it could still come."""
        until = remembered_until(stored.opened_at, stored.session.expiry)
        if until > self._clock():
            await self._seen.add(session, until)
        await self._store.remove(session)

    async def _redeem(self, session: bytes, stored: StoredVoucher) -> bool:
        """Whether there is nothing (more) to be had from the session."""
        if stored.pay is None or stored.leg is None:
            return True
        record = await self._settlement.session(session)
        if record is None:
            return stored.session.expiry < self._clock()
        leg = stored.leg
        promised = min(stored.pay.voucher.amounts[leg], record.ceilings[leg])
        # What an operation costs is not spent on less; and from here on there is only ever less to be had.
        if record.closed or promised - record.settled[leg] <= (await self._settlement.rules()).fee:
            return True
        evidence = await self._settlement.settle((stored.pay,), self._key)
        after = self._settlement.shown(stored.session, evidence)
        paid = promised if after is None else after.settled[leg]
        self._events(VoucherRedeemed(session=session, amount_micro=paid))
        return paid >= promised  # a bond may bound what is paid now; the rest is for later
