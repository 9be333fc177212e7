"""Who was paid by vouchers on this ledger, in how many sessions and since when: counted entry by entry.

It is what a stranger can know of a provider without having dealt with it. What it costs to be paid by oneself, an
opening's and a settlement's fee for each session, is the least that a false merit costs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from node.ledger.rows import ProviderRow
from node.ledger.wire import MAX_PROVIDERS
from protocol.identity.ids import Address
from protocol.settlement import Lookup
from protocol.settlement.operations import LogEntry

__all__ = ["Paid", "first_paid", "most_paid"]


def first_paid(state: Lookup, entry: LogEntry) -> list[Address]:
    """Whom an entry pays in a session that had not paid it before; `state` is the one before the entry."""
    found: list[Address] = []
    for effect in entry.sessions:
        record = state.session(effect.session)
        if record is not None:
            amounts = zip(record.session.legs, record.settled, effect.settled, strict=False)
            found += dict.fromkeys(Address(leg.provider) for leg, before, after in amounts if before == 0 < after)
    return found


class Paid:
    """The count, and what of it has changed since it was last asked for that."""

    def __init__(self, rows: Iterable[ProviderRow] = ()) -> None:
        self.rows = {row.address: row for row in rows}
        self._changed: set[Address] = set()

    def take(self, addresses: Iterable[Address], index: int) -> None:
        """Entry `index` has paid these for the first time in one of its sessions each."""
        for address in addresses:
            row = self.rows.get(address)
            sessions, since = (0, index) if row is None else (row.sessions, row.since)
            self.rows[address] = ProviderRow(address, sessions + 1, since)
            self._changed.add(address)

    def changes(self) -> list[ProviderRow]:
        """The rows that have changed since the last call."""
        changed = [self.rows[address] for address in self._changed]
        self._changed.clear()
        return changed


def most_paid(rows: Iterable[ProviderRow]) -> Sequence[ProviderRow]:
    """The `MAX_PROVIDERS` with the most sessions, most first; of two with as many the older one first."""
    return heapq.nsmallest(MAX_PROVIDERS, rows, key=lambda row: (-row.sessions, row.since, row.address))
