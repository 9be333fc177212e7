"""Many who ask at once share a run; nobody is content with one that began before he asked."""

from __future__ import annotations

import asyncio

import pytest

from node.ledger.shared_run import SharedRun


class Work:
    """Counts its runs, and lets a test hold them."""

    def __init__(self) -> None:
        self.runs = 0
        self.go = asyncio.Event()
        self.failures = 0

    async def __call__(self) -> None:
        self.runs += 1
        await self.go.wait()
        if self.failures:
            self.failures -= 1
            raise OSError("gone")


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_those_who_come_during_a_run_share_the_next_one() -> None:
    work = Work()
    run = SharedRun(work)
    first = asyncio.create_task(run())
    await settled()
    others = [asyncio.create_task(run()) for _ in range(10)]
    await settled()
    assert (work.runs, first.done()) == (1, False)
    work.go.set()
    await asyncio.gather(first, *others)
    assert work.runs == 2
    await run()
    assert work.runs == 3


@pytest.mark.asyncio
async def test_a_run_that_fails_is_tried_again_for_the_others() -> None:
    work = Work()
    work.failures = 2
    run = SharedRun(work)
    tasks = [asyncio.create_task(run()) for _ in range(4)]
    await settled()
    work.go.set()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [OSError, OSError, type(None), type(None)]
    assert work.runs == 3
