"""How often addresses that strangers named are dialled: an offer costs nothing, so it must not aim this process.

Whoever makes an offer writes in it where everybody dials. So a dial that comes of an offer is a credit that is given to
its host: it is given back when the node that is meant answers there, and otherwise gone for a minute. An honest host
with many nodes behind it is dialled as often as is wanted; one that never answered here, or only with another key, sees
a few dials, however many offers name it, and however often the process is started again. Where a node has answered,
offers under other keys that name the same place neither shut it nor have it dialled any more often. Who answered once
may have moved since, and its address be somebody else's: its own offers have it dialled in vain a few times more.

Trust: whoever makes offers can waste these few, and no more.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from node.p2p.names import look_up, looked_up
from node.ports import Connect, DialMemory, Endpoint, Link
from protocol.errors import UnreachableError
from protocol.market.reach import Reach, endpoint_of, reach_of

__all__ = ["DialBudget", "reach_of_url"]

SPELL_S = 60.0
"""A dial that failed counts for so many seconds."""
MOST_AT_ENDPOINT = 4
"""Dials of one host and port in a spell that led to nobody, but for the node that answered there last."""
MOST_AT_HOST = 4
"""Dials of one host, whatever the port, in a spell that led to nobody, while nobody has ever answered there."""
MOST_AT_NEAR_HOST = 16
"""Likewise where somebody has, and on one's own machine or site: honest and hostile may share an address."""
MOST_WHERE_PROVEN = 16
"""Dials in a spell that led to nobody, of the very node that answered there last; they count against no other."""
MOST_IN_ALL = 96
"""Dials of all hosts in a spell that led to nobody."""
MOST_REMEMBERED = 4096


