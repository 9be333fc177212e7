"""Sessions that are over and whose KV is still there: the same client may go on from them, until room is needed.

They cost nobody a place: whoever needs their pages has them, and those that were kept longest go first. It decides;
whoever asks closes them in the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from node.pipeline.serving.trail import Trail, Trails
from protocol.identity.ids import Address, BlockSpan
from protocol.models.activations import ActivationType

__all__ = ["Ended", "Origin", "Warm"]

MOST = 256
"""Sessions."""
MOST_OF_CLIENT = 32
"""Of them of one client: its newest."""
KEPT_S = 1800.0
"""Seconds."""


class Origin(NamedTuple):
    """A session that another one went on from."""

    session: bytes
    """Its id."""
    positions: int
    """So many of the first positions are those of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A session that is over, as this leg holds it."""

    session: bytes
    """Its id, under which the engine knows it."""
    origins: tuple[Origin, ...] = ()
    """The sessions that it went on from, newest first."""
    client: Address
    blocks: BlockSpan
    """That it went through."""
    length: int
    """Positions in the KV."""
    room: int
    """Positions that others could have in place of it."""
    activations: ActivationType
    """In which the trail is kept."""
    trail: Trail | None
    """What it sent on; None at a last leg."""

    def shared_with(self, session: bytes) -> int:
        """So many of its positions are the first ones of that session, too."""
        if session == self.session:
            return self.length
        return min(self.length, next(each.positions for each in self.origins if each.session == session))


class Warm:
    """The sessions that are kept warm.

    Args:
        now: seconds on a steady clock.
        most: sessions.
        kept_s: for how long, in seconds; asked anew each time.
    """

    def __init__(
        self,
        trails: Trails,
        now: Callable[[], float],
        *,
        most: int = MOST,
        most_of_client: int = MOST_OF_CLIENT,
        kept_s: Callable[[], float] = lambda: KEPT_S,
    ) -> None:
        self._trails = trails
        self._now = now
        self._most = most
        self._most_of_client = most_of_client
        self._kept_s = kept_s
        self._ended: dict[bytes, tuple[Ended, float]] = {}
        """By id, with the time at which each ended; first those that ended first."""
        self._named: dict[tuple[Address, bytes], Ended] = {}
        """By their clients and the sessions that they went on from; of several, the newest."""

    def __len__(self) -> int:
        return len(self._ended)

    @property
    def room(self) -> int:
        """Positions that could be had in place of all of them."""
        return sum(ended.room for ended, _ in self._ended.values())

    def keep(self, ended: Ended) -> list[bytes]:
        """A session is over; ids of those that go in its place, which the engine has to close."""
        self._ended[ended.session] = ended, self._now()
        self._named |= {(ended.client, each.session): ended for each in ended.origins}
        if ended.trail is not None:
            self._trails.rest(ended.trail)
        own = [each.session for each, _ in self._ended.values() if each.client == ended.client]
        out = own[: max(0, len(own) - self._most_of_client)]
        out += [session for session in self._ended if session not in out][: max(0, len(self) - len(out) - self._most)]
        return [self._drop(session) for session in out]

    def find(self, name: bytes, client: Address, blocks: BlockSpan) -> Ended | None:
        """The session with this id to go on from, or one that went on from it; None where this client has none."""
        own, _ = self._ended.get(name, (None, 0.0))
        ended = own if own is not None and own.client == client else self._named.get((client, name))
        if ended is None or ended.blocks != blocks or not self._lasts(ended.session):
            return None
        return ended

    def take(self, name: bytes, client: Address, blocks: BlockSpan) -> Ended | None:
        """As `find`; it is kept here no longer, and its trail is the caller's to go on with, or to end."""
        ended = self.find(name, client, blocks)
        if ended is None:
            return None
        self._forget(ended)
        if ended.trail is not None:
            self._trails.wake(ended.trail)
        return ended

    def make_room(self, missing: int) -> list[bytes]:
        """Ids of sessions that leave so that `missing` more positions fit; none where that would not do."""
        if missing > self.room:
            return []
        out = []
        for ended, _ in list(self._ended.values()):
            if missing <= 0:
                break
            missing -= ended.room
            out.append(self._drop(ended.session))
        return out

    def lapsed(self) -> list[bytes]:
        """Ids of sessions whose time is over."""
        return [self._drop(session) for session in list(self._ended) if not self._lasts(session)]

    def _lasts(self, session: bytes) -> bool:
        return self._now() - self._ended[session][1] < self._kept_s()

    def _drop(self, session: bytes) -> bytes:
        ended, _ = self._ended[session]
        self._forget(ended)
        if ended.trail is not None:
            self._trails.end(ended.trail)
        return session

    def _forget(self, ended: Ended) -> None:
        del self._ended[ended.session]
        for each in ended.origins:
            if self._named.get((ended.client, each.session)) is ended:
                del self._named[ended.client, each.session]
