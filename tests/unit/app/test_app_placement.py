"""How many blocks fit, which windows a node can hold, and when it says that it would move."""

from __future__ import annotations

import asyncio

import pytest
from market_offers import MODEL, an_offer, key_of
from small_market import MANIFEST

from node.app.selling.placement import Placement, Room, _largest
from node.events import BlocksChosen, BlocksKept, BlocksMoving, Event
from protocol.identity.ids import BlockSpan

ME = 7


def placed(offers: list, *, windows: tuple[int, ...] = (0, 1, 2, 3, 4)) -> tuple[Placement, list[Event]]:  # type: ignore[type-arg]
    told: list[Event] = []
    room = Room(manifest=MANIFEST, length=2, windows=windows)
    return Placement(room, key_of(ME).public_key, lambda: offers, epoch_s=300, events=told.append), told


def offered(number: int, start: int, end: int, **more: object):  # type: ignore[no-untyped-def]
    return an_offer(number, (start, end), blocks=MANIFEST.blocks, model=MODEL, **more)


@pytest.mark.parametrize(
    ("sizes", "memory", "most", "found"),
    [
        ([10] * 4, 20, 4, (2, (0, 1, 2))),
        ([10] * 4, 100, 3, (3, (0, 1))),
        ([10] * 4, 100, 9, (4, (0,))),
        ([30, 10, 10, 10], 30, 4, (1, (0, 1, 2, 3))),
        ([30, 10, 10, 10], 29, 4, (1, (1, 2, 3))),
        ([None, 10, 10, None], 100, 4, (2, (1,))),
        ([10] * 4, 9, 4, (0, ())),
        ([None] * 4, 100, 4, (0, ())),
    ],
)
def test_as_many_blocks_as_fit_wherever_they_are(
    sizes: list[int | None], memory: int, most: int, found: tuple[int, tuple[int, ...]]
) -> None:
    assert _largest(sizes, memory, most) == found


def test_only_who_could_hold_any_window_is_planned_with() -> None:
    assert Room(manifest=MANIFEST, length=2, windows=(0, 1, 2, 3, 4)).moves
    assert not Room(manifest=MANIFEST, length=2, windows=(0, 2, 4)).moves
    assert not Room(manifest=MANIFEST, length=6, windows=(0,)).moves


def test_a_node_joins_where_a_gap_is_whatever_it_offered_before() -> None:
    before = offered(ME, 4, 6)
    placement, told = placed([offered(1, 0, 2), offered(2, 2, 4), before])
    assert placement.join() == BlockSpan(start=4, end=6)
    (chosen,) = told
    assert isinstance(chosen, BlocksChosen)
    assert (chosen.offers, chosen.uncovered, chosen.scarcest) == (2, 2, 0)


def look(offers: list, at: int) -> tuple[BlockSpan | None, list[Event]]:  # type: ignore[type-arg]
    placement, told = placed(offers)
    return asyncio.run(placement._look(3, BlockSpan(start=at, end=at + 2), 5)), told


def test_a_node_whose_turn_it_is_moves_and_others_stay() -> None:
    offers = [offered(ME, 0, 2, reload_s=5), offered(1, 0, 2), offered(2, 2, 4)]
    to, told = look(offers, 0)
    assert to == BlockSpan(start=4, end=6)
    assert isinstance(told[0], BlocksMoving)
    to, told = look([offered(ME, 0, 2), *offers[1:]], 0)
    assert to is None
    assert isinstance(told[0], BlocksKept)


def test_a_node_that_nobody_can_see_yet_stays() -> None:
    assert look([offered(1, 0, 2, reload_s=5), offered(2, 2, 4)], 0) == (None, [])
    assert look([offered(ME, 2, 4, reload_s=5), offered(2, 2, 4)], 0) == (None, [])
