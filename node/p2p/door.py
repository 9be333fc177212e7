"""Who may connect to a libp2p host: how many at a time, how fast, and who leaves so that another may come in.

A connection has seconds to say its first word and to prove its key. What costs computing is done for so many a second:
the Noise handshake, and then what a peer with a key needs. The others wait for their turn, each subnet in turn and of
each the newest first: where more come than can be served, the oldest are those that leave. `places` says who leaves.

In the library a place that an incoming connection takes is given back only when the whole host ends: after 250
connections, however short, a host takes no more for the rest of its life. Here it is given back with the connection.
"""

from __future__ import annotations

import logging
import socket
from collections import OrderedDict, deque
from contextvars import ContextVar
from typing import Any

import trio
from libp2p.network.connection.raw_connection import RawConnection

from node.p2p.pace import Pace
from node.p2p.places import Bounds, Place, Places, Stage
from node.p2p.usage import Usage

__all__ = ["Door"]

log = logging.getLogger(__name__)

_FIRST_WORD_S = 2.0
"""Whoever dials speaks first, and at once: one way across the slowest network."""
_GREETING_S = 6.0
"""For Noise and Yamux, and the wait for a turn: five round trips of a second, at worst."""
_HANDSHAKES_PER_S = 150.0
"""Of all who connect: each costs a millisecond of one core, which the model's process needs too."""
_HANDSHAKES_AT_ONCE = 300
_WELCOMES_PER_S = 40.0
"""Of all who have proven a key: each costs ten milliseconds, with the streams that are opened to it."""
_WELCOMES_AT_ONCE = 200
_IDLE_S = 60.0
"""Without a subscription and without a question a peer has no use for a connection."""
_SWEEP_S = 10.0
_CLOSE_LIMIT_S = 5.0
_SETTLE_S = 1.5
"""What closes a connection, in another task, takes half a second."""
_greeted: ContextVar[Place] = ContextVar("greeted")
"""Whose greeting the current task sees to."""
_FIRST_WORD = b"\x13/multistream/1.0.0\n"


class Door:
    """Takes the place of a swarm's own handler of incoming connections. Belongs to the trio thread."""

    def __init__(self, swarm: Any, usage: Usage, bounds: Bounds) -> None:
        self._swarm = swarm
        self._places = Places(bounds, usage.of)
        self._handshakes = _Turns(_HANDSHAKES_PER_S, _HANDSHAKES_AT_ONCE)
        self._welcomes = _Turns(_WELCOMES_PER_S, _WELCOMES_AT_ONCE)

    async def __call__(self, stream: Any, listening_at: Any) -> None:
        """Serve one incoming TCP stream until it ends: it is closed when this returns."""
        scope = trio.CancelScope()
        place = Place(_address(stream), trio.current_time(), scope.cancel)
        self._places.enter(place)
        try:
            with scope:
                await self._greet(stream, listening_at, place)
        except Exception as error:  # noqa: BLE001 - the boundary of a task that a peer started
            log.debug("a connection from %s ended: %s %s", place.address, type(error).__name__, error)
        finally:
            self._places.leave(place)

    async def watch(self) -> None:
        """Call those who wait for their turn, and let go whoever is of no use; until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._handshakes.call)
            nursery.start_soon(self._welcomes.call)
            while True:
                await trio.sleep(_SWEEP_S)
                self._places.dismiss_idle(trio.current_time(), _IDLE_S)

    async def welcome(self) -> None:
        """Called in the middle of a greeting, when the key is proven: returns when the peer's turn has come."""
        place = _greeted.get()
        place.stage = Stage.AUTHENTIC
        await self._welcomes.wait(place.subnet)

    async def _greet(self, stream: Any, listening_at: Any, place: Place) -> None:
        with trio.fail_after(_GREETING_S):
            if not await _speaks(stream):
                return
            place.stage = Stage.SPEAKING
            await self._handshakes.wait(place.subnet)
            _greeted.set(place)
            muxed = await self._swarm.upgrade_inbound_raw_conn(RawConnection(stream, False), listening_at)
        try:
            self._places.prove(place, muxed.peer_id, trio.current_time())
            await muxed.event_closed.wait()
        finally:
            await self._close(muxed)

    async def _close(self, muxed: Any) -> None:
        """The connection, and what the swarm knows of it, which a close that was cut short elsewhere leaves behind."""
        for connection in self._known(muxed):
            with trio.move_on_after(_CLOSE_LIMIT_S) as scope:
                scope.shield = True
                await connection.close()
                if self._known(muxed):
                    await trio.sleep(_SETTLE_S)
                if self._known(muxed):
                    self._swarm.remove_conn(connection)
                    await self._swarm.notify_disconnected(connection)

    def _known(self, muxed: Any) -> list[Any]:
        return [each for each in self._swarm.get_connections(muxed.peer_id) if each.muxed_conn is muxed]


class _Turns:
    """Lets so many go on a second; where more come, one of each subnet in turn."""

    def __init__(self, per_s: float, at_once: int) -> None:
        self._pace = Pace(per_s, at_once, trio.current_time())
        self._per_s = per_s
        self._waiting: OrderedDict[str, deque[trio.Event]] = OrderedDict()
        self._wanted = trio.Event()

    async def wait(self, subnet: str) -> None:
        """Return when it is one's turn; cancel to give up."""
        if not self._waiting and self._pace.allows(trio.current_time()):
            return
        turn = trio.Event()
        self._waiting.setdefault(subnet, deque()).append(turn)
        self._wanted.set()
        try:
            await turn.wait()
        finally:
            if not turn.is_set():
                self._waiting[subnet].remove(turn)
                self._forget_if_empty(subnet)

    async def call(self) -> None:
        """Call those who wait, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            while self._waiting:
                await trio.sleep(1 / self._per_s)
                if self._waiting and self._pace.allows(trio.current_time()):
                    self._call_next()

    def _call_next(self) -> None:
        subnet, queue = next(iter(self._waiting.items()))
        queue.pop().set()
        self._waiting.move_to_end(subnet)
        self._forget_if_empty(subnet)

    def _forget_if_empty(self, subnet: str) -> None:
        if not self._waiting[subnet]:
            del self._waiting[subnet]


async def _speaks(stream: Any) -> bool:
    """Whether somebody who connected begins, in time, as libp2p begins; nothing is taken from the stream."""
    word = b""
    with trio.move_on_after(_FIRST_WORD_S):
        word = await stream.stream.socket.recv(len(_FIRST_WORD), socket.MSG_PEEK)
    return word != b"" and _FIRST_WORD.startswith(word)


def _address(stream: Any) -> str:
    """The IP address at the other end; empty where it has left already."""
    try:
        return str(stream.stream.socket.getpeername()[0])
    except OSError:
        return ""
