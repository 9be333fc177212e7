"""Turns vouchers into money: settles what a client did not settle itself, also after a restart.

A voucher is safe in the `VoucherStore` before it counts. Clients usually settle at once, so a finished session is left
alone for a moment; whatever the ledger then does not show is submitted, again and again until it is in or too late.
What a fee would eat up waits for others to share it with, until its session has expired
(`protocol.settlement.redeeming`).
Nothing is asked of the ledger for a session that nothing can be had from. What was paid is in the journal before the
voucher is forgotten: a crash in between finds it paid, and writes the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from node.events import DiskRefused, Events, VoucherNotRedeemable, VoucherRedeemed
from node.pipeline.collecting import NOT_NOW, Collected, Refusal, collect
from node.pipeline.serving.bonds import BondWatch
from node.pipeline.serving.seen import SeenSessions, remembered_until
from node.pipeline.vouchers import StoredVoucher, VoucherStore
from node.ports import Clock, JobJournal, Settlement
from protocol.errors import JoulemeshError, LocalError, RuleError, UnreachableError
from protocol.identity.signing import SigningKey
from protocol.settlement.redeeming import Redeemable, batches, fee_part, worth_of

__all__ = ["Redeemer"]

RETRY_S = 15.0
"""Pause between rounds; a ledger that is down is asked again at this pace."""
FIRST_PAUSE_S = 15
"""After a session that could not be redeemed; twice as long after each further time."""
LONGEST_PAUSE_S = 3600
MOST_SMALL = 1024
"""Sessions that are held, each worth no more than an operation costs. Beyond, such a one is given up at once."""


@dataclass(slots=True)
class _Promised:
    """What a session is good for, as it is on disk."""

    stored: StoredVoucher
    try_at: int = 0
    """Unix seconds."""
    pause_s: int = FIRST_PAUSE_S
    worth: int = 0
    """Micro-units that it would have brought at the last look; 0 before."""
    amount: int = 0
    """Micro-units that its leg would have been paid in all then."""

    small: bool = False
    """Whether that is no more than an operation costs."""
    refused: bool = False
    """Whether the ledger's word against it was told."""

    def put_off(self, now: int) -> None:
        """Not now: later, but not after the session has expired, when it matters most."""
        expiry = self.stored.session.expiry
        self.try_at = now + FIRST_PAUSE_S if now >= expiry else min(now + self.pause_s, expiry)
        self.pause_s = min(LONGEST_PAUSE_S, 2 * self.pause_s)

    def put_off_refused(self, now: int, grace_s: int) -> None:
        """As before the expiry, and not after the grace."""
        expiry = self.stored.session.expiry
        if now >= expiry:
            pause_s = min(self.pause_s, expiry + grace_s - now)
            self.try_at = now + max(FIRST_PAUSE_S, pause_s)

    def hold(self, now: int, grace_s: int) -> None:
        """What it is worth is known: look again when the session has expired, for little when its grace ends."""
        expiry = self.stored.session.expiry
        if now < expiry:
            self.try_at = expiry
        else:
            self.try_at = expiry + grace_s + 1 if self.small else now + FIRST_PAUSE_S


