"""Which sessions stay warm, for whom, and which leave when there is no room."""

from __future__ import annotations

import random

import pytest

from node.pipeline.serving.trail import Trail, Trails
from node.pipeline.serving.warm import Ended, Origin, Warm
from protocol.identity.ids import BlockSpan
from protocol.models.activations import ActivationType

CLIENT, OTHER = b"\x01" * 20, b"\x02" * 20
BLOCKS = BlockSpan(start=2, end=4)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def ended(number: int, *before: int, client: bytes = CLIENT, room: int = 32, trail: Trail | None = None) -> Ended:
    return Ended(
        session=bytes([number]) * 32,
        origins=tuple(Origin(bytes([each]) * 32, 9) for each in before),
        client=client,
        blocks=BLOCKS,
        length=room - 5,
        room=room,
        activations=ActivationType.FP32,
        trail=trail,
    )


def warm(**settings: object) -> tuple[Warm, Clock, Trails]:
    clock, trails = Clock(), Trails()
    return Warm(trails, clock, **settings), clock, trails


def test_its_client_goes_on_from_it_once() -> None:
    kept, _, _ = warm()
    first = ended(1)
    assert kept.keep(first) == []
    assert kept.room == 32
    assert kept.take(first.session, CLIENT, BLOCKS) is first
    assert kept.take(first.session, CLIENT, BLOCKS) is None
    assert (len(kept), kept.room) == (0, 0)


@pytest.mark.parametrize(
    ("name", "client", "blocks"),
    [(2, CLIENT, BLOCKS), (1, OTHER, BLOCKS), (1, CLIENT, BlockSpan(start=2, end=5))],
    ids=["another session", "another client", "other blocks"],
)
def test_nobody_else_does_and_it_stays(name: int, client: bytes, blocks: BlockSpan) -> None:
    kept, _, _ = warm()
    first = ended(1)
    kept.keep(first)
    assert kept.take(bytes([name]) * 32, client, blocks) is None
    assert kept.take(first.session, CLIENT, BLOCKS) is first


def test_it_answers_to_the_sessions_that_it_went_on_from() -> None:
    """A new session that came to nothing has the pages of the old one, which its client asks for again."""
    kept, _, _ = warm()
    newer = ended(2, 1)
    kept.keep(newer)
    assert kept.take(b"\x01" * 32, CLIENT, BLOCKS) is newer
    other = ended(3, 1)
    kept.keep(newer)
    kept.keep(other)
    assert kept.take(b"\x01" * 32, CLIENT, BLOCKS) is other
    assert kept.take(b"\x01" * 32, CLIENT, BLOCKS) is None
    assert kept.take(b"\x02" * 32, CLIENT, BLOCKS) is newer


def test_a_stranger_takes_no_name_away() -> None:
    kept, _, _ = warm()
    own, strangers = ended(2, 1), ended(3, 1, 2, client=OTHER)
    kept.keep(own)
    kept.keep(strangers)
    assert kept.take(b"\x03" * 32, CLIENT, BLOCKS) is None
    assert kept.take(b"\x02" * 32, CLIENT, BLOCKS) is own
    kept.keep(own)
    assert kept.take(b"\x01" * 32, CLIENT, BLOCKS) is own
    assert kept.take(b"\x01" * 32, CLIENT, BLOCKS) is None
    assert kept.take(b"\x02" * 32, OTHER, BLOCKS) is strangers


def test_of_a_session_that_it_went_on_from_it_has_what_both_share() -> None:
    newer = ended(2, 1)
    assert newer.shared_with(b"\x02" * 32) == newer.length == 27
    assert newer.shared_with(b"\x01" * 32) == 9


def test_its_time_ends() -> None:
    kept, clock, _ = warm(kept_s=lambda: 60.0)
    kept.keep(ended(1))
    clock.now += 30
    kept.keep(ended(2))
    assert kept.lapsed() == []
    clock.now += 30
    assert kept.take(b"\x01" * 32, CLIENT, BLOCKS) is None
    assert kept.lapsed() == [b"\x01" * 32]
    assert len(kept) == 1


def test_those_that_ended_first_leave_first_and_only_where_it_helps() -> None:
    kept, _, _ = warm()
    for number, room in ((1, 32), (2, 48), (3, 16)):
        kept.keep(ended(number, room=room))
    assert kept.make_room(97) == []
    assert len(kept) == 3
    assert kept.make_room(0) == []
    assert kept.make_room(33) == [b"\x01" * 32, b"\x02" * 32]
    assert kept.room == 16


def test_a_client_keeps_its_newest_and_nobody_elses_leave_for_them() -> None:
    kept, _, _ = warm(most=4, most_of_client=2)
    kept.keep(ended(9, client=OTHER))
    assert [kept.keep(ended(number)) for number in (1, 2, 3)] == [[], [], [b"\x01" * 32]]
    assert kept.keep(ended(8, client=OTHER)) == []
    assert kept.keep(ended(7, client=b"\x03" * 20)) == [b"\x09" * 32]
    assert len(kept) == 4


def test_trails_go_with_their_sessions() -> None:
    kept, _, trails = warm()
    taken, dropped = trails.begin(4), trails.begin(4)
    for trail in (taken, dropped):
        trail.append(0, bytes(8))
    kept.keep(ended(1, trail=taken))
    kept.keep(ended(2, trail=dropped))
    found = kept.take(b"\x01" * 32, CLIENT, BLOCKS)
    assert found is not None
    assert found.trail is taken
    assert kept.make_room(1) == [b"\x02" * 32]
    assert (taken.whole, dropped.whole, len(trails)) == (2, 0, 1)


def test_nothing_is_left_of_thousands() -> None:
    kept, clock, trails = warm(most=20, most_of_client=8, kept_s=lambda: 50.0)
    dice, open_here = random.Random(3), set[bytes]()
    for number in range(1, 2001):
        clock.now += dice.random() * 5
        trail = trails.begin(4)
        trail.append(0, bytes(4 * dice.randint(1, 9)))
        name = number.to_bytes(32, "big")
        before = tuple(Origin((number - back).to_bytes(32, "big"), 5) for back in range(1, dice.randint(1, 4)))
        client = bytes([dice.randint(1, 5)]) * 20
        session = Ended(
            session=name,
            origins=before,
            client=client,
            blocks=BLOCKS,
            length=9,
            room=16,
            activations=ActivationType.FP32,
            trail=trail,
        )
        open_here.add(name)
        gone = kept.keep(session)
        if dice.random() < 0.3:
            gone += kept.make_room(dice.randint(1, 60))
        if dice.random() < 0.3:
            gone += kept.lapsed()
        if (found := kept.take(dice.randint(1, number).to_bytes(32, "big"), client, BLOCKS)) is not None:
            assert found.client == client
            gone.append(found.session)
            assert found.trail is not None
            trails.end(found.trail)
        open_here.difference_update(gone)
        assert len(kept) == len(open_here) == len(trails) <= 20
    clock.now += 60
    assert set(kept.lapsed()) == open_here
    assert (len(kept), trails.size, len(trails), len(kept._named)) == (0, 0, 0, 0)
