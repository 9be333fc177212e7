"""A watchtower: settles vouchers of others before it is too late, where nobody else has.

Anyone may settle, and what a voucher pays goes to the legs of its session: so a watchtower needs no trust but that it
is awake, and it pays the fee. Nothing in the files that it is given is believed but a voucher itself, which the ledger
checks: sessions, amounts and times are those of the ledger.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.app.network.presence import Presence
from node.events import Events, SettledForOthers, VoucherNotRedeemable, VoucherSetAside, Watching, WatchtowerReady
from node.pipeline.collecting import NOT_NOW, Collected, collect
from node.pipeline.vouchers import stored_voucher
from node.ports import Clock, Settlement, VenueRules
from protocol.errors import JoulemeshError, MalformedError, PeerError, UnreachableError
from protocol.identity.signing import SigningKey
from protocol.session.messages import Session, SignedVoucher, check_voucher, session_id
from protocol.settlement.redeeming import Redeemable, batches, worth_of

__all__ = ["Watched", "Watchtower"]

LOOK_S = 60.0
"""Seconds between looks: far less than a grace should be."""
UNKNOWN_S = 3600
"""Seconds after which a session is asked for again that the ledger does not know; it is when it is due, too."""
TRIES = 10
"""In a grace, at least, for what is due and does not go: what the ledger says against it may be wrong."""
MOST_BYTES = 64 * 1024
"""Of a voucher's file: more is none."""
MOST_WATCHED = 100_000
"""Files; those with the first names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What one look came to."""

    vouchers: int
    """That may still be redeemed."""
    worth: int
    """Micro-units that they would bring their providers, as of the last look at each."""
    settled: int
    """Vouchers that were settled in this look."""
    amount: int
    """Micro-units that their providers had by that."""
    fees: int
    """Micro-units that it cost the watchtower."""


@dataclass(slots=True)
class _Kept:
    """One file, and what the ledger says of its session."""

    file: Path
    version: tuple[int, int]
    """Of the file: when it was written, and its size."""
    terms: Session
    """As the file has it."""
    pay: SignedVoucher
    worth: int = 0
    """Micro-units that it brings all legs together."""
    expiry: int = 0
    """Of the session, Unix seconds."""
    look_at: int = 0
    """When to look next, Unix seconds."""
    refused: bool = False
    """Whether the ledger's word against it was told."""
    over: bool = False
    """Whether nothing more is to be had by it."""

    @property
    def session(self) -> bytes:
        return self.pay.voucher.session


