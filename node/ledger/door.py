"""The ledger's door: who may hold a connection, for how long, and who leaves when all places are taken.

A connection costs its owner nothing, so it is a guest with a budget: a few seconds and some kilobytes for a whole
request, a bound on what it leaves unread, and a place only as long as nobody deserves it more. Honest and hostile may
share an address, so nobody is turned away at the door: where places are full the least deserving leaves, which is
whoever has not sent a whole request, oldest first.

It knows no HTTP: what comes through goes to aiohttp's protocol, made with the first bytes that look like a request.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from itertools import chain
from typing import cast

from node.ip_group import origin_of
from node.ledger.quiet_log import TOLD_EVERY_S

__all__ = ["IDLE_S", "Door", "Guest", "connections_now", "connections_within", "open_sockets"]

MAX_CONNECTIONS = 2_048
"""Connections in all, where the process may have as many descriptors: some 60 MiB if all are in use."""
SPARE_DESCRIPTORS = 128
"""Kept for the database, the journal and the libraries' own."""
ADDRESS_SHARE = 2
"""One address holds half of the places at most; an IPv6 /64 counts as one."""
NEWCOMERS_SHARE = 4
"""A quarter of the places in use is for connections that have not sent a whole request yet."""
MAX_UNFINISHED = 64
"""Requests that have begun and are not whole, in all: their parsers take some 30 KiB each. The oldest goes."""
REQUEST_S = 5.0
"""Seconds for a whole request, from its first byte, or from the connection's beginning."""
READ_S = 10.0
"""Seconds in which an answer that does not fit the kernel's buffers is read."""
IDLE_S = 30.0
"""Seconds that a connection is kept for its next request."""
MAX_REQUEST_BYTES = 32 * 1024
"""Of one request: twice the longest operation, and more than any header that is let through."""
MAX_HEADS = 4
"""Ends of heads in what comes before a request is answered. A client asks once, and a parser would make requests of all
that it is given: hundreds of them fit into one segment.
"""
MAX_UNREAD_BYTES = 32 * 1024 * 1024
"""Of answers that wait for their readers, all together; beyond it the oldest of them is given up."""
BACKLOG = 1_024
"""Connections that the kernel holds until they are accepted."""
LOOK_EVERY_S = 0.5

_HEAD_END = b"\r\n\r\n"
_METHODS = (b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"PATC", b"TRAC", b"CONN")
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger(__name__)


class GuestRank(IntEnum):
    """How little a connection deserves its place: the lowest leave first, and among equals who has been so longest."""

    WAITING = 0
    """Has not sent a whole request yet, or is in the middle of the next one."""
    UNREAD = 1
    """Does not read its answer."""
    DELAYED = 2
    """Asked too often, and is made to wait."""
    IDLE = 3
    """Was answered, and says nothing now."""
    PROVEN = 4
    """The same, after an operation of its was taken, which has cost a fee."""
    SERVED = 5
    """Its request is being answered."""


