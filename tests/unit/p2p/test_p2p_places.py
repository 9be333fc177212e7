"""Who has a place at a port, and who leaves: decisions without sockets."""

from __future__ import annotations

from collections.abc import Hashable

from node.p2p.places import NEW_S, Bounds, Place, Places, Stage, Use

HERE = "192.0.2.1"


class Port:
    """Places, with connections that note that they were sent away."""

    def __init__(self, **bounds: int) -> None:
        self.now = 1000.0
        self.used: dict[Hashable, tuple[Use, float]] = {}
        self.left: list[str] = []
        self.places = Places(Bounds(**bounds), lambda peer: self.used.get(peer, (Use.NONE, 0.0)))

    def connect(self, name: str, address: str = HERE, stage: Stage = Stage.SILENT) -> Place:
        place = Place(address, self.now, lambda: self.left.append(name), stage)
        self.places.enter(place)
        self.now += 1
        return place

    def join(self, name: str, address: str = HERE) -> Place:
        """Connect, and prove a key by this name."""
        place = self.connect(name, address)
        self.places.prove(place, name, self.now)
        return place


def test_while_there_is_room_nobody_leaves():
    port = Port(greeting=2, proven=2)
    port.connect("one")
    port.connect("two")
    assert port.left == []
    port.connect("three")
    assert port.left == ["one"]


def test_the_silent_leave_before_those_who_speak():
    port = Port(greeting=2)
    port.connect("speaks").stage = Stage.SPEAKING
    port.connect("silent")
    port.connect("new")
    assert port.left == ["silent"]
    port.now -= 0.9
    port.connect("newest")
    assert port.left == ["silent", "speaks"]


def test_the_useless_are_few_though_there_is_room():
    port = Port(useless=2)
    port.used["listens"] = Use.LISTENING, 0.0
    for name in ("listens", "one", "two"):
        port.join(name)
    assert port.left == []
    port.used["one"] = Use.ASKING, port.now
    port.join("three")
    assert port.left == []
    port.join("four")
    assert port.left == ["two"]


def test_who_has_proven_a_key_leaves_last():
    port = Port(greeting=2)
    port.connect("proven").stage = Stage.AUTHENTIC
    port.connect("speaks").stage = Stage.SPEAKING
    port.connect("new")
    assert port.left == ["speaks"]


def test_a_crowded_subnet_leaves_before_another():
    port = Port(greeting=3)
    port.connect("alone", "198.51.100.1")
    port.connect("crowd 1", "192.0.2.1")
    port.connect("crowd 2", "192.0.2.2")
    port.connect("crowd 3", "192.0.2.3")
    assert port.left == ["crowd 1"]


def test_without_use_leave_before_those_of_use_and_the_longest_idle_first():
    port = Port(proven=3)
    for name in ("asking", "idle", "idler"):
        port.join(name)
    port.now += NEW_S
    port.used = {"asking": (Use.ASKING, 1.0), "idle": (Use.NONE, 1005.0), "idler": (Use.NONE, 1004.0)}
    port.join("new 1")
    assert port.left == ["idler"]
    port.join("new 2")
    assert port.left == ["idler", "idle"]


def test_a_newcomer_is_not_the_one_who_leaves_for_the_next():
    """Else whoever subscribes and stays would keep all others out."""
    port = Port(proven=2)
    for name in ("listens 1", "listens 2"):
        port.join(name)
        port.used[name] = (Use.LISTENING, 0.0)
    port.now += NEW_S
    port.join("honest")
    port.join("hostile")
    assert port.left == ["listens 1", "listens 2"]


def test_so_many_of_one_key_address_and_subnet():
    port = Port(of_key=1, of_address=2, of_subnet=3)
    port.join("a")
    port.join("a")
    assert port.left == ["a"]
    port.join("b")
    port.join("c")
    assert port.left == ["a", "a"]
    port.join("d", "192.0.2.9")
    port.join("e", "192.0.2.10")
    assert port.left == ["a", "a", "b"]
    port.join("f", "203.0.113.1")
    assert port.left == ["a", "a", "b"]


def test_idle_peers_are_let_go_and_those_of_use_are_not():
    port = Port()
    for name in ("idle", "asked", "listens"):
        port.join(name)
    port.used = {"asked": (Use.NONE, port.now + 50), "listens": (Use.LISTENING, 0.0)}
    port.places.dismiss_idle(port.now + 60, 60.0)
    assert port.left == ["idle"]
    assert len(port.places) == 2


def test_a_connection_that_was_sent_away_cannot_take_a_place_again():
    port = Port(greeting=1)
    late = port.connect("late")
    port.connect("new")
    assert port.left == ["late"]
    port.places.prove(late, "late", port.now)
    port.places.leave(late)
    assert len(port.places) == 1
