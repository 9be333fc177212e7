"""`node.ports.Worker`: calls one at a time and in order, whatever becomes of those who wait for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from node.ports import Worker
from node.worker import InlineWorker, ThreadWorker

pytestmark = pytest.mark.asyncio


@pytest.fixture(params=["thread", "inline"])
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    made: Worker = ThreadWorker("test") if request.param == "thread" else InlineWorker()
    yield made
    made.close()


async def test_calls_run_in_the_order_in_which_they_were_given(worker: Worker) -> None:
    done: list[int] = []
    await asyncio.gather(*(worker.run(lambda number=number: done.append(number)) for number in range(50)))
    assert done == list(range(50))


async def test_what_a_call_returns_or_raises_comes_to_who_waits(worker: Worker) -> None:
    assert await worker.run(lambda: 6 * 7) == 42

    def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await worker.run(fail)
    assert await worker.run(lambda: "on") == "on"


async def test_a_call_runs_although_nobody_waits_for_it_any_more() -> None:
    worker, held, done = ThreadWorker("test"), threading.Event(), threading.Event()
    first = asyncio.ensure_future(worker.run(held.wait))
    second = asyncio.ensure_future(worker.run(done.set))
    await asyncio.sleep(0)
    for task in (first, second):
        task.cancel()
    assert all(
        isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(first, second, return_exceptions=True)
    )
    held.set()
    await asyncio.to_thread(worker.close)
    assert done.is_set()


async def test_a_worker_that_has_ended_takes_no_calls() -> None:
    worker = ThreadWorker("test")
    worker.close()
    worker.close()
    with pytest.raises(RuntimeError, match="has ended"):
        worker.run(lambda: None)