class Watchtower:
    """Belongs to one event loop.

    Args:
        paths: voucher files, and folders of them, which are read anew at each look.
        lead_s: a voucher is due so many seconds before its session expires.
    """

    def __init__(
        self,
        settlement: Settlement,
        paths: Sequence[Path],
        key: SigningKey,
        clock: Clock,
        events: Events,
        *,
        lead_s: int = 0,
    ) -> None:
        self._settlement = settlement
        self._paths = paths
        self._key = key
        self._clock = clock
        self._events = events
        self._lead_s = lead_s
        self._kept: dict[Path, _Kept] = {}
        self._bad: dict[Path, str] = {}
        self._told: tuple[int, int] | None = None

    async def run(self, presence: Presence) -> None:
        """Until cancelled. A ledger that is away is asked again."""
        self._events(WatchtowerReady(paths=tuple(map(str, self._paths)), address=self._key.address))
        while True:
            try:
                await self.look()
                presence.ledger_answered()
            except JoulemeshError as error:  # away, or it says what does not hold
                presence.ledger_silent(error.message)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> Watched:
        """Read the files, and settle what is due. Raises UnreachableError."""
        for event in await asyncio.to_thread(self._read):
            self._events(event)
        rules, now = await self._settlement.rules(), self._clock()
        for kept in self._kept.values():
            if not kept.over and now >= kept.look_at:
                await self._look_up(kept, now, rules.grace_s)
        settled, amount, fees = await self._settle_due(rules, now)
        alive = [kept.worth for kept in self._kept.values() if not kept.over]
        told = len(alive), sum(alive)
        if told != self._told:
            self._told = told
            self._events(Watching(vouchers=told[0], worth_micro=told[1]))
        return Watched(vouchers=told[0], worth=told[1], settled=settled, amount=amount, fees=fees)

    async def _settle_due(self, rules: VenueRules, now: int) -> tuple[int, int, int]:
        """Vouchers, micro-units for others, and fees."""
        fee = rules.cost
        due: dict[bytes, _Kept] = {}
        for kept in self._kept.values():
            ready = kept.worth and not kept.over and now >= kept.expiry - self._lead_s
            if ready and (kept.session not in due or kept.worth > due[kept.session].worth):
                due[kept.session] = kept  # another one of the same session has its turn at the next look
        vouchers = {session: kept.pay for session, kept in due.items()}
        claims = [Redeemable(session=session, worth=kept.worth, expiry=kept.expiry) for session, kept in due.items()]
        settled = amount = fees = 0
        for batch in batches(claims, fee=fee, share_ppm=0, now=now, last=True):
            found = await collect(self._settlement, batch, vouchers, self._key, fee)
            for each in found.taken:
                session = each.claim.session
                paid = self._take_down(due[session], each)
                settled, amount, fees = settled + 1, amount + paid, fees + each.fee
                self._events(SettledForOthers(session=session, amount_micro=paid, fee_micro=each.fee, entry=each.entry))
            for claim, error in found.refused:
                if error.code not in NOT_NOW:
                    # Nothing proves a refusal: who answers may be behind, or lie.
                    if not due[claim.session].refused:
                        self._events(VoucherNotRedeemable(session=claim.session, reason=error.message))
                    due[claim.session].refused, due[claim.session].worth = True, 0
                    due[claim.session].look_at = now + _pause_s(rules.grace_s)
        return settled, amount, fees

    def _take_down(self, kept: _Kept, collected: Collected) -> int:
        """What the ledger shows of a voucher that it has taken; micro-units that it has paid."""
        after = self._settlement.shown(kept.terms, collected.evidence)
        left = 0 if after is None else sum(worth_of(kept.pay.voucher.amounts, after.settled, after.ceilings))
        paid, kept.worth = kept.worth - left, left
        kept.over = not left
        return paid

    async def _look_up(self, kept: _Kept, now: int, grace_s: int) -> None:
        try:
            record = await self._settlement.session(kept.session)
        except UnreachableError:
            raise
        except JoulemeshError:
            return  # what the ledger says of it does not hold; others are not held up by it
        if record is None:
            self._wait_for(kept, now, grace_s)
            return
        try:
            check_voucher(self._settlement.domain, record.session, kept.pay)
        except PeerError as error:
            self._set_aside(kept, error.message)
            return
        kept.expiry = record.session.expiry
        kept.look_at = max(now, kept.expiry - self._lead_s)
        kept.worth = sum(worth_of(kept.pay.voucher.amounts, record.settled, record.ceilings))
        if kept.worth and now > kept.expiry + grace_s:
            self._set_aside(kept, "the session's grace has ended")
        kept.over = kept.over or record.closed or (not kept.worth and now >= kept.expiry)

    def _wait_for(self, kept: _Kept, now: int, grace_s: int) -> None:
        """One that the ledger does not know may still be opened, or who answers is behind."""
        kept.look_at = now + UNKNOWN_S
        if session_id(kept.terms) != kept.session:
            return  # the file does not say when it is due
        due, end = kept.terms.expiry - self._lead_s, kept.terms.expiry + grace_s
        if now > end:
            kept.over = True  # paid, closed and forgotten, or never opened
        elif now >= due:
            kept.look_at = now + _pause_s(grace_s)
        else:
            kept.look_at = min(kept.look_at, due)

    def _set_aside(self, kept: _Kept, reason: str) -> None:
        kept.over, kept.worth = True, 0
        self._events(VoucherSetAside(file=str(kept.file), reason=reason))

    # Files

    def _read(self) -> list[VoucherSetAside]:
        """Take in files that are new or have changed; those that are gone are watched no more. In a thread.

        Returns what is to be told of files that hold no voucher, once for each.
        """
        found: dict[Path, _Kept] = {}
        bad: dict[Path, str] = {}
        for path in _voucher_files(self._paths):
            try:
                found_at = path.stat()
                version = found_at.st_mtime_ns, found_at.st_size
                known = self._kept.get(path)
                if known is None or known.version != version:
                    known = _Kept(path, version, *_voucher_in(path, found_at))
                found[path] = known
            except FileNotFoundError:
                continue
            except (OSError, MalformedError) as error:
                bad[path] = str(error)
        told = [VoucherSetAside(file=str(path), reason=why) for path, why in bad.items() if self._bad.get(path) != why]
        self._kept, self._bad = found, bad
        return told


def _pause_s(grace_s: int) -> int:
    return min(UNKNOWN_S, max(int(LOOK_S), grace_s // TRIES))


def _voucher_files(paths: Iterable[Path]) -> Iterator[Path]:
    count = 0
    for path in paths:
        for each in sorted(path.glob("*.voucher")) if path.is_dir() else [path]:
            count += 1
            if count > MOST_WATCHED:
                return
            yield each


def _voucher_in(path: Path, found_at: os.stat_result) -> tuple[Session, SignedVoucher]:
    """Raises MalformedError for a file that holds none."""
    if not stat.S_ISREG(found_at.st_mode):
        raise MalformedError("it is no file")
    if found_at.st_size > MOST_BYTES:
        raise MalformedError("it is too large for a voucher")
    try:
        stored = stored_voucher(path.read_bytes())
    except (MalformedError, ValueError):
        raise MalformedError("there is no voucher in it") from None
    if stored.pay is None:
        raise MalformedError("there is no voucher in it")
    return stored.session, stored.pay