def connections_within(descriptors: int) -> int:
    """How many connections a process that may open so many descriptors takes here; as many are left for its peers."""
    return max(8, min(MAX_CONNECTIONS, (descriptors - SPARE_DESCRIPTORS) // 2))


def connections_now() -> int:
    """The same for this process, as it is limited now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else connections_within(soft)


async def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen at every address of `host`. Raises OSError."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(infos):
            listening = socket.socket(family, kind, protocol)
            opened.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.setblocking(False)
            # Every address of a host has the same port.
            chosen = opened[0].getsockname()[1] if port == 0 and len(opened) > 1 else address[1]
            listening.bind((address[0], chosen, *address[2:]))
            listening.listen(BACKLOG)
    except OSError:
        for listening in opened:
            listening.close()
        raise
    return opened


class Guest(asyncio.Protocol):
    """One connection: passes on what comes, and counts what it costs."""

    __slots__ = (
        *("_ahead", "_bytes", "_door", "_heads", "_inner", "_is_paused", "_is_served"),
        *("address", "is_leaving", "number", "proven", "rank", "served", "transport"),
    )

    def __init__(self, door: Door, number: int) -> None:
        self._door = door
        self._inner: asyncio.Protocol | None = None
        self._bytes = 0
        """Received since the last whole request."""
        self._heads = 0
        """Ends of heads in them."""
        self._ahead = False
        """Whether something of the next request came while this one was answered."""
        self._is_served = False
        self._is_paused = False
        """Whether more waits for it to read than the kernel takes."""
        self.is_leaving = False
        self.number = number
        """Never another guest's."""
        self.address: object = None
        self.rank = GuestRank.WAITING
        self.proven = False
        """Whether an operation that came this way was taken."""
        self.served = 0
        """Requests answered."""
        self.transport: asyncio.Transport | None = None

    # What the service tells

    @property
    def is_ahead(self) -> bool:
        """Whether a request is in turn that came together with the one before."""
        return self._bytes == 0

    @contextmanager
    def being_served(self) -> Iterator[None]:
        """While its whole request is being answered."""
        self._bytes, self._heads, self._ahead, self._is_served = 0, 0, False, True
        self._settle()
        try:
            yield
        finally:
            self.served += 1
            self._is_served = False
            self._settle()

    @contextmanager
    def being_delayed(self) -> Iterator[None]:
        """While its request waits because it, or others at its address, asked too often."""
        self._door.move(self, GuestRank.DELAYED)
        try:
            yield
        finally:
            self._settle()

    def _settle(self) -> None:
        """Take the rank that goes with what it does."""
        if self._is_paused:
            rank = GuestRank.UNREAD
        elif self._is_served:
            rank = GuestRank.SERVED
        elif self._ahead:
            rank = GuestRank.WAITING
        else:
            rank = GuestRank.PROVEN if self.proven else GuestRank.IDLE
        self._door.move(self, rank)

    def leave(self) -> None:
        """Close at once; what it has not read is lost."""
        if self.transport is not None:
            self.is_leaving = True
            self.transport.abort()

    # What the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = origin_of(peer[0]) if peer else None
        self._door.enter(self)

    def data_received(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        self._bytes += len(data)
        self._heads += data.count(_HEAD_END)
        if self._bytes > MAX_REQUEST_BYTES or self._heads > MAX_HEADS:
            self.leave()
            return
        if self._inner is None:
            # TLS, other protocols and garbage get no parser, and no answer.
            if not any(method.startswith(data[:4]) for method in _METHODS):
                self.leave()
                return
            self._inner = self._door.make_inner()
            self._inner.connection_made(self.transport)
            self._door.has_begun(self)
        if self.rank in (GuestRank.IDLE, GuestRank.PROVEN):
            self._door.move(self, GuestRank.WAITING)
            self._door.has_begun(self)
        elif self.rank is not GuestRank.WAITING:
            self._ahead = True
        self._inner.data_received(data)

    def eof_received(self) -> None:
        if self._inner is not None:
            self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()
        self._is_paused = True
        self._settle()
        self._door.bound_unread()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()
        self._is_paused = False
        self._settle()

    def connection_lost(self, error: Exception | None) -> None:
        self._door.part_with(self)
        self.transport = None
        if self._inner is not None:
            self._inner.connection_lost(error)
            self._inner = None


class Door:
    """Accepts connections on `sockets` until `close`, and keeps them within their bounds.

    Args:
        make_inner: makes the protocol that speaks HTTP.
        most: connections at once.
    """

    def __init__(self, sockets: list[socket.socket], make_inner: Callable[[], asyncio.Protocol], *, most: int) -> None:
        self.make_inner = make_inner
        self._sockets = sockets
        self._most = most
        self._share = max(4, most // ADDRESS_SHARE)
        self._ranks: dict[GuestRank, dict[Guest, float]] = {rank: {} for rank in GuestRank}
        """Since when each guest has its rank, longest first."""
        self._unfinished: dict[Guest, None] = {}
        """Of those that wait, who has sent the beginning of a request; oldest first."""
        self._crowds: dict[object, int] = {}
        """Connections by address."""
        self._made = 0
        self._troubles = 0
        self._told_at: float | None = None
        self._loop = asyncio.get_running_loop()
        self._tasks = [self._loop.create_task(self._accept(each), name="ledger door") for each in sockets]
        self._tasks.append(self._loop.create_task(self._look(), name="ledger door's deadlines"))

    def __len__(self) -> int:
        return sum(map(len, self._ranks.values()))

    async def close(self) -> None:
        """Accept nobody any more; who has sent no request yet has to go, all others are left to their service."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listening in self._sockets:
            listening.close()
        for guest in list(self._ranks[GuestRank.WAITING]):
            guest.leave()

    # Places

    def enter(self, guest: Guest) -> None:
        """A connection was made; somebody leaves where there are too many now."""
        self._ranks[GuestRank.WAITING][guest] = self._loop.time()
        self._crowds[guest.address] = self._crowds.get(guest.address, 0) + 1
        if self._crowds[guest.address] > self._share:
            (self._least_deserving(guest, guest.address) or guest).leave()
        elif len(self) > self._most:
            (self._least_deserving(guest) or guest).leave()

    def part_with(self, guest: Guest) -> None:
        """A connection has ended."""
        self._unfinished.pop(guest, None)
        if self._ranks[guest.rank].pop(guest, None) is None:
            return
        left = self._crowds[guest.address] - 1
        if left:
            self._crowds[guest.address] = left
        else:
            del self._crowds[guest.address]

    def move(self, guest: Guest, rank: GuestRank) -> None:
        """A guest has become more or less deserving."""
        if self._ranks[guest.rank].pop(guest, None) is not None:
            self._unfinished.pop(guest, None)
            guest.rank = rank
            self._ranks[rank][guest] = self._loop.time()

    def has_begun(self, guest: Guest) -> None:
        """A guest has sent the first bytes of a request."""
        self._unfinished[guest] = None
        if len(self._unfinished) > MAX_UNFINISHED:
            oldest = next(iter(self._unfinished))
            del self._unfinished[oldest]
            oldest.leave()

    def _least_deserving(self, newcomer: Guest | None = None, address: object = None) -> Guest | None:
        """Of all but the newcomer, or of those at one address; None where all of them are being served.

        Some places are the newcomers' own, so that each has a moment to send its request while others crowd in.
        """
        ranks = list(GuestRank)[: GuestRank.SERVED]
        if len(self._ranks[GuestRank.WAITING]) <= len(self) // NEWCOMERS_SHARE:
            ranks = [*ranks[1 : GuestRank.PROVEN], GuestRank.WAITING, GuestRank.PROVEN]
        for guest in chain.from_iterable(self._ranks[rank] for rank in ranks):
            if guest is not newcomer and not guest.is_leaving and address in (None, guest.address):
                return guest
        return None

    def bound_unread(self) -> None:
        """Give up the oldest answers that nobody reads, where they hold too much memory."""
        unread = {
            guest: guest.transport.get_write_buffer_size()
            for guest in self._ranks[GuestRank.UNREAD]
            if guest.transport is not None and not guest.is_leaving
        }
        total = sum(unread.values())
        for guest, held in unread.items():
            if total <= MAX_UNREAD_BYTES:
                return
            guest.leave()
            total -= held

    # Work

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                accepted, _ = await self._loop.sock_accept(listening)
            except OSError as error:
                await self._survive(error)
                continue
            try:
                await self._loop.connect_accepted_socket(self._admit, accepted)
            except OSError as error:  # it has gone already, or no memory is left for it
                accepted.close()
                self._tell(error)

    def _admit(self) -> Guest:
        self._made += 1
        return Guest(self, self._made)

    async def _survive(self, error: OSError) -> None:
        """The process has no descriptor left, or the connection went before it was accepted."""
        self._tell(error)
        if error.errno in _FULL:
            least = self._least_deserving()
            if least is not None:
                least.leave()
            # The descriptor of who leaves is free at the next turn of the loop.
            await asyncio.sleep(LOOK_EVERY_S if least is None else 0)

    def _tell(self, error: OSError) -> None:
        self._troubles += 1
        now = self._loop.time()
        if self._told_at is None or now - self._told_at >= TOLD_EVERY_S:
            _log.warning("a connection could not be accepted: %s (%d times)", error.strerror, self._troubles)
            self._told_at, self._troubles = now, 0

    async def _look(self) -> None:
        """Send away whoever takes too long."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = self._loop.time()
            for rank, patience_s in _PATIENCE_S.items():
                for guest, since in list(self._ranks[rank].items()):
                    if now - since < patience_s:
                        break
                    guest.leave()


_PATIENCE_S = {GuestRank.WAITING: REQUEST_S, GuestRank.UNREAD: READ_S, GuestRank.IDLE: IDLE_S, GuestRank.PROVEN: IDLE_S}
