"""Deeds of peers in memory: one row for each peer, deed and day, a bounded number of them.

Where there are too many, whole peers are forgotten: first those of whom nothing good is known, and of these the ones
without an offence; the longest unheard of first. So a crowd of new keys pushes out one another, and nobody who paid or
served.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from protocol.reputation.standing import (
    DAY_S,
    FAILURES,
    KEPT_DAYS,
    MERITS,
    NEWCOMER,
    OFFENCES,
    Deed,
    Standing,
    Tally,
)

__all__ = ["MAX_ABOUT", "MAX_ROWS", "MAX_SUM", "Acquaintance", "Deeds", "Row"]

MAX_ROWS = 10_000
"""Rows that are remembered; some 5 MB in memory, 2 MB on disk."""
KEPT_OF_FULL = 9, 10
"""What stays once there are too many: not one peer at a time is forgotten, so that it costs little each time."""
MAX_ABOUT = 200
"""Characters of a reason."""
MAX_SUM = 1 << 61
"""Counts and amounts end here: two of them fit what a database counts in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one peer did of one kind on one day."""

    deed: Deed
    day: int
    """Days since 1970."""
    count: int
    amount: int
    """Micro-units."""
    in_row: int
    """Failures of these that no merit has followed."""
    last_at: int
    """Unix seconds."""
    about: str
    """Of the last one, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquaintance:
    """One peer that is remembered, and why it stands as it does."""

    address: bytes
    standing: Standing
    about: Mapping[Deed, str]
    """What was said of the last one of each deed; for people."""


class Deeds:
    """Rows by peer. Times are Unix seconds."""

    def __init__(self, most: int = MAX_ROWS) -> None:
        self.redeemed: set[bytes] = set()
        """Peers whose earlier failures no longer count in a row, since these deeds began."""
        self._most = most
        self._rows: dict[bytes, dict[tuple[Deed, int], Row]] = {}
        self._count = 0
        self._standings: dict[bytes, Standing] = {}

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return bool(self._rows)

    def rows(self) -> Iterator[tuple[bytes, Row]]:
        """Every row, with its peer."""
        return ((address, row) for address, rows in self._rows.items() for row in rows.values())

    def take(self, address: bytes, deed: Deed, *, at: int, count: int = 1, amount: int = 0, about: str = "") -> None:
        """Count what a peer did at a time."""
        in_row = count if deed in FAILURES else 0
        row = Row(
            deed=deed, day=at // DAY_S, count=count, amount=amount, in_row=in_row, last_at=at, about=about[:MAX_ABOUT]
        )
        if deed in MERITS:
            self._redeem(address)
        self._add(address, row)

    def load(self, rows: Iterable[tuple[bytes, Row]], now: int) -> None:
        """Take in rows as they were kept. What a clock that ran ahead has dated counts as of today."""
        for address, row in rows:
            if row.last_at > now:
                row = replace(row, last_at=now, day=now // DAY_S)
            self._add(address, row)

    def absorb(self, later: Deeds) -> None:
        """Take in what was counted apart, after all that is here."""
        for address in later.redeemed:
            self._redeem(address)
        for address, row in later.rows():
            self._add(address, row)

    def forget(self, address: bytes | None) -> None:
        """Forget a peer, or all of them."""
        for each in list(self._rows) if address is None else [address]:
            self._count -= len(self._rows.pop(each, {}))
            self._standings.pop(each, None)
            self.redeemed.discard(each)

    def standing(self, address: bytes, now: int) -> Standing:
        """What is remembered of a peer."""
        rows = self._rows.get(address)
        if rows is None:
            return NEWCOMER
        if any(_is_over(row, now) for row in rows.values()):
            self._expire(address, now)
        if address not in self._standings:
            self._standings[address] = _standing_of(self._rows.get(address, {}).values())
        return self._standings[address]

    def acquaintances(self, now: int) -> list[Acquaintance]:
        """All peers that are remembered, by address."""
        found = []
        for address in sorted(self._rows):
            standing = self.standing(address, now)
            rows = sorted(self._rows.get(address, {}).values(), key=lambda row: row.last_at)
            if rows:
                about = MappingProxyType({row.deed: row.about for row in rows})
                found.append(Acquaintance(address=address, standing=standing, about=about))
        return found

    def _add(self, address: bytes, row: Row) -> None:
        rows = self._rows.setdefault(address, {})
        before = rows.get((row.deed, row.day))
        self._count += before is None
        rows[row.deed, row.day] = row if before is None else _sum(before, row)
        self._standings.pop(address, None)
        if self._count > self._most:
            self._make_room()

    def _redeem(self, address: bytes) -> None:
        self.redeemed.add(address)
        rows = self._rows.get(address, {})
        rows.update({key: replace(row, in_row=0) for key, row in rows.items()})

    def _expire(self, address: bytes, now: int) -> None:
        left = {key: row for key, row in self._rows[address].items() if not _is_over(row, now)}
        self._count -= len(self._rows[address]) - len(left)
        self._rows[address] = left
        self._standings.pop(address, None)
        if not left:
            del self._rows[address]
            self.redeemed.discard(address)

    def _make_room(self) -> None:
        enough = self._most * KEPT_OF_FULL[0] // KEPT_OF_FULL[1]
        for address in sorted(self._rows, key=self._use_of):
            if self._count <= enough:
                break
            self._count -= len(self._rows.pop(address))
            self._standings.pop(address, None)
            self.redeemed.discard(address)

    def _use_of(self, address: bytes) -> tuple[bool, bool, int]:
        """Of what use it is to remember a peer: the least goes first."""
        rows = self._rows[address].values()
        deeds = {row.deed for row in rows}
        return not deeds.isdisjoint(MERITS), not deeds.isdisjoint(OFFENCES), max(row.last_at for row in rows)


def _is_over(row: Row, now: int) -> bool:
    return row.last_at + KEPT_DAYS * DAY_S <= now


def _sum(before: Row, later: Row) -> Row:
    return replace(
        later,
        count=min(MAX_SUM, before.count + later.count),
        amount=min(MAX_SUM, before.amount + later.amount),
        in_row=min(MAX_SUM, before.in_row + later.in_row),
        last_at=max(before.last_at, later.last_at),
    )


def _standing_of(rows: Iterable[Row]) -> Standing:
    tallies: dict[Deed, Tally] = {}
    in_row = 0
    for row in rows:
        before = tallies.get(row.deed, Tally())
        tallies[row.deed] = Tally(
            before.count + row.count, before.amount + row.amount, max(before.last_at, row.last_at)
        )
        in_row += row.in_row
    return Standing(MappingProxyType(tallies), in_row)
