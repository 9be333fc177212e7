"""Sessions that wait for their turn, by client: who has had least of those that wait comes first.

So a client gets its share however many sessions it has, and however many it opens. Within a client's share its
sessions come in order of arrival. Clients that never paid here together get no more than those that have: what they
are given counts for more where they are more (`protocol.market.admission.charge`), so new keys bring nothing.

Start-time fair queueing on integers: a client that comes back goes on from what it had, or from where those that wait
are by now, whichever is more. Nothing is saved up by keeping away.
"""

from __future__ import annotations

from typing import NamedTuple

from protocol.market.admission import UNIT, charge

__all__ = ["Customer", "FairQueue", "Turn"]


class Turn(NamedTuple):
    """So many rows of one session run in the next pass."""

    session: bytes
    rows: int


class Customer(NamedTuple):
    """Whose sessions share what."""

    address: bytes
    known: bool
    """Whether it has paid here before."""


class FairQueue:
    """Rows of sessions that could run now.

    Args:
        quantum: rows that one client is given at a time while others wait, at least 1.
        whole: whether a session's rows are taken all or not at all; none may have more than a pass has room for.
    """

    def __init__(self, quantum: int, *, whole: bool = False) -> None:
        self._quantum = quantum
        self._whole = whole
        self._rows: dict[bytes, int] = {}
        self._total = 0
        """Of all rows."""
        self._customers: dict[bytes, Customer] = {}
        """By session."""
        self._waiting: dict[Customer, dict[bytes, None]] = {}
        """Their sessions, in order of arrival."""
        self._had: dict[Customer, int] = {}
        """What each was charged in all; only of those that are ahead."""
        self._least = 0
        """What the last one that was served had been charged: nobody who waits has had less."""

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, session: bytes, rows: int, customer: Customer) -> None:
        """How many rows of a session could run now; 0 for none. One that waits already keeps its place."""
        before = self._customers.get(session)
        if before is None and rows <= 0:
            return
        if before is not None and (rows <= 0 or before != customer):
            self._drop(session)
        if rows > 0:
            self._total += rows - self._rows.get(session, 0)
            self._rows[session] = rows
            self._customers[session] = customer
            self._waiting.setdefault(customer, {})[session] = None

    def take(self, room: int) -> list[Turn]:
        """Turns of at most `room` rows in all, which wait no longer; what is left of one that was cut keeps its
        place.
        """
        if self._total <= room:  # nobody has to wait for anybody
            everything = [Turn(*each) for each in self._rows.items()]
            if everything or self._had:
                self._clear()
            return everything
        taken: dict[bytes, int] = {}
        while room > 0 and self._waiting:
            customer = min(self._waiting, key=self._order)
            session = next(iter(self._waiting[customer]))
            rows, cost = self._rows[session], self._charge(customer)
            if not self._whole:
                alone = len(self._waiting) == 1
                rows = min(rows, room, room if alone else max(1, self._quantum * UNIT // cost))
            elif rows > room:
                break
            self._serve(customer, session, rows, rows * cost)
            taken[session] = taken.get(session, 0) + rows
            room -= rows
        for customer in [each for each, had in self._had.items() if had <= self._least]:
            del self._had[customer]  # of those who are not ahead nothing has to be known
        return [Turn(*each) for each in taken.items()]

    def _order(self, customer: Customer) -> tuple[int, bool]:
        return max(self._least, self._had.get(customer, 0)), not customer.known

    def _charge(self, customer: Customer) -> int:
        known = sum(each.known for each in self._waiting)
        return charge(customer.known, known=known, guests=len(self._waiting) - known)

    def _serve(self, customer: Customer, session: bytes, rows: int, cost: int) -> None:
        self._least = max(self._least, self._had.get(customer, 0))
        self._had[customer] = self._least + cost
        if rows < self._rows[session]:
            self._rows[session] -= rows
            self._total -= rows
        else:
            self._drop(session)

    def _drop(self, session: bytes) -> None:
        customer = self._customers.pop(session)
        self._total -= self._rows.pop(session)
        del self._waiting[customer][session]
        if not self._waiting[customer]:
            del self._waiting[customer]

    def _clear(self) -> None:
        for each in (self._rows, self._customers, self._waiting, self._had):
            each.clear()
        self._least = self._total = 0
