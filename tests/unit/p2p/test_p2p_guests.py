"""Room that peers share: bounds for one, bounds for all, and who gives way."""

from __future__ import annotations

import pytest
import trio

from node.p2p.guests import Room, StreamCount
from protocol.errors import LostPeerError, RefusedError


def test_one_peer_has_its_share_and_no_more():
    async def run() -> None:
        room = Room(10, 4)
        with room.stay("a", 4):
            with pytest.raises(RefusedError) as caught, room.stay("a", 1):
                pass
            assert caught.value.code == "busy"
            with room.stay("b", 4):
                pass
        with room.stay("a", 4):
            pass

    trio.run(run)


def test_where_all_is_taken_the_oldest_who_is_waited_for_gives_way():
    async def run() -> None:
        room, ended = Room(2, 2), []

        async def hold(name: str, gives_way: bool) -> None:
            try:
                with room.stay(name, gives_way=gives_way):
                    begun.set()
                    await trio.sleep_forever()
            except LostPeerError:
                ended.append(name)
                gone.set()

        async with trio.open_nursery() as nursery:
            for name, gives_way in (("served", False), ("slow", True)):
                begun = trio.Event()
                nursery.start_soon(hold, name, gives_way)
                await begun.wait()
            gone = trio.Event()
            with room.stay("new", gives_way=False):
                await gone.wait()
                assert ended == ["slow"]
                with pytest.raises(RefusedError), room.stay("newer"):
                    pass
            nursery.cancel_scope.cancel()

    trio.run(run)


def test_streams_of_one_peer_and_fewer_of_it_where_there_are_many():
    async def run() -> None:
        count = StreamCount(of_peer=2, crowded=3, of_peer_then=1)
        with count.opened("a") as one, count.opened("a") as two, count.opened("a") as three:
            assert (one, two, three) == (True, True, False)
            with count.opened("b") as first, count.opened("b") as second:
                assert (first, second) == (True, False)
        with count.opened("a") as one, count.opened("a") as two:
            assert (one, two) == (True, True)

    trio.run(run)
