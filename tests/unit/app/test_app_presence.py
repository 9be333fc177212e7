"""A lost ledger or network is told once, and so is its return."""

from __future__ import annotations

from node.app.network.presence import Presence
from node.events import Event, LedgerBack, LedgerLost, NetworkBack, NetworkLost


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.heard: list[Event] = []
        self.presence = Presence("http://ledger", self.heard.append, lambda: self.now)


def test_a_ledger_that_answers_is_not_worth_a_word() -> None:
    world = World()
    world.presence.ledger_answered()
    assert world.heard == []


def test_a_ledger_that_is_lost_is_told_once_and_its_return_with_how_long_it_was_away() -> None:
    world = World()
    for world.now in (10.0, 20.0, 30.0):
        world.presence.ledger_silent("refused")
    world.now = 45.0
    world.presence.ledger_answered()
    world.presence.ledger_answered()
    assert world.heard == [
        LedgerLost(url="http://ledger", reason="refused"),
        LedgerBack(url="http://ledger", seconds=35.0),
    ]


def test_a_network_that_is_lost_is_told_once_and_so_is_its_return() -> None:
    world = World()
    for count in (2, 0, 0, 3, 1):
        world.presence.peers(count)
    assert world.heard == [NetworkLost(), NetworkBack(peers=3)]
