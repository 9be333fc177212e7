"""When the ledger or the network is lost and back: each told once, however often it is looked at."""

from __future__ import annotations

from collections.abc import Callable

from node.events import Events, LedgerBack, LedgerLost, NetworkBack, NetworkLost

__all__ = ["Presence"]


class Presence:
    """Remembers what was there at the last look.

    Args:
        url: the ledger's.
        seconds: a clock that never goes back.
    """

    def __init__(self, url: str, events: Events, seconds: Callable[[], float]) -> None:
        self._url = url
        self._events = events
        self._seconds = seconds
        self._silent_since: float | None = None
        self._alone = False

    def ledger_answered(self) -> None:
        """The ledger was asked, and answered."""
        if self._silent_since is not None:
            self._events(LedgerBack(url=self._url, seconds=round(self._seconds() - self._silent_since, 1)))
            self._silent_since = None

    def ledger_silent(self, reason: str) -> None:
        """The ledger was asked, and did not answer."""
        if self._silent_since is None:
            self._silent_since = self._seconds()
            self._events(LedgerLost(url=self._url, reason=reason))

    def peers(self, count: int) -> None:
        """So many peers are connected."""
        if count == 0 and not self._alone:
            self._events(NetworkLost())
        elif count and self._alone:
            self._events(NetworkBack(peers=count))
        self._alone = count == 0
