"""What peers are here for, in order of what a host would miss."""

from __future__ import annotations

from node.p2p.places import Use
from node.p2p.usage import Usage


class Peers:
    def __init__(self) -> None:
        self.now = 100.0
        self.listening: set[object] = set()
        self.mesh: set[object] = set()
        self.usage = Usage(lambda: self.now, self.listening.__contains__, self.mesh.__contains__)


def test_a_peer_rises_with_what_it_does_and_falls_with_time():
    peers = Peers()
    assert peers.usage.of("a") == (Use.NONE, 0.0)
    peers.listening.add("a")
    assert peers.usage.of("a") == (Use.LISTENING, 0.0)
    with peers.usage.serving("a"):
        assert peers.usage.of("a") == (Use.SERVED, 100.0)
        peers.now = 105.0
    assert peers.usage.of("a") == (Use.ASKING, 105.0)
    peers.now = 164.9
    assert peers.usage.of("a") == (Use.ASKING, 105.0)
    peers.now = 165.0
    assert peers.usage.of("a") == (Use.LISTENING, 105.0)


def test_relaying_is_to_be_in_the_mesh_and_to_deliver():
    peers = Peers()
    peers.mesh.add("a")
    assert peers.usage.of("a") == (Use.NONE, 0.0)
    peers.usage.delivered("a")
    assert peers.usage.of("a") == (Use.RELAYING, 100.0)
    peers.mesh.clear()
    assert peers.usage.of("a") == (Use.NONE, 100.0)
    peers.mesh.add("a")
    peers.now = 700.0
    assert peers.usage.of("a") == (Use.NONE, 100.0)


def test_two_questions_at_once_are_served_until_the_second_is():
    peers = Peers()
    with peers.usage.serving("a"):
        with peers.usage.serving("a"):
            pass
        assert peers.usage.of("a")[0] is Use.SERVED
    assert peers.usage.of("a")[0] is Use.ASKING
