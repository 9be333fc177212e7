"""What is known for a key here: from the ledger, from who answered, and from own experience."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache

from node.ports import Clock
from protocol.errors import JoulemeshError
from protocol.identity.ids import Address
from protocol.identity.signing import address_of_public_key
from protocol.reputation.merit import Merit, merit_of
from protocol.reputation.standing import NEWCOMER, Standing

__all__ = ["Merits", "PaidProviders"]

PaidProviders = Callable[[], Awaitable[Mapping[bytes, int]]]
"""Who was paid on the ledger, by 20-byte address, and in how many sessions."""

_MOST_ANSWERED = 4096


@lru_cache(maxsize=8192)
def _address_of(public_key: bytes) -> Address:
    """A key's address, which takes some arithmetic."""
    return address_of_public_key(public_key)


class Merits:
    """Belongs to one event loop.

    Args:
        standing: what is remembered of a peer, by its address.
    """

    def __init__(
        self,
        now: Clock,
        *,
        standing: Callable[[bytes], Standing] = lambda _address: NEWCOMER,
    ) -> None:
        self._now = now
        self._standing = standing
        self.ask: PaidProviders | None = None
        """Asks the ledger; None where nobody does."""
        self._paid: Mapping[bytes, int] = {}
        self._answered: OrderedDict[bytes, None] = OrderedDict()

    def of(self, public_key: bytes) -> Merit:
        """The merit of a key."""
        address = _address_of(public_key)
        return merit_of(
            self._standing(address),
            paid=address in self._paid,
            answered=public_key in self._answered,
            now=self._now(),
        )

    def answered(self, public_key: bytes) -> None:
        """A node was reached at its offer's address, and proved this key."""
        self._answered[public_key] = None
        self._answered.move_to_end(public_key)
        if len(self._answered) > _MOST_ANSWERED:
            self._answered.popitem(last=False)

    def silent(self, public_key: bytes) -> None:
        """Nobody proved this key at its offer's addresses."""
        self._answered.pop(public_key, None)

    def is_paid(self, public_key: bytes) -> bool:
        """Whether the ledger knows this key as a provider that was paid; from any thread. Raises MalformedError."""
        return bool(self._paid) and _address_of(public_key) in self._paid

    async def refresh(self) -> None:
        """Ask the ledger anew who was paid. Where it does not say, what it said before still counts."""
        if self.ask is None:
            return
        try:
            self._paid = await self.ask()
        except JoulemeshError:
            return
