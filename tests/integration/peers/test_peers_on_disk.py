"""What is remembered of peers, on a real disk: between processes, through crashes, and where it cannot be written."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from node.events import Event, PeersNotKept, unheard
from node.peers import PeerDatabase, StoredMemory, open_memory
from node.peers.deeds import Deeds
from node.peers.dials import FAILED_S, MOST_ANSWERED, MOST_FAILED, DialNote
from node.worker import ThreadWorker
from protocol.errors import LocalError
from protocol.reputation.standing import NEWCOMER, Deed

KEY = b"\2" + bytes(32)
NOW = 1_800_000_000
PEER, OTHER = b"p" * 20, b"q" * 20

WRITER = """
import sys, time
from pathlib import Path
from node.peers import PeerDatabase
from node.peers.deeds import Deeds
from protocol.reputation.standing import Deed

database = PeerDatabase(Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    deeds = Deeds()
    deeds.take(b"p" * 20, Deed.SERVED, at=1_800_000_000, amount=5)
    database.write(deeds, 1_800_000_000)
    print("written", flush=True)
if len(sys.argv) > 3:
    time.sleep(60)
"""


@asynccontextmanager
async def memory_in(folder: Path, events: list[Event] | None = None) -> AsyncIterator[StoredMemory]:
    async with AsyncExitStack() as stack:
        worker = ThreadWorker("peers")
        stack.callback(worker.close)
        tell = unheard if events is None else events.append
        yield await stack.enter_async_context(open_memory(folder / "peers.sqlite", worker, lambda: NOW, tell))


@pytest.mark.asyncio
async def test_what_was_noted_is_there_for_the_next_process(tmp_path: Path) -> None:
    async with memory_in(tmp_path / "new") as memory:
        assert memory.standing(PEER) is NEWCOMER
        memory.note(PEER, Deed.SILENT, about="took the job and said nothing")
        assert memory.standing(PEER).failures_in_row == 1
    assert (tmp_path / "new" / "peers.sqlite").stat().st_mode & 0o777 == 0o600
    async with memory_in(tmp_path / "new") as memory:
        (found,) = memory.acquaintances()
        assert (found.address, found.about[Deed.SILENT]) == (PEER, "took the job and said nothing")
        assert memory.standing(PEER).failures_in_row == 1


@pytest.mark.asyncio
async def test_nothing_noted_leaves_no_file(tmp_path: Path) -> None:
    peers = tmp_path / "peers.sqlite"
    async with memory_in(tmp_path) as memory:
        await memory.refresh()
        await memory.forget(None)
        assert memory.acquaintances() == []
    assert not peers.exists()


@pytest.mark.asyncio
async def test_what_came_of_dials_is_there_for_the_next_process(tmp_path: Path) -> None:
    one, other = ("192.0.2.1", 80), ("2001:db8::1", 4001)
    async with memory_in(tmp_path) as memory:
        assert memory.past_dials() == []
        memory.note_dial(one, None)
        memory.note_dial(one, None)
        for _ in range(3):
            memory.note_dial(other, KEY)
    async with memory_in(tmp_path) as memory:
        assert memory.past_dials() == [(one, None, 0), (one, None, 0), (other, KEY, 0)]


def test_dials_are_kept_for_a_while_and_only_so_many(tmp_path: Path) -> None:
    database = PeerDatabase(tmp_path / "peers.sqlite")
    notes = [DialNote(("192.0.2.1", port), None, NOW + port) for port in range(1, MOST_FAILED + 20)]
    good = [DialNote(("192.0.2.2", port), KEY, NOW + port) for port in range(1, MOST_ANSWERED + 20)]
    database.write_dials([*notes, *good], NOW)
    kept = database.dials(NOW)
    assert len(kept) == MOST_FAILED + MOST_ANSWERED
    assert all(each.at == NOW for each in kept), "what is dated ahead counts as of now"
    assert {each.endpoint[1] for each in kept if each.answered is None} == set(range(20, MOST_FAILED + 20))
    later = NOW + MOST_FAILED + 20 + FAILED_S
    database.write_dials([], later)
    assert [each for each in database.dials(later) if each.answered is None] == []
    database.write_dials([], later + 40 * 24 * 3600)
    assert database.dials(later) == []


@pytest.mark.asyncio
async def test_two_processes_of_one_key_see_what_the_other_noted(tmp_path: Path) -> None:
    async with memory_in(tmp_path) as one, memory_in(tmp_path) as two:
        one.note(PEER, Deed.FAILED)
        await one.refresh()
        two.note(PEER, Deed.FAILED)
        two.note(OTHER, Deed.LIED)
        await two.refresh()
        assert two.standing(PEER).failures_in_row == 2
        await one.refresh()
        assert one.standing(PEER).failures_in_row == 2
        assert one.standing(OTHER).offended
        assert await one.forget(OTHER) == 1
        await two.refresh()
        assert two.standing(OTHER) is NEWCOMER
        assert await two.forget(None) == 1
        await one.refresh()
        assert one.acquaintances() == []


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "peers.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, "50"], stdout=subprocess.DEVNULL) for _ in range(3)
    ]
    assert [each.wait(timeout=60) for each in writers] == [0, 0, 0]
    deeds = Deeds()
    deeds.load(PeerDatabase(path).write(Deeds(), NOW) or [], NOW)
    assert (deeds.standing(PEER, NOW).of(Deed.SERVED).count, deeds.standing(PEER, NOW).of(Deed.SERVED).amount) == (
        150,
        750,
    )


def test_what_was_written_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "peers.sqlite"
    with subprocess.Popen([sys.executable, "-c", WRITER, path, "5", "stay"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(5):
            assert writer.stdout.readline() == b"written\n"
        writer.kill()
    deeds = Deeds()
    deeds.load(PeerDatabase(path).write(Deeds(), NOW) or [], NOW)
    assert deeds.standing(PEER, NOW).of(Deed.SERVED).count == 5


@pytest.mark.asyncio
async def test_a_file_that_is_no_database_is_told_once_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "peers.sqlite").write_bytes(b"not a database" * 100)
    events: list[Event] = []
    async with memory_in(tmp_path, events) as memory:
        memory.note(PEER, Deed.FAILED)
        await memory.refresh()
        memory.note(PEER, Deed.FAILED)
        await memory.refresh()
        assert memory.standing(PEER).failures_in_row == 2
        assert [type(event) for event in events] == [PeersNotKept]
        (tmp_path / "peers.sqlite").unlink()
        await memory.refresh()
    async with memory_in(tmp_path) as memory:
        assert memory.standing(PEER).failures_in_row == 2


class FullDisk(PeerDatabase):
    """A real database that has no page left to write to."""

    def write(self, deeds: Deeds, now: int) -> object:  # type: ignore[override]
        with self._transaction() as connection:
            pass
        connection.execute("PRAGMA max_page_count = 1")
        return super().write(deeds, now)


def test_a_full_disk_takes_nothing_by_halves(tmp_path: Path) -> None:
    path = tmp_path / "peers.sqlite"
    deeds = Deeds()
    for each in range(2000):
        deeds.take(each.to_bytes(20, "big"), Deed.FAILED, at=NOW, about="x" * 200)
    with pytest.raises(LocalError, match="full"):
        FullDisk(path).write(deeds, NOW)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM deeds").fetchone() == (0,)
    connection.close()
    database = PeerDatabase(path)
    database.write(deeds, NOW)
    database.close()
    assert len(PeerDatabase(path).write(Deeds(), NOW) or []) == 2000


def test_a_table_of_another_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "peers.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    deeds = Deeds()
    deeds.take(PEER, Deed.FAILED, at=NOW)
    with pytest.raises(LocalError, match="version 2"):
        PeerDatabase(path).write(deeds, NOW)


def test_the_least_useful_leave_a_full_file(tmp_path: Path) -> None:
    database = PeerDatabase(tmp_path / "peers.sqlite", most=50)
    friend, liar = b"f" * 20, b"l" * 20
    deeds = Deeds()
    deeds.take(friend, Deed.SERVED, at=NOW - 9)
    deeds.take(liar, Deed.LIED, at=NOW - 9)
    database.write(deeds, NOW)
    crowd = Deeds()
    for each in range(500):
        crowd.take(each.to_bytes(20, "big"), Deed.LAPSED, at=NOW)
    database.write(crowd, NOW)
    database.close()
    left = {address for address, _ in PeerDatabase(tmp_path / "peers.sqlite").write(Deeds(), NOW) or []}
    assert {friend, liar} <= left
    assert len(left) <= 50


@pytest.mark.asyncio
async def test_a_note_is_written_soon_by_itself(tmp_path: Path) -> None:
    """Looked at by a reader alone: writers who ask without pause may keep each other out for long."""
    async with memory_in(tmp_path) as memory:
        memory.note(PEER, Deed.LIED)
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(is_written, tmp_path):
                pass


def is_written(folder: Path) -> bool:
    for path in folder.glob("*.sqlite*"):
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("SELECT count(*) FROM deeds").fetchone()[0])
    return False


NO_DESCRIPTORS = """
import asyncio, os, resource, sys
from pathlib import Path
from node.peers import open_memory
from node.worker import InlineWorker
from protocol.reputation.standing import Deed

async def main(path):
    told, full = [], []
    async with open_memory(path, InlineWorker(), lambda: 1_800_000_000, told.append) as memory:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        try:
            while True:
                full.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        memory.note(b"p" * 20, Deed.FAILED)
        await memory.refresh()
        assert memory.standing(b"p" * 20).failures_in_row == 1
        assert [event.name for event in told] == ["peers not kept"], told
        for each in full:
            os.close(each)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_full_table_of_descriptors_ends_nothing_and_what_was_noted_is_written_later(tmp_path: Path) -> None:
    path = tmp_path / "peers.sqlite"
    done = subprocess.run([sys.executable, "-c", NO_DESCRIPTORS, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    deeds = Deeds()
    deeds.load(PeerDatabase(path).write(Deeds(), NOW) or [], NOW)
    assert deeds.standing(PEER, NOW).failures_in_row == 1
