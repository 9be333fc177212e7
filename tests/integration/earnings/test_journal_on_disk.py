"""The journal on a real disk: through kills, beside other processes, when it is full, and where it cannot be used."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from node.earnings import JournalTables, StoredJournal, Work, open_journal
from node.events import Event, JournalNotKept, unheard
from node.worker import ThreadWorker
from protocol.errors import LocalError
from protocol.reputation.standing import DAY_S

NOW = 1_800_000_000
CLIENT = b"c" * 20
WORK = Work(model=b"m" * 32, model_name="counting", blocks="0:6", power=lambda: (310_000, 1_200))

WRITER = """
import asyncio, sys
from pathlib import Path
from node.earnings import Work, open_journal
from node.events import unheard
from node.worker import ThreadWorker

async def main(path, first, stays):
    worker = ThreadWorker("journal")
    async with open_journal(path, worker, lambda: 1_800_000_000, unheard) as journal:
        if stays:
            journal.serve(Work(model=b"m" * 32, model_name="counting", blocks="0:6", power=lambda: (1, 1000)))
        number = first
        while stays or number < first + 40:
            session = number.to_bytes(32, "big")
            journal.begun(session, client=b"c" * 20, leg=0, blocks="0:6")
            journal.ended(session, outcome="served", tokens_in=1, tokens_out=2, rows=2, millijoules=7, source="wall",
                          earned=5)
            journal.paid(session, amount=5, fee=1, entry=str(number))
            journal.closed(session)
            await journal.written()
            print(number, flush=True)
            number += 1
    worker.close()

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), len(sys.argv) > 3))
"""


def some(number: int) -> bytes:
    return number.to_bytes(32, "big")


@asynccontextmanager
async def journal_in(
    folder: Path, events: list[Event] | None = None, *, now: int = NOW
) -> AsyncIterator[StoredJournal]:
    async with AsyncExitStack() as stack:
        worker = ThreadWorker("journal")
        stack.callback(worker.close)
        tell = unheard if events is None else events.append
        yield await stack.enter_async_context(open_journal(folder / "earnings.sqlite", worker, lambda: now, tell))


def serve_one(journal: StoredJournal, number: int, *, millijoules: int | None = 9_000) -> None:
    journal.begun(some(number), client=CLIENT, leg=1, blocks="0:6")
    journal.ended(
        some(number), outcome="served", tokens_in=3, tokens_out=8, rows=10, millijoules=millijoules, source="wall",
        earned=21,
    )  # fmt: skip


def read(folder: Path) -> JournalTables:
    return JournalTables(folder / "earnings.sqlite")


@pytest.mark.asyncio
async def test_what_was_noted_is_there_for_the_next_process(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        journal.serve(WORK)
        serve_one(journal, 1)
        serve_one(journal, 2, millijoules=None)
        journal.paid(some(1), amount=21, fee=1, entry="17")
        journal.closed(some(1))
    assert (tmp_path / "earnings.sqlite").stat().st_mode & 0o777 == 0o600
    measured, unknown = read(tmp_path).read().jobs
    assert (measured.client, measured.leg, measured.model, measured.model_name) == (CLIENT, 1, WORK.model, "counting")
    assert (measured.millijoules, measured.source) == (9_000, "wall")
    assert (measured.energy_price, measured.pue_milli) == (310_000, 1_200)
    assert (measured.earned, measured.paid, measured.fees, measured.entry, measured.closed) == (21, 21, 1, "17", True)
    assert (unknown.millijoules, unknown.source, unknown.paid, unknown.closed) == (None, "unknown", 0, False)


@pytest.mark.asyncio
async def test_a_process_that_serves_nothing_takes_down_payments_alone(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as node, journal_in(tmp_path) as beside:
        node.serve(WORK)
        serve_one(node, 1)
        await node.written()
        serve_one(beside, 2)
        beside.paid(some(1), amount=21, fee=1, entry="17")
        await beside.written()
        # The node finds it paid, by an operation of its own key, and later at an entry of its client's.
        node.paid(some(1), amount=21, fee=1, entry="17")
        node.paid(some(1), amount=21, fee=0, entry="19")
    (job,) = read(tmp_path).read().jobs
    assert (job.session, job.paid, job.fees, job.entry) == (some(1), 21, 1, "17")


def test_nothing_noted_leaves_no_file(tmp_path: Path) -> None:
    async def story() -> None:
        async with journal_in(tmp_path) as journal:
            await journal.written()

    asyncio.run(story())
    assert read(tmp_path).read() == ((), (), 0)
    assert not (tmp_path / "earnings.sqlite").exists()


@pytest.mark.parametrize("kills", [6])
def test_what_was_written_survives_kills_and_whole_jobs_are_whole(tmp_path: Path, kills: int) -> None:
    """Killed at some moment, again and again: each job is in it once, whole or not at all, and none that was told of
    is missing.
    """
    path, told = tmp_path / "earnings.sqlite", 0
    for round_ in range(kills):
        command = [sys.executable, "-c", WRITER, str(path), str(1000 * round_), "stay"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(round_ + 2):
                assert writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
            told += round_ + 2 + len([line for line in writer.stdout if line.endswith("\n")])
    kept = JournalTables(path).read()
    assert told <= len(kept.jobs) <= told + kills
    for job in kept.jobs:
        assert (job.outcome, job.millijoules, job.earned, job.paid, job.fees) == ("served", 7, 5, 5, 1)
        assert job.closed
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.asyncio
async def test_what_was_running_when_a_node_died_is_cut_at_its_next_start(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        journal.serve(WORK)
        journal.begun(some(1), client=CLIENT, leg=1, blocks="0:6")
        serve_one(journal, 2)
    async with journal_in(tmp_path) as journal:
        journal.serve(WORK)
        counts = {"tokens_in": 3, "tokens_out": 4, "earned": 12}
        for number in (1, 2, 3):  # the redeemer finds their vouchers
            journal.left(some(number), client=CLIENT, leg=1, begun_at=NOW - 5, **counts)
    cut, served, lost = sorted(read(tmp_path).read().jobs, key=lambda job: job.session)
    assert (cut.outcome, cut.tokens_out, cut.earned, cut.millijoules) == ("cut", 4, 12, None)
    assert (served.outcome, served.tokens_out, served.earned) == ("served", 8, 21)
    assert (lost.outcome, lost.tokens_out, lost.earned, lost.begun_at) == ("cut", 4, 12, NOW - 5)


def test_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "earnings.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(1000 * each)], stdout=subprocess.DEVNULL)
        for each in range(2)
    ]
    assert [each.wait(timeout=60) for each in writers] == [0, 0]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*), sum(fee) FROM payments").fetchone() == (80, 80)


@pytest.mark.asyncio
async def test_a_disk_that_fails_is_told_once_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "earnings.sqlite").write_bytes(b"not a database" * 100)
    events: list[Event] = []
    async with journal_in(tmp_path, events) as journal:
        journal.serve(WORK)
        serve_one(journal, 1)
        await journal.written()
        serve_one(journal, 2)
        await journal.written()
        assert [type(event) for event in events] == [JournalNotKept]
        (tmp_path / "earnings.sqlite").unlink()
    assert [job.session for job in read(tmp_path).read().jobs] == [some(1), some(2)]


def test_a_journal_of_another_version_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "earnings.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(LocalError, match="version 2"):
        read(tmp_path).read()


@pytest.mark.asyncio
async def test_the_oldest_are_forgotten_and_that_is_said(tmp_path: Path) -> None:
    now = [NOW]
    worker = ThreadWorker("journal")
    tables = JournalTables(tmp_path / "earnings.sqlite", most=50)
    journal = StoredJournal(tables, worker, lambda: now[0], unheard)
    journal.serve(WORK)
    for number in range(120):
        now[0] = NOW + number * DAY_S // 10
        serve_one(journal, number)
        journal.paid(some(number), amount=21, fee=1, entry=str(number))
        await journal.written()
    await journal.close()
    worker.close()
    kept = read(tmp_path).read()
    assert 40 <= len(kept.jobs) <= 50
    assert [job.session for job in kept.jobs] == [some(number) for number in range(120 - len(kept.jobs), 120)]
    last_forgotten = NOW + (119 - len(kept.jobs)) * DAY_S // 10
    assert last_forgotten < kept.whole_from <= last_forgotten + DAY_S
    with closing(sqlite3.connect(tmp_path / "earnings.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM payments").fetchone() == (len(kept.jobs),)


@pytest.mark.asyncio
async def test_only_the_days_that_are_asked_for_are_read(tmp_path: Path) -> None:
    midnight = NOW // DAY_S * DAY_S
    for at, number in ((midnight - 1, 1), (midnight, 2), (midnight + DAY_S - 1, 3), (midnight + DAY_S, 4)):
        async with journal_in(tmp_path, now=at) as journal:
            journal.serve(WORK)
            serve_one(journal, number)
            journal.payout_sent(after=number, amount=5, fee=1, to="cold")
            journal.payout_taken(after=number, entry=str(number))
    kept = read(tmp_path).read(midnight, midnight + DAY_S)
    assert [job.session for job in kept.jobs] == [some(2), some(3)]
    assert [payout.entry for payout in kept.payouts] == ["2", "3"]


def test_there_is_no_room_for_a_prompt_or_an_answer(tmp_path: Path) -> None:
    async def story() -> None:
        async with journal_in(tmp_path) as journal:
            journal.serve(WORK)

    asyncio.run(story())
    with closing(sqlite3.connect(tmp_path / "earnings.sqlite")) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        columns = {name for (table,) in tables for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}
    assert columns == {
        "session", "client", "leg", "model", "model_name", "blocks", "begun_at", "ended_at", "outcome", "tokens_in",
        "tokens_out", "rows", "millijoules", "source", "energy_price", "pue_milli", "earned", "closed", "entry", "at",
        "amount", "fee", "number", "after", "destination", "until",
    }  # fmt: skip
