"""Who gets a place, a turn, and memory to receive into, and in what order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from node.p2p.budget import ReceiveBudget
from node.p2p.link_places import Origins, Waiting, share_out
from node.p2p.turns import Stage, Turns

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    ("descriptors", "places"), [(16, (8, 4)), (256, (128, 64)), (10**6, (1024, 128)), (1280, (1024, 128)), (1, (4, 4))]
)
async def test_places_follow_from_descriptors(descriptors: int, places: tuple[int, int]) -> None:
    assert share_out(descriptors) == places


async def test_the_oldest_of_the_busiest_origin_leaves_first() -> None:
    guests = Origins[str]()
    for guest, origin in (("a", "one"), ("b", "many"), ("c", "many"), ("d", "many"), ("e", "one")):
        guests.add(guest, origin)
    left = []
    while guests:
        guest, origin = guests.next_to_leave()
        assert guests.discard(guest, origin)
        left.append(guest)
    assert left[0] == "b"
    assert sorted(left) == ["a", "b", "c", "d", "e"]
    assert not guests.discard("a", "one")


async def test_who_has_answered_stays_longer_than_who_has_only_knocked() -> None:
    waiting = Waiting(2)
    tasks = [asyncio.create_task(asyncio.Event().wait()) for _ in range(4)]
    waiting.add(tasks[0], "here")  # type: ignore[arg-type]
    waiting.answered(tasks[0], "here")  # type: ignore[arg-type]
    for task in tasks[1:]:
        waiting.add(task, "here")  # type: ignore[arg-type]
    await asyncio.wait(tasks[1:3])
    assert [task.cancelled() for task in tasks] == [False, True, True, False]
    waiting.answered(tasks[3], "here")  # type: ignore[arg-type]
    late = asyncio.create_task(asyncio.Event().wait())
    waiting.add(late, "here")  # type: ignore[arg-type]
    await asyncio.wait({late})
    assert not waiting.let_go()
    waiting.not_yet(tasks[0], "here")  # type: ignore[arg-type]
    assert waiting.let_go()
    waiting.discard(tasks[3], "here")  # type: ignore[arg-type]
    assert len(waiting) == 0
    tasks[3].cancel()
    await asyncio.wait(tasks)


@pytest_asyncio.fixture
async def turns() -> AsyncIterator[Turns]:
    running = Turns("turns")
    yield running
    running.close()


class Held:
    """A turn that is taken until `free`."""

    def __init__(self, turns: Turns) -> None:
        self._may_end = threading.Event()
        self._begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hold() -> None:
            loop.call_soon_threadsafe(self._begun.set)
            self._may_end.wait(10)

        self.task = asyncio.create_task(turns.run(hold))

    async def begun(self) -> None:
        await self._begun.wait()

    def free(self) -> None:
        self._may_end.set()


async def test_the_furthest_has_the_next_turn_and_then_the_newest(turns: Turns) -> None:
    held = Held(turns)
    await held.begun()
    served: list[str] = []
    waiting = []
    for name, stage in (
        ("first", Stage.NEW), ("answered", Stage.ANSWERED), ("known", Stage.KNOWN), ("last", Stage.NEW),
        ("then", Stage.ANSWERED),
    ):  # fmt: skip
        waiting.append(asyncio.create_task(turns.run(lambda name=name: served.append(name), stage)))
        await asyncio.sleep(0)
    held.free()
    await asyncio.gather(*waiting, held.task)
    assert served == ["answered", "then", "known", "last", "first"]


async def test_a_cancelled_turn_is_not_taken_and_one_that_has_begun_is_waited_for(turns: Turns) -> None:
    held = Held(turns)
    await held.begun()
    served: list[int] = []
    waiting = asyncio.create_task(turns.run(lambda: served.append(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    held.task.cancel()
    await asyncio.wait({waiting})
    assert not held.task.done()
    held.free()
    await asyncio.wait({held.task})
    assert held.task.cancelled()
    assert served == []
    assert await turns.run(lambda: 7) == 7


async def test_what_a_turn_raises_is_raised(turns: Turns) -> None:
    with pytest.raises(ZeroDivisionError):
        await turns.run(lambda: 1 // 0)


async def test_memory_is_given_in_order_and_all_of_it_comes_back() -> None:
    budget = ReceiveBudget(100)
    await budget.take(b"a", 60)
    large = asyncio.create_task(budget.take(b"b", 70))
    small = asyncio.create_task(budget.take(b"c", 10))
    await asyncio.sleep(0)
    assert not small.done()  # else a stream of small ones would keep the large one waiting for ever
    budget.give(b"a", 60)
    await asyncio.gather(large, small)
    assert budget.free == 20
    budget.give(b"b", 70)
    budget.give(b"c", 10)
    assert budget.free == 100


async def test_a_peer_receives_one_large_frame_at_a_time_and_others_do_not_wait_for_it() -> None:
    budget = ReceiveBudget(100)
    await budget.take(b"a", 30)
    again = asyncio.create_task(budget.take(b"a", 30))
    await asyncio.sleep(0)
    await budget.take(b"b", 30)
    assert not again.done()
    budget.give(b"a", 30)
    await again


async def test_who_stops_waiting_for_memory_holds_none_and_holds_nobody_up() -> None:
    budget = ReceiveBudget(100)
    await budget.take(b"a", 60)
    large = asyncio.create_task(budget.take(b"b", 70))
    small = asyncio.create_task(budget.take(b"c", 10))
    await asyncio.sleep(0)
    large.cancel()
    await small
    assert budget.free == 30
    granted = asyncio.create_task(budget.take(b"d", 50))
    await asyncio.sleep(0)
    budget.give(b"a", 60)
    granted.cancel()  # it has its memory by now, and does not know of it yet
    await asyncio.wait({granted})
    assert budget.free == 90


async def test_a_frame_larger_than_the_budget_has_all_of_it() -> None:
    budget = ReceiveBudget(100)
    await budget.take(b"a", 1000)
    assert budget.free == 0
    budget.give(b"a", 1000)
    assert budget.free == 100
