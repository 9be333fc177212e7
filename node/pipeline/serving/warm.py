"""Sessions that are over and whose KV is still there: the same client may go on from them, until room is needed.

They cost nobody a place: whoever needs their pages has them, and those that were kept longest go first. It decides;
whoever asks closes them in the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from node.pipeline.serving.trail import Trail, Trails
from protocol.activations import ActivationType
from protocol.ids import Address, BlockSpan

__all__ = ["Ended", "Warm"]

MOST = 256
"""Sessions."""
MOST_OF_CLIENT = 32
"""Of them of one client: its newest."""
KEPT_S = 1800.0
"""Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A session that is over, as this leg holds it."""

    names: tuple[bytes, ...]
    """Its id, and those of the sessions that it went on from, newest first: its tokens begin with theirs."""
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

    @property
    def session(self) -> bytes:
        """Its id, under which the engine knows it."""
        return self.names[0]


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
        self._named: dict[bytes, Ended] = {}
        """By all of their names; by one that several have, the newest."""

    def __len__(self) -> int:
        return len(self._ended)

    @property
    def room(self) -> int:
        """Positions that could be had in place of all of them."""
        return sum(ended.room for ended, _ in self._ended.values())

    def keep(self, ended: Ended) -> list[bytes]:
        """A session is over; ids of those that go in its place, which the engine has to close."""
        self._ended[ended.session] = ended, self._now()
        self._named |= dict.fromkeys(ended.names, ended)
        if ended.trail is not None:
            self._trails.rest(ended.trail)
        own = [each.session for each, _ in self._ended.values() if each.client == ended.client]
        out = own[: max(0, len(own) - self._most_of_client)]
        out += [session for session in self._ended if session not in out][: max(0, len(self) - len(out) - self._most)]
        return [self._drop(session) for session in out]

    def take(self, name: bytes, client: Address, blocks: BlockSpan) -> Ended | None:
        """The session to go on from, which is kept here no longer; None where there is none for this client.

        Its trail is the caller's to go on with, or to end.
        """
        ended = self._named.get(name)
        if ended is None or ended.client != client or ended.blocks != blocks or not self._lasts(ended.session):
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
        for name in ended.names:
            if self._named.get(name) is ended:
                del self._named[name]
