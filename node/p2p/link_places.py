"""Who may stay where connections are many: the places of a data plane, and who leaves them first.

Honest peers and hostile ones may share an address, so nobody is turned away for where he comes from, or because every
place is taken: the newcomer gets in, and the least deserving leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Generic, TypeVar

from node.p2p.link import Link
from node.ports import LinkRank

__all__ = ["MAX_HANDSHAKES", "MAX_LINKS", "Origins", "Places", "Waiting", "share_out"]

MAX_LINKS = 1024
MAX_HANDSHAKES = 128
"""Connections that have begun a handshake; as many more may have said nothing yet."""
LINKS_OF_A_STRANGER = 4
"""Links of one key without a part in any session: one for each direction, and as many that are being replaced."""
LINKS_OF_A_KEY = 64
"""Links of one key: a client has one for each of its sessions here."""
NAMING_S = 10.0
"""Seconds for the peer of a new link to have a part in a session: an honest one has its order taken before it dials."""
IDLE_S = 120.0
"""Seconds without a frame after which a link goes whose peer had a part in a session, and has none now."""


T = TypeVar("T", bound=Hashable)


def share_out(descriptors: int) -> tuple[int, int]:
    """How many links, and how many handshakes, that many descriptors are for."""
    handshakes = max(4, min(MAX_HANDSHAKES, descriptors // 4))
    return max(4, min(MAX_LINKS, descriptors - 2 * handshakes)), handshakes


class Origins(Generic[T]):
    """Things in the order in which they came, by where they came from."""

    def __init__(self) -> None:
        self._found: dict[str, dict[T, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, thing: T, origin: str) -> None:
        """Put in a thing that is not in yet."""
        self._found.setdefault(origin, {})[thing] = None
        self._count += 1

    def discard(self, thing: T, origin: str) -> bool:
        """Take out a thing; whether it was in."""
        things = self._found.get(origin)
        if things is None or thing not in things:
            return False
        del things[thing]
        self._count -= 1
        if not things:
            del self._found[origin]
        return True

    def next_to_leave(self) -> tuple[T, str]:
        """The oldest of the origin that has most. There has to be one."""
        origin = max(self._found, key=lambda each: len(self._found[each]))
        return next(iter(self._found[origin])), origin


class Waiting:
    """Connections whose peers have yet to prove a key, each a task that is cancelled to end it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._knocked = Origins[asyncio.Task[None]]()
        self._answered = Origins[asyncio.Task[None]]()

    def __len__(self) -> int:
        return len(self._knocked) + len(self._answered)

    def add(self, task: asyncio.Task[None], origin: str) -> None:
        """Take one in; beyond the bound the next one to leave goes, or this one where all others are further."""
        if len(self) >= self._most and not self.let_go():
            task.cancel()
        else:
            self._knocked.add(task, origin)

    def answered(self, task: asyncio.Task[None], origin: str) -> None:
        """Its peer has sent what was asked of it: it may stay while that is looked at."""
        if self._knocked.discard(task, origin):
            self._answered.add(task, origin)

    def not_yet(self, task: asyncio.Task[None], origin: str) -> None:
        """It was not all that was asked for."""
        if self._answered.discard(task, origin):
            self._knocked.add(task, origin)

    def discard(self, task: asyncio.Task[None], origin: str) -> None:
        """It is over, or has proven its key."""
        self._knocked.discard(task, origin)
        self._answered.discard(task, origin)

    def let_go(self) -> bool:
        """End one whose peer owes an answer; False without any."""
        if not self._knocked:
            return False
        task, origin = self._knocked.next_to_leave()
        self._knocked.discard(task, origin)
        task.cancel()
        return True


class Places:
    """Incoming links."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._origins: dict[Link, str] = {}
        self._strangers = Origins[Link]()
        """Whose peers had no part in a session when they were last looked at; few looks, for floods are of these."""
        self._keys: dict[bytes, dict[Link, None]] = {}

    def __len__(self) -> int:
        return len(self._origins)

    def add(self, link: Link, origin: str) -> None:
        """Take one in, and let go of what it takes the place of."""
        rank = link.rank
        own = self._keys.get(link.public_key, {})
        if len(own) >= (LINKS_OF_A_STRANGER if rank is LinkRank.STRANGER else LINKS_OF_A_KEY):
            self._end(min(own, key=_heard))
        elif len(self._origins) >= self._most:
            self._let_go()
        self._origins[link] = origin
        self._keys.setdefault(link.public_key, {})[link] = None
        if rank is LinkRank.STRANGER:
            self._strangers.add(link, origin)

    def discard(self, link: Link) -> None:
        """It has ended."""
        origin = self._origins.pop(link, None)
        if origin is None:
            return
        self._strangers.discard(link, origin)
        own = self._keys[link.public_key]
        del own[link]
        if not own:
            del self._keys[link.public_key]

    def let_go_stranger(self) -> bool:
        """End a stranger's link, the oldest of the origin that has most of them; False without any."""
        while self._strangers:
            link, origin = self._strangers.next_to_leave()
            if link.rank is LinkRank.STRANGER:
                self._end(link)
                return True
            self._strangers.discard(link, origin)
        return False

    def _let_go(self) -> None:
        """End the least deserving link.

        Strangers' go first. Then those of peers that had a session before those that have one: of the key that has
        most links, the one silent for longest.
        """
        if not self.let_go_stranger():
            self._end(min(self._origins, key=lambda link: (link.rank, -len(self._keys[link.public_key]), link.heard_s)))

    def sweep(self, now: float) -> None:
        """End the links that have had their time."""
        for link in tuple(self._origins):
            rank = link.rank
            unnamed = rank is LinkRank.STRANGER and now - link.since_s > NAMING_S
            if unnamed or (rank is LinkRank.KNOWN and now - link.heard_s > IDLE_S):
                self._end(link)

    def _end(self, link: Link) -> None:
        self.discard(link)
        link.abort()


def _heard(link: Link) -> float:
    return link.heard_s
