"""Where each session's keys and values lie: pages of a fixed store, counted in integers. No tensors here.

A session has so many positions at most, and pages for all of them from its beginning, or for some, and more as it
grows; one that gave all of them up begins anew. One that is over may keep the pages that it filled, until another goes
on from there. Pages are handed out as one contiguous run where any is long enough: attention then reads a view of the
store, which on CPU is 2 to 2.5 times as fast as gathering scattered pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from protocol.errors import MalformedError, RefusedError

__all__ = ["PAGE_TOKENS", "Batch", "KvBook", "Move", "PagePool", "Segment"]

PAGE_TOKENS = 16
"""Positions in one page."""


class PagePool:
    """Free pages ``0 .. count-1``, handed out in runs."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = [(0, count)] if count else []  # (first, one past last): ascending, never touching

    @property
    def free(self) -> int:
        """Pages not handed out."""
        return sum(end - start for start, end in self._free)

    def take(self, count: int) -> tuple[int, ...] | None:
        """`count` pages: the tightest run that holds them all, else the longest runs there are; None if too few."""
        if count > self.free:
            return None
        fitting = [run for run in self._free if run[1] - run[0] >= count]
        if fitting:
            return self._cut(min(fitting, key=lambda run: (run[1] - run[0], run[0])), count)
        pages: list[int] = []
        while (rest := count - len(pages)) > 0:
            longest = max(self._free, key=lambda run: (run[1] - run[0], -run[0]))
            pages.extend(self._cut(longest, min(rest, longest[1] - longest[0])))
        return tuple(pages)

    def give(self, pages: Sequence[int]) -> None:
        """Take pages back, joining neighbouring runs."""
        runs = sorted([*self._free, *((page, page + 1) for page in pages)])
        joined: list[tuple[int, int]] = []
        for start, end in runs:
            if joined and start < joined[-1][1]:
                raise ValueError(f"page {start} is given back twice")
            if joined and start == joined[-1][1]:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((start, end))
        self._free = joined

    def extend(self, pages: tuple[int, ...], count: int) -> tuple[int, ...] | None:
        """`count` pages in place of `pages`: the same where they can stay, one run elsewhere; None if too few.

        Fewer are the first of them. Where nothing holds all in one run, the same and some that lie apart.
        """
        missing = count - len(pages)
        if not pages:
            return self.take(count)
        if missing <= 0:
            self.give(pages[count:])
            return pages[:count]
        if missing > self.free:
            return None
        behind = next((run for run in self._free if run[0] == pages[-1] + 1), (0, 0))
        if _in_one_run(pages) and behind[1] - behind[0] >= missing:
            return (*pages, *self._cut(behind, missing))
        self.give(pages)
        if any(end - start >= count for start, end in self._free):
            return self.take(count)
        self._claim(pages)
        return (*pages, *(self.take(missing) or ()))

    def _claim(self, pages: Sequence[int]) -> None:
        """Take these very pages, which are free."""
        for page in pages:
            start, end = next(run for run in self._free if run[0] <= page < run[1])
            at = self._free.index((start, end))
            self._free[at : at + 1] = [run for run in ((start, page), (page + 1, end)) if run[0] < run[1]]

    def _cut(self, run: tuple[int, int], count: int) -> tuple[int, ...]:
        start, end = run
        at = self._free.index(run)
        self._free[at : at + 1] = [(start + count, end)] if start + count < end else []
        return tuple(range(start, start + count))


def _in_one_run(pages: Sequence[int]) -> bool:
    return all(right == left + 1 for left, right in pairwise(pages))


class Move(NamedTuple):
    """What lies in some slots of the store has to be in others now; all is read before anything is written."""

    source: list[int]
    target: list[int]


@dataclass(slots=True)
class _Room:
    pages: tuple[int, ...]
    most: int
    length: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """One session's rows in a packed batch."""

    row: int
    """Its first row in the batch."""
    length: int
    """Rows."""
    position: int
    """Of its first row in the session: so many positions are in the KV already."""
    pages: tuple[int, ...]
    """The session's pages, in order of position."""

    @property
    def end(self) -> int:
        """Positions in the KV after the pass."""
        return self.position + self.length

    @property
    def contiguous(self) -> bool:
        """Whether the pages that hold positions ``[0, end)`` follow one another in the store."""
        return _in_one_run(self.pages[: _pages_for(self.end)])

    def slots(self, start: int, end: int) -> list[int]:
        """Where in the store positions ``[start, end)`` lie."""
        return _slots(self.pages, start, end)


