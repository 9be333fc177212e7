"""A ledger killed between any two of its writes, and at any moment: nothing that it acknowledged is lost, and no two
checkpoints that it showed contradict each other.

`make crash` runs the long form, of minutes: random moments under load too.
"""

from __future__ import annotations

import asyncio
import os
import random
from itertools import count
from pathlib import Path

import pytest
from dying_ledger import NEVER, People, begin, begun
from ledger_world import ledger_settings

from node.ledger import LedgerClient, LedgerSettings, verify_database

LONG = os.environ.get("CRASH") == "long"
KILLS = int(os.environ.get("KILLS", "200"))
STEP = 1 if LONG else 5
"""Of writes that follow one another, it dies at each so-many-eth."""
BESIDE = 3
"""Ledgers that are begun at once."""
CROWD = 4
LONGEST_LIFE_S = 0.4


async def look_back(settings: LedgerSettings, people: People) -> None:
    """What is left, once the last one has died."""
    async with begun(settings) as ledger, people.client(ledger) as client:
        await people.look(client)
        assert await people.work(client)
    report = await verify_database(settings.url.render_as_string(hide_password=False))
    assert report.fault is None
    assert people.kinds == {"deposit/2", "open/2", "settle/2", "release/2", "withdraw/2"}


@pytest.mark.asyncio
async def test_killed_at_every_write_of_its_beginning(tmp_path: Path) -> None:
    died: list[int] = []
    turn = asyncio.Semaphore(BESIDE)

    async def one(last: int) -> None:
        settings = ledger_settings(tmp_path / str(last))
        async with turn:
            ledger = await begin(settings, last)
            if ledger is not None:
                await ledger.stop()
                return
            died.append(last)
            async with begun(settings) as again, LedgerClient(again.url, verifier_key=again.verifier_key) as client:
                assert (await client.checkpoint()).size == 1
        assert (await verify_database(settings.folder / "ledger.sqlite3")).fault is None

    ledger = await begin(ledger_settings(tmp_path / "whole"))
    assert ledger is not None
    places = await ledger.stop()
    await asyncio.gather(*map(one, {*range(0, places, STEP), places}))
    assert sorted(died) == list(range(0, places, STEP))
    assert places > 10


@pytest.mark.asyncio
async def test_killed_at_every_write_of_its_work(settings: LedgerSettings, tmp_path: Path) -> None:
    people = People(tmp_path)
    async with begun(settings) as ledger, people.client(ledger) as client:
        for _ in range(3):
            await people.work(client)
    deaths = 0
    for last in count(step=STEP):
        ledger = await begin(settings, last)
        deaths += 1
        if ledger is None:
            continue
        async with people.client(ledger) as client:
            if await people.work(client):
                break
        await ledger.ended()
    await ledger.stop()
    assert deaths > 20 // STEP
    await look_back(settings, people)


@pytest.mark.asyncio
@pytest.mark.skipif(not LONG, reason="takes minutes: `make crash` runs it")
@pytest.mark.slow
async def test_killed_at_random_moments(settings: LedgerSettings, tmp_path: Path) -> None:
    people, moments = People(tmp_path), random.Random(8)

    async def ask(client: LedgerClient) -> None:
        while await people.work(client):
            pass

    for number in range(KILLS):
        ledger = await begin(settings, NEVER)
        assert ledger is not None
        async with people.client(ledger) as client:
            crowd = [asyncio.create_task(ask(client)) for _ in range(CROWD)]
            await asyncio.sleep(moments.uniform(0, LONGEST_LIFE_S))
            await ledger.kill()
            await asyncio.gather(*crowd)
        if number % 20 == 19:
            print(f"{number + 1} kills, {len(people.told)} acknowledged, {len(people.notes)} checkpoints seen")
    await look_back(settings, people)
