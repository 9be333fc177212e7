"""Turns vouchers into money: settles what a client did not settle itself, also after a restart.

A voucher is safe in the `VoucherStore` before it counts. Clients usually settle at once, so a finished session is left
alone for a moment; whatever the ledger then does not show is submitted, again and again until it is in or too late.
"""

from __future__ import annotations

import asyncio

from node.events import Events, VoucherNotRedeemable, VoucherRedeemed
from node.pipeline.vouchers import StoredVoucher, VoucherStore
from node.ports import Clock, Settlement
from protocol.errors import JoulemeshError, RuleError
from protocol.signing import SigningKey

__all__ = ["Redeemer"]

RETRY_S = 15.0
"""Pause between rounds; a ledger that is down is asked again at this pace."""


class Redeemer:
    """Settles the stored voucher of every session that is over.

    Args:
        patience_s: how long a client has to settle before this node does it.
    """

    def __init__(
        self,
        settlement: Settlement,
        store: VoucherStore,
        key: SigningKey,
        clock: Clock,
        events: Events,
        *,
        patience_s: float = 5.0,
    ) -> None:
        self._settlement = settlement
        self._store = store
        self._key = key
        self._clock = clock
        self._events = events
        self._patience_s = patience_s
        self._live: set[bytes] = set()
        self._over = asyncio.Event()

    async def remember(self, session: bytes, stored: StoredVoucher) -> None:
        """Durable when this returns; the session counts as live until `redeem_soon`."""
        self._live.add(session)
        await self._store.put(session, stored)

    def knows(self, session: bytes) -> bool:
        """Whether the session was ever accepted or refused here."""
        return session in self._live or self._store.knows(session)

    def redeem_soon(self, session: bytes) -> None:
        """The session is over: settle it unless its client does so first."""
        self._live.discard(session)
        self._over.set()

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
        """One round over every session that is over."""
        for session, stored in (await self._store.all()).items():
            if session in self._live:
                continue
            try:
                await self._redeem(session, stored)
            except RuleError as error:
                if error.code == "settled":
                    continue  # by the client, a moment ago
                self._events(VoucherNotRedeemable(session=session, reason=error.message))
                await self._store.remove(session)
            except JoulemeshError:
                return  # the ledger is away: what it says of that is told by whoever watches it

    async def _redeem(self, session: bytes, stored: StoredVoucher) -> None:
        expired = stored.session.expiry < self._clock()
        if stored.pay is None or stored.leg is None:
            # Nothing was promised, so nothing is asked; remembered until its expiry so that it is not served later.
            if expired:
                await self._store.remove(session)
            return
        record = await self._settlement.session(session)
        if record is None or record.closed:
            if record is not None or expired:
                await self._store.remove(session)
            return
        leg = stored.leg
        promised = min(stored.pay.voucher.amounts[leg], record.ceilings[leg])
        # What an operation costs is not spent on less.
        if promised - record.settled[leg] > (await self._settlement.rules()).fee:
            await self._settlement.settle((stored.pay,), self._key)
            self._events(VoucherRedeemed(session=session, amount_micro=promised))
        elif expired:
            await self._store.remove(session)