def _pages_for(tokens: int) -> int:
    return -(-tokens // PAGE_TOKENS)


def _slots(pages: Sequence[int], start: int, end: int) -> list[int]:
    return [pages[p // PAGE_TOKENS] * PAGE_TOKENS + p % PAGE_TOKENS for p in range(start, end)]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one packed pass consists of: integers only, and all that a paged attention kernel asks for."""

    segments: tuple[Segment, ...]
    """In order of row, leaving no row out."""

    @property
    def rows(self) -> int:
        """Rows in all."""
        return sum(segment.length for segment in self.segments)


class KvBook:
    """Which session holds which pages, and how many positions are in them.

    Args:
        tokens: room for so many positions, rounded down to whole pages.
    """

    def __init__(self, tokens: int) -> None:
        self._pool = PagePool(tokens // PAGE_TOKENS)
        self._rooms: dict[bytes, _Room] = {}

    @property
    def capacity(self) -> int:
        """Positions that fit in all."""
        return self._pool.count * PAGE_TOKENS

    @property
    def free(self) -> int:
        """Positions for which there are pages that nobody has."""
        return self._pool.free * PAGE_TOKENS

    def reserve(self, session: bytes, tokens: int, first: int | None = None) -> None:
        """Room for `tokens` positions, with pages for the `first` of them, by default for all.

        Raises RefusedError: ``no-room``, or ``session-open`` already.
        """
        if session in self._rooms:
            raise RefusedError("the session is open here already", code="session-open")
        first = tokens if first is None else min(first, tokens)
        pages = self._pool.take(max(1, _pages_for(first)))
        if pages is None:
            raise self._no_room(first)
        self._rooms[session] = _Room(pages, tokens)

    def grow(self, session: bytes, tokens: int) -> Move | None:
        """See that there are pages for the first `tokens` positions, or for all that it may have.

        Returns what has to be copied in the store, if anything.

        Raises:
            RefusedError: ``no-room``; it is as it was.
            MalformedError: it is not open.
        """
        room = self._room(session)
        count = _pages_for(min(tokens, room.most))
        if count <= len(room.pages):
            return None
        pages = self._pool.extend(room.pages, count)
        if pages is None:
            raise self._no_room((count - len(room.pages)) * PAGE_TOKENS)
        source, target = (_slots(each, 0, room.length) for each in (room.pages, pages))
        room.pages = pages
        return None if source == target else Move(source, target)

    def empty(self, session: bytes) -> None:
        """Free all of a session's pages; it stays open, and begins anew. One that is not open is ignored."""
        if (room := self._rooms.get(session)) is not None:
            self._pool.give(room.pages)
            room.pages, room.length = (), 0

    def trim(self, session: bytes, length: int) -> int:
        """Forget positions from `length` on, and free the room beyond them; the room that is kept, in positions.

        Raises MalformedError when there are fewer.
        """
        self.rollback(session, length)
        room = self._rooms[session]
        kept = min(len(room.pages), max(1, _pages_for(length)))
        self._pool.give(room.pages[kept:])
        room.pages, room.most = room.pages[:kept], length
        return kept * PAGE_TOKENS

    def adopt(
        self, old: bytes, new: bytes, length: int, tokens: int, *, keep: bool = False, first: int | None = None
    ) -> Move | None:
        """Give the first `length` positions of a session to a new one with room for `tokens`.

        Returns what has to be copied in the store, if anything. The old one is gone, unless it is to be kept. The new
        one has pages for the `first` positions, by default for all.

        Raises:
            RefusedError: ``no-room``, or ``session-open`` already; the old one is as it was.
            MalformedError: it is not open, or has fewer positions; or they do not fit.
        """
        room = self._room(old)
        if new in self._rooms:
            raise RefusedError("the session is open here already", code="session-open")
        if not 0 <= length <= min(room.length, tokens):
            raise MalformedError(f"{length} positions of {room.length} go into room for {tokens}")
        first = tokens if first is None else max(length, min(first, tokens))
        count = max(1, _pages_for(first))
        pages = self._pool.take(count) if keep else self._pool.extend(room.pages, count)
        if pages is None:
            raise self._no_room(first - (0 if keep else len(room.pages) * PAGE_TOKENS))
        if not keep:
            del self._rooms[old]
        self._rooms[new] = _Room(pages, tokens, length)
        source, target = (_slots(each, 0, length) for each in (room.pages, pages))
        return None if source == target or not length else Move(source, target)

    def _no_room(self, tokens: int) -> RefusedError:
        return RefusedError(
            f"room for {self.free} more positions, {tokens} asked for",
            code="no-room",
            hint="ask for fewer tokens, try again later, or choose another provider",
        )

    def release(self, session: bytes) -> None:
        """Free a session's pages; one that has none is ignored."""
        if (room := self._rooms.pop(session, None)) is not None:
            self._pool.give(room.pages)

    def length(self, session: bytes) -> int:
        """Positions that are in the KV. Raises MalformedError for a session that is not open."""
        return self._room(session).length

    def check(self, session: bytes, position: int, length: int) -> None:
        """That rows may come to stand at a position, the next one or one before it.

        Raises MalformedError: not open, behind the next position, or beyond the room or its pages.
        """
        room = self._room(session)
        if length < 1:
            raise MalformedError(f"{length} rows")
        if not 0 <= position <= room.length:
            raise MalformedError(f"position {position} where {room.length} is next", code="out-of-order")
        if position + length > room.most:
            raise MalformedError(f"position {position + length - 1} of {room.most} reserved", code="beyond-reservation")
        if position + length > len(room.pages) * PAGE_TOKENS:
            raise MalformedError(f"no page for position {position + length - 1}", code="beyond-reservation")

    def segment(self, session: bytes, row: int, length: int) -> Segment:
        """A batch's segment for the session's next `length` positions."""
        room = self._room(session)
        return Segment(row, length, room.length, room.pages)

    def advance(self, session: bytes, length: int) -> None:
        """`length` more positions are in the KV now."""
        self._room(session).length += length

    def rollback(self, session: bytes, length: int) -> None:
        """Forget positions from `length` on; the room stays reserved. Raises MalformedError when there are fewer."""
        room = self._room(session)
        if not 0 <= length <= room.length:
            raise MalformedError(f"rollback to {length} of {room.length} positions")
        room.length = length

    def _room(self, session: bytes) -> _Room:
        if (room := self._rooms.get(session)) is None:
            raise MalformedError("the session is not open here", code="unknown-session")
        return room
