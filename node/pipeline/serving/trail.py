"""What a leg sent on of its sessions, kept so that it can be sent again: to a replacement, or when a session continues.

A trail is whole from the first position on, or it is of no use: what computes anew needs everything. One that outgrows
its bound is lost; where all of them together outgrow theirs, whole trails are: first those of sessions that are over,
then the longest. What is lost can be computed again, at the cost of time. Nothing here sends anything.
"""

from __future__ import annotations

__all__ = ["MOST_OF_SESSION", "REPLAY_BYTES", "Trail", "Trails"]

MOST_OF_SESSION = 64 << 20
"""Bytes of one session's rows."""
REPLAY_BYTES = 1 << 20
"""Of rows in one frame of a replay, or one row: all of a trail are few frames."""
MOST_OF_ALL = 512 << 20
"""Bytes of the rows of all sessions."""


class Trail:
    """Rows of one session as they went over the wire, by position. `Trails.begin` makes it."""

    def __init__(self, trails: Trails, row_bytes: int) -> None:
        self.row_bytes = row_bytes
        """Of one row."""
        self._trails = trails
        self._rows = bytearray()
        self._lost = False

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return len(self._rows)

    @property
    def whole(self) -> int:
        """Positions, from the first on, whose rows can be sent again; 0 once the trail is lost."""
        return len(self._rows) // self.row_bytes

    def append(self, position: int, raw: bytes) -> None:
        """Keep rows from `position` on, in place of those that are kept for it and for what follows.

        With rows behind a gap the trail is lost, until it begins anew at the first position.
        """
        if position == 0:
            self._lost = False
        if self._lost:
            return
        whole = len(self._rows) // self.row_bytes
        if position < whole:
            self.cut(position)
        elif position > whole:
            self.lose()
            return
        self._rows += raw
        self._trails.resized(self, len(raw))

    def cut(self, position: int) -> None:
        """Forget rows from `position` on."""
        before = len(self._rows)
        del self._rows[position * self.row_bytes :]
        self._trails.resized(self, len(self._rows) - before)

    def rows(self, start: int, end: int) -> bytes | None:
        """Those of positions ``[start, end)``; None where not all of them are kept."""
        if not 0 <= start <= end <= self.whole:
            return None
        return bytes(memoryview(self._rows)[start * self.row_bytes : end * self.row_bytes])

    def lose(self) -> None:
        """Forget all rows, and keep none of those that follow."""
        freed, self._rows, self._lost = len(self._rows), bytearray(), True
        self._trails.resized(self, -freed)

    def end(self) -> None:
        """Nobody will ask for it any more."""
        self._trails.end(self)


class Trails:
    """The trails of all sessions at a node, and the room that they share.

    Args:
        most_of_session, most_of_all: bytes.
    """

    def __init__(self, *, most_of_session: int = MOST_OF_SESSION, most_of_all: int = MOST_OF_ALL) -> None:
        self._most_of_session = most_of_session
        self._most_of_all = most_of_all
        self._served: dict[Trail, None] = {}
        """Those that hold something."""
        self._resting: dict[Trail, None] = {}
        """Of sessions that are over: first those that ended first."""
        self.size = 0
        """Bytes of all rows."""

    def __len__(self) -> int:
        return len(self._served) + len(self._resting)

    def begin(self, row_bytes: int) -> Trail:
        """An empty trail, of a session that begins."""
        return Trail(self, row_bytes)

    def copy(self, trail: Trail, positions: int) -> Trail:
        """A trail with the same rows of the first positions, as far as they are kept."""
        copied = self.begin(trail.row_bytes)
        copied.append(0, trail.rows(0, min(positions, trail.whole)) or b"")
        return copied

    def rest(self, trail: Trail) -> None:
        """Its session is over, and may be continued."""
        self._served.pop(trail, None)
        self._resting[trail] = None

    def wake(self, trail: Trail) -> None:
        """Another session goes on with it."""
        self._resting.pop(trail, None)
        if trail.size:
            self._served[trail] = None

    def end(self, trail: Trail) -> None:
        """Nobody will ask for it any more."""
        trail.lose()
        self._resting.pop(trail, None)

    def resized(self, trail: Trail, by: int) -> None:
        """A trail takes so many bytes more, or fewer: see that all keep within their bounds."""
        self.size += by
        if by > 0 and trail.size <= self._most_of_session and self.size <= self._most_of_all and trail in self._served:
            return
        if not trail.size:
            self._served.pop(trail, None)
        elif trail not in self._resting:
            self._served[trail] = None
        if by <= 0:
            return
        if trail.size > self._most_of_session:
            trail.lose()
        while self.size > self._most_of_all:
            resting = next((each for each in self._resting if each.size), None)
            (resting or max(self._served, key=lambda each: each.size)).lose()
