"""Bytes of strangers' frames: what is over the bound costs the oldest its link, and gives its bytes back once."""

from __future__ import annotations

from node.p2p.budget import StrangerRoom


def test_the_oldest_gives_way_and_what_has_come_does_not() -> None:
    ended: list[str] = []
    room = StrangerRoom(100)
    for name in ("one", "two"):
        room.enter(name, 40, lambda name=name: ended.append(name))  # type: ignore[misc]
    room.leave("one")
    room.enter("three", 40, lambda: ended.append("three"))
    assert not ended
    room.enter("four", 60, lambda: ended.append("four"))
    assert ended == ["two"]
    room.enter("five", 100, lambda: ended.append("five"))
    assert ended == ["two", "three", "four"]


def test_leaving_twice_or_unknown_gives_nothing_back_twice() -> None:
    ended: list[str] = []
    room = StrangerRoom(100)
    room.enter("one", 60, lambda: ended.append("one"))
    room.leave("one")
    room.leave("one")
    room.leave("nobody")
    room.enter("two", 60, lambda: ended.append("two"))
    room.enter("three", 60, lambda: ended.append("three"))
    assert ended == ["two"]


def test_a_second_frame_of_one_guest_replaces_its_first() -> None:
    ended: list[str] = []
    room = StrangerRoom(100)
    room.enter("one", 60, lambda: ended.append("one"))
    room.enter("one", 60, lambda: ended.append("one"))
    room.enter("two", 40, lambda: ended.append("two"))
    assert not ended