class Redeemer:
    """Settles the stored voucher of every session that is over, and knows which sessions were ever ordered here.

    Args:
        seen: the sessions that are over and were done with.
        journal: what was earned and paid, for the node's operator.
        fee_share_ppm: as long as there is time, an operation may cost so many millionths of what it brings.
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
        journal: JobJournal,
        fee_share_ppm: int,
        patience_s: float = 5.0,
    ) -> None:
        self.journal = journal
        self._fee_share_ppm = fee_share_ppm
        self._settlement = settlement
        self._store = store
        self._seen = seen
        self._key = key
        self._clock = clock
        self._events = events
        self._patience_s = patience_s
        self._bonds = BondWatch(settlement, key.address, events)
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

    async def redeem_all(self, *, last: bool = False) -> None:
        """One round over every session that is over and due. What the disk does not do now, a later round does.

        Args:
            last: this node is about to stop: nothing is held back that brings more than it costs.
        """
        await self._load()
        try:
            for session, promised in list(self._promised.items()):
                if session not in self._live and promised.try_at <= self._clock():
                    await self._attempt(session, promised)
            await self._submit(last)
            await self._bonds.look(each.stored for each in self._promised.values())
        except JoulemeshError:
            return  # the ledger is away, which is told by whoever watches it; or what it says of itself does not hold

    async def _attempt(self, session: bytes, promised: _Promised) -> None:
        """Look it up; be done with it where nothing is to be had."""
        try:
            over = await self._look_up(session, promised)
        except UnreachableError:
            raise
        except JoulemeshError:
            over = False  # what the ledger says of this session does not hold; others are not held up by it
            promised.put_off(self._clock())
        if over:
            await self._be_done_with(session, promised)

    async def _submit(self, last: bool) -> None:
        """Redeem what is worth it now."""
        held = {session: each for session, each in self._promised.items() if each.worth and session not in self._live}
        if not held:
            return
        vouchers = {session: each.stored.pay for session, each in held.items() if each.stored.pay is not None}
        claims = [
            Redeemable(session=session, worth=held[session].worth, expiry=held[session].stored.session.expiry)
            for session in vouchers
        ]
        rules = await self._settlement.rules()
        fee = rules.cost
        for batch in batches(claims, fee=fee, share_ppm=self._fee_share_ppm, now=self._clock(), last=last):
            for claim in batch:
                held[claim.session].worth = 0  # until the next look, whatever comes of it
                held[claim.session].put_off(self._clock())
            try:
                found = await collect(self._settlement, batch, vouchers, self._key, fee)
            except UnreachableError:
                self._look_soon(batch)
                raise
            except JoulemeshError:
                continue  # what the ledger answered does not hold
            self._look_soon(found.unsure)
            for each in found.taken:
                await self._on_taken(each, held[each.claim.session])
            for claim, error in found.refused:
                await self._on_refused(claim.session, held[claim.session], error, rules.grace_s)

    def _look_soon(self, claims: Iterable[Redeemable]) -> None:
        for claim in claims:
            self._promised[claim.session].try_at = 0

    async def _on_taken(self, collected: Collected, promised: _Promised) -> None:
        session, stored, amount = collected.claim.session, promised.stored, promised.amount
        after = self._settlement.shown(stored.session, collected.evidence)
        if after is not None and stored.leg is not None:
            amount = after.settled[stored.leg]
        self.journal.paid(session, amount=amount, fee=collected.fee, entry=collected.entry)
        self._events(VoucherRedeemed(session=session, amount_micro=amount, entry=collected.entry))
        if amount >= promised.amount:  # else the rest is for later
            await self._be_done_with(session, promised)

    async def _on_refused(self, session: bytes, promised: _Promised, error: Refusal, grace_s: int) -> None:
        """Nothing proves a refusal: who answers may be behind, or lie. A voucher is kept as long as it may be good."""
        if not isinstance(error, RuleError) or error.code in NOT_NOW:
            return
        if not promised.refused:
            promised.refused = True
            self._events(VoucherNotRedeemable(session=session, reason=error.message))
        now = self._clock()
        promised.put_off_refused(now, grace_s)
        if now > promised.stored.session.expiry + grace_s:
            await self._be_done_with(session, promised)

    async def _be_done_with(self, session: bytes, promised: _Promised) -> None:
        """What the disk does not do now a later round does, which finds nothing to be had of it."""
        self.journal.closed(session)
        await self.journal.written()
        try:
            await self._forget(session, promised.stored)
        except LocalError as error:
            self._events(DiskRefused(reason=error.message))
            promised.put_off(self._clock())
            return
        self._promised.pop(session, None)

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
                self._tell_left(session, stored)
        self._loaded = True

    def _tell_left(self, session: bytes, stored: StoredVoucher) -> None:
        if stored.pay is None or stored.leg is None or session in self._live:
            return
        voucher = stored.pay.voucher
        self.journal.left(
            session,
            client=stored.session.client,
            leg=stored.leg,
            begun_at=stored.opened_at,
            tokens_in=voucher.tokens_in,
            tokens_out=voucher.tokens_out,
            earned=_promised_to_us(stored),
        )

    async def _forget(self, session: bytes, stored: StoredVoucher) -> None:
        """Done with: remembered for as long as an order for it could still come."""
        until = remembered_until(stored.opened_at, stored.session.expiry)
        if until > self._clock():
            await self._seen.add(session, until)
        await self._store.remove(session)

    async def _look_up(self, session: bytes, promised: _Promised) -> bool:
        """Take down what it is worth; whether there is nothing (more) to be had from the session."""
        stored = promised.stored
        if stored.pay is None or stored.leg is None:
            return True
        found, now = await self._settlement.latest(session), self._clock()
        rules = await self._settlement.rules()
        late = now > stored.session.expiry + rules.grace_s
        if found is None:
            promised.put_off(now)
            # Nothing proves that a venue does not know a session, either.
            return late
        record, taken = found
        settled = record.settled[stored.leg]
        if settled:  # by our own operation, before a crash, or by others
            ours = taken.actor == self._key.address and session in taken.sessions
            fee = fee_part(rules.cost, taken.sessions, session) if ours else 0
            self.journal.paid(session, amount=settled, fee=fee, entry=taken.place)
        promised.worth = worth_of(stored.pay.voucher.amounts, record.settled, record.ceilings)[stored.leg]
        promised.amount = settled + promised.worth
        # What an operation costs is not spent on less, unless others share it, and there is time and room to wait.
        promised.small = promised.worth <= rules.cost
        over = promised.worth == 0 or (promised.small and (late or self._holds_many()))
        if not over:  # else who is stopped before it is done with looks again
            promised.hold(now, rules.grace_s)
        return over

    def _holds_many(self) -> bool:
        return sum(each.small for each in self._promised.values()) > MOST_SMALL


def _promised_to_us(stored: StoredVoucher) -> int:
    return 0 if stored.pay is None or stored.leg is None else stored.pay.voucher.amounts[stored.leg]