class DialBudget:
    """Shared by everything in one process that dials what an offer names. Belongs to one event loop.

    Args:
        nearest: addresses that reach less far are not dialled: who is on a public network has no business with what
            strangers say is on its own machine or site.
        memory: what came of dials before, and where to say what comes of these.
    """

    def __init__(
        self, nearest: Reach = Reach.MACHINE, *, spell_s: float = SPELL_S, memory: DialMemory | None = None
    ) -> None:
        self.nearest = nearest
        self._memory = memory
        self._spell_s = spell_s
        self._spent: deque[tuple[float, Endpoint]] = deque()
        """Dials under way or failed, with the end of the spell in which they count, oldest first."""
        self._waiting = asyncio.Condition()
        self._under_way: dict[Endpoint, int] = {}
        self._proven: OrderedDict[str | Endpoint, bytes] = OrderedDict()
        """Hosts and endpoints where somebody has answered with the key that was expected, and whose it was last."""
        self._gone: dict[Endpoint, deque[float]] = {}
        """By endpoint, when dials of the node that answered there last were in vain since, oldest first."""
        if memory is not None:
            self._remember(memory)

    def _remember(self, memory: DialMemory) -> None:
        now = _now()
        for endpoint, answered, ago_s in memory.past_dials():
            if answered is not None:
                self._prove(endpoint, answered)
            elif 0 <= ago_s < self._spell_s:
                self._spent.append((now + self._spell_s - ago_s, endpoint))

    @asynccontextmanager
    async def dial(self, address: str, whom: bytes) -> AsyncIterator[str]:
        """Spend one dial of what an offer names; the address to dial, with the host name looked up.

        The dial counts as failed unless the block ends without an exception.

        Args:
            whom: public key of the node that is meant to answer there.

        Raises:
            MalformedError: it cannot be dialled.
            UnreachableError: it may not be dialled from here, or was in vain too often of late.
        """
        address, endpoint = await self._located(address)
        if self._proven.get(endpoint) == whom:  # else offers that name its door under other keys would shut it
            self._refuse_gone(address, endpoint)
            try:
                yield address  # costs others nothing where it is down: whoever was killed would shut them out
            except BaseException:
                self._gone.setdefault(endpoint, deque(maxlen=MOST_WHERE_PROVEN)).append(_now())
                raise
            self._answered(endpoint, whom)
            return
        await self._spend(address, endpoint)
        good, given_up = False, False
        try:
            yield address
            good = True
        except asyncio.CancelledError:
            given_up = True
            raise
        finally:
            # Another dial may have found it meanwhile: who is not waited for any more has then not failed.
            neutral = given_up and self._proven.get(endpoint) == whom
            await self._settle(endpoint, answered=whom if good else None, neutral=neutral)

    def within(self, connect: Connect) -> Connect:
        """Data links within this budget."""

        async def limited(address: str, public_key: bytes) -> Link:
            async with self.dial(address, public_key) as located:
                return await connect(located, public_key)

        return limited

    async def _located(self, address: str) -> tuple[str, Endpoint]:
        address = await looked_up(address)
        host, port = endpoint_of(address)
        if reach_of(host) < self.nearest or reach_of(host) is Reach.NOWHERE:
            raise UnreachableError(f"{host} is not dialled from here: nobody else's machine is meant by it")
        return address, (str(ipaddress.ip_address(host)), port)

    def _refuse_gone(self, address: str, endpoint: Endpoint) -> None:
        gone = self._gone.get(endpoint)
        if gone and len(gone) == MOST_WHERE_PROVEN and gone[0] > _now() - self._spell_s:
            raise UnreachableError(f"{address} was dialled in vain too often in the last minute")

    async def _spend(self, address: str, endpoint: Endpoint) -> None:
        """Wait for dials under way, since most of them turn out well; refuse where those that failed are too many."""
        async with self._waiting:
            while spent := self._spent_before(endpoint, _now()):
                if not any(each in self._under_way for each in spent):
                    raise UnreachableError(f"{address} was dialled in vain too often in the last minute")
                await self._waiting.wait()
            self._spent.append((_now() + self._spell_s, endpoint))
            self._under_way[endpoint] = self._under_way.get(endpoint, 0) + 1

    async def _settle(self, endpoint: Endpoint, *, answered: bytes | None, neutral: bool) -> None:
        async with self._waiting:
            self._under_way[endpoint] -= 1
            if not self._under_way[endpoint]:
                del self._under_way[endpoint]
            if answered is not None or neutral:
                self._give_back(endpoint)
            if answered is not None:
                self._answered(endpoint, answered)
            elif self._memory is not None and not neutral:
                self._memory.note_dial(endpoint, None)
            self._waiting.notify_all()

    def _answered(self, endpoint: Endpoint, whom: bytes) -> None:
        self._prove(endpoint, whom)
        if self._memory is not None:
            self._memory.note_dial(endpoint, whom)

    def _prove(self, endpoint: Endpoint, whom: bytes) -> None:
        self._gone.pop(endpoint, None)
        for proven in (endpoint[0], endpoint):
            self._proven[proven] = whom
            self._proven.move_to_end(proven)
        while len(self._proven) > MOST_REMEMBERED:
            forgotten, _ = self._proven.popitem(last=False)
            if not isinstance(forgotten, str):
                self._gone.pop(forgotten, None)

    def _give_back(self, endpoint: Endpoint) -> None:
        for place in range(len(self._spent) - 1, -1, -1):
            if self._spent[place][1] == endpoint:
                del self._spent[place]
                return

    def _spent_before(self, endpoint: Endpoint, now: float) -> list[Endpoint]:
        """The dials because of which there is none left for this endpoint; empty where there is one."""
        while self._spent and self._spent[0][0] <= now:
            self._spent.popleft()
        spent = [each for _, each in self._spent]
        at_host = [each for each in spent if each[0] == endpoint[0]]
        here = [each for each in at_host if each == endpoint]
        near = endpoint[0] in self._proven or reach_of(endpoint[0]) < Reach.ANYWHERE
        most = MOST_AT_NEAR_HOST if near else MOST_AT_HOST
        for found, allowed in ((spent, MOST_IN_ALL), (at_host, most)):
            if len(found) >= allowed:
                return found
        return here if len(here) >= MOST_AT_ENDPOINT else []


def _now() -> float:
    return asyncio.get_running_loop().time()


async def reach_of_url(url: str) -> Reach:
    """How far the server behind a URL reaches, as it looks from here; one that is not found reaches anywhere."""
    host = urlsplit(url).hostname or ""
    try:
        return reach_of(str(ipaddress.ip_address(host)))
    except ValueError:
        pass
    try:
        return reach_of(await look_up(host, "dns"))
    except UnreachableError:
        return Reach.ANYWHERE
