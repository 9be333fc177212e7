"""How often one asker may ask: token buckets, in bounded memory (docs/spec/ledger.md, clause C7).

Honest use never meets them. They keep one machine or one key from taking the ledger away from all others; what every
accepted operation costs in money is the settlement rules' part (docs/spec/settlement.md, clause L11).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from node.ledger.recent import Recent
from protocol.errors import RefusedError

__all__ = ["BUSY", "Buckets", "Rate", "Rates", "TooOftenError"]

BUSY = "busy"
_MAX_ASKERS = 65_536


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and so many a second after that."""

    burst: int
    per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a ledger's port allows."""

    address: Rate = Rate(3_000, 400)
    """Requests from one address; a /64 counts as one where it is IPv6. Beyond it they are delayed, not refused, as long
    as their connection has asked little: others may share the address."""
    guest: Rate = Rate(10, 1)
    """Requests of one connection at an address that asks too often."""
    proven: Rate = Rate(500, 100)
    """Requests of a connection over which an operation was taken, which has cost a fee; its address is not counted."""
    key: Rate = Rate(2_000, 200)
    """Operations of one key that carry its valid signature."""
    faucet: Rate = Rate(2_000, 20)
    """Requests for play money from one address."""


class TooOftenError(RefusedError):
    """Asked more often than the port allows; code ``busy``."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = max(1, math.ceil(wait_s))
        """Whole seconds after which to ask again."""
        super().__init__("too many requests", code=BUSY, hint=f"try again in {self.wait_s} s")


class Buckets:
    """One bucket for each asker. Those that were not seen for longest are forgotten first.

    Args:
        clock: seconds that only rise.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float], *, most: int = _MAX_ASKERS) -> None:
        self._rate = rate
        self._clock = clock
        self._empty_until: Recent[object, float] = Recent(most)
        """When each bucket will have been refilled; one that is full need not be here."""

    def check(self, asker: object) -> None:
        """Raises TooOftenError where nothing is left for `asker`; takes nothing."""
        self._look(asker, self._clock())

    def take(self, asker: object, count: int = 1) -> None:
        """Take one, or several where one is left. Raises TooOftenError where none is."""
        now = self._clock()
        self._empty_until.put(asker, self._look(asker, now) + count / self._rate.per_s)

    def _look(self, asker: object, now: float) -> float:
        full_at = max(now, self._empty_until.get(asker) or now)
        over = full_at - now - (self._rate.burst - 1) / self._rate.per_s
        if over > 0:
            raise TooOftenError(over)
        return full_at
