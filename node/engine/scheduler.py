"""Which waiting rows form the next forward pass: integers only.

Short items (decode steps) go before long ones (prefill chunks), each kind first come first served. A long item is cut
to the room that is left; what remains of it keeps its place. So a long prompt never holds up decoding sessions, and
many decoding sessions never hold up a prompt: while one waits, it gets a share of every pass.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["SHORT_ROWS", "Item", "Scheduler"]

SHORT_ROWS = 8
"""Items up to this length run whole, before longer ones: a decode step, or a few drafted tokens to verify."""


@dataclass(frozen=True, slots=True)
class Item:
    """Rows of one session that are ready to run."""

    session: bytes
    position: int
    """Of the first row."""
    length: int
    """Rows, at least 1."""


class Scheduler:
    """The queue of waiting items. A session has at most one in it.

    Args:
        max_batched_tokens: most rows in one pass; at least 4 * SHORT_ROWS.
    """

    def __init__(self, max_batched_tokens: int) -> None:
        if max_batched_tokens < 4 * SHORT_ROWS:
            raise ValueError(f"{max_batched_tokens} rows a pass are too few")
        self._most = max_batched_tokens
        self._short: deque[Item] = deque()
        self._long: deque[Item] = deque()

    def __len__(self) -> int:
        return len(self._short) + len(self._long)

    def add(self, item: Item) -> None:
        """Queue an item."""
        (self._short if item.length <= SHORT_ROWS else self._long).append(item)

    def drop(self, session: bytes) -> None:
        """Forget a session's item, if one waits."""
        self._short = deque(item for item in self._short if item.session != session)
        self._long = deque(item for item in self._long if item.session != session)

    def next_batch(self) -> list[Item]:
        """The items, or first pieces of items, of the next pass; empty only when nothing waits."""
        room = self._most
        batch: list[Item] = []
        reserved = self._most // 4 if self._long else 0
        while self._short and self._short[0].length <= room - reserved:
            batch.append(self._short.popleft())
            room -= batch[-1].length
        while self._long and room > 0:
            item = self._long.popleft()
            cut = min(item.length, room)
            batch.append(Item(item.session, item.position, cut))
            room -= cut
            if cut < item.length:
                self._long.appendleft(Item(item.session, item.position + cut, item.length - cut))
        return batch
