"""Nodes of a machine that read one counter: two real processes, and a folder that cannot be used."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from node.energy import MeteredEnergy, Metering, Power
from node.energy.shared import MeterFolder, SharedMeter, meters_folder
from node.events import Event, MeterNotShared, MeterShared
from node.worker import ThreadWorker
from protocol.energy.energy_shares import NOT_SAID
from protocol.errors import MeterError
from protocol.market.offer import Provenance

READER = """
import json, os, sys
from pathlib import Path
from node.energy.shared import MeterFolder, SharedMeter
from protocol.energy.energy_shares import NOT_SAID
from protocol.market.offer import Provenance

class Plug:
    name, is_power, is_own, accuracy = "the plug", False, False, NOT_SAID
    def value(self):  # 200 W, whoever looks
        return now * 200

share, now = int(sys.argv[2]), 0
meter = SharedMeter(Provenance.WALL, [Plug()], folder=MeterFolder(Path(sys.argv[1])), who=f"{os.getpid()}-0",
                    work_ns=lambda: now * share * 10, most_uw=10**9, clock_us=lambda: now)
for line in sys.stdin:
    now = int(line)
    print(json.dumps(meter.read()), flush=True)
"""


class Plug:
    name = "the plug"
    is_power = False
    is_own = False
    accuracy = NOT_SAID

    def __init__(self) -> None:
        self.uj = 0

    def value(self) -> int:
        self.uj += 50_000
        return self.uj


class Reader:
    """A node's process, which is told the time."""

    def __init__(self, folder: Path, share: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", READER, str(folder), str(share)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self, at_us: int | None = None) -> tuple[int, list[int], int]:
        """At a time of the machine's clock; now, if none is said."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{time.monotonic_ns() // 1000 if at_us is None else at_us}\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        return found[0], found[1], found[2]

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def test_m63_two_processes_have_a_counter_between_them(tmp_path: Path) -> None:
    busy, calm = Reader(tmp_path, 75), Reader(tmp_path, 25)
    try:
        assert busy.read(1)[2] == 1
        assert calm.read(2)[2] == 2, "the one that comes knows at once"
        first = [busy.read(3), calm.read(4)]
        rounds = [[busy.read(second * 10**6), calm.read(second * 10**6 + 300_000)] for second in range(1, 201)]
        for before, after in pairwise([first, *rounds]):
            assert all(one[0] <= other[0] for one, other in zip(before, after, strict=True))
        last = rounds[-1]
        assert {each[2] for each in last} == {2}
        assert [each[1] for each in last] == [each[1] for each in first], "no gap"
        (file,) = tmp_path.glob("*.json")
        book = json.loads(file.read_text())
        assert book["counter"] == "the plug"
        parts = [last[0][0] - first[0][0], last[1][0] - first[1][0]]
        assert parts[0] / sum(parts) == pytest.approx(0.75, abs=0.01)
        calm.kill()
        assert busy.read(201 * 10**6)[2] == 1, "who has ended has no part any more"
        total = sum(each["uj"] for each in book["parties"].values()) + book["pool_uj"]
        assert total <= book["value"], "nothing is counted twice"
    finally:
        busy.kill()
        calm.kill()


def a_meter(folder: Path, who: str = "1-1") -> SharedMeter:
    return SharedMeter(
        Provenance.WALL, [Plug()], folder=MeterFolder(folder), who=who, work_ns=lambda: 0, most_uw=10**12, every_s=0.01
    )


def test_a_file_that_nobody_understands_begins_anew(tmp_path: Path) -> None:
    meter = a_meter(tmp_path / "meters")
    before = meter.read()
    (file,) = (tmp_path / "meters").glob("*.json")
    assert file.parent.stat().st_mode & 0o077 == 0
    good = json.loads(file.read_text())
    for text in (
        "",
        "[]",
        "{",
        '{"parties": 5}',
        json.dumps({**good, "at_us": "soon"}),
        json.dumps({**good, "new": 1}),
    ):
        file.write_text(text)
        after = meter.read()
        assert after.sharers == 1
        assert after.epoch != before.epoch, "what was used meanwhile nobody knows"


def test_counters_of_processes_own_are_one_counter(tmp_path: Path) -> None:
    """Each process counts from another moment; what it used, they have between them all the same."""
    shown, clock, meters = [0, 0], [0], []
    for number in range(2):
        plug = Plug()
        plug.is_own = True
        plug.value = lambda number=number: shown[number]  # type: ignore[method-assign]
        who = f"{os.getpid()}-{number}"
        meter = SharedMeter(
            Provenance.RAPL,
            [plug],
            folder=MeterFolder(tmp_path),
            who=who,
            work_ns=lambda: clock[0],
            most_uw=10**12,
            clock_us=lambda: clock[0],
        )
        meters.append(meter)
    shown[1] = 7_000_000_000
    first = [meter.read() for meter in meters]
    for _ in range(50):
        for meter in meters:
            clock[0] += 500_000
            shown[:] = [each + 10_000_000 for each in shown]
            last = meter.read()
            assert last.epoch in {each.epoch for each in first}
    used = sum(meter.read().microjoules for meter in meters)
    assert used == 100 * 10_000_000


def test_what_was_counted_while_nobody_ran_is_nobodys(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    gone = a_meter(tmp_path, f"{process.pid}-5")
    gone.read()
    (plug,) = gone._gauges
    here = SharedMeter(
        Provenance.WALL, [plug], folder=MeterFolder(tmp_path), who=f"{os.getpid()}-5", work_ns=lambda: 0, most_uw=10**12
    )
    plug.uj += 10**9  # type: ignore[attr-defined]
    assert here.read().microjoules == 0
    assert here.read().microjoules == 50_000


def test_a_process_that_stands_still_with_the_lock_is_not_waited_for(tmp_path: Path) -> None:
    meter = a_meter(tmp_path)
    meter.read()
    (lock,) = tmp_path.glob("*.lock")
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(MeterError, match="does not go on"):
            meter.read()
    assert meter.read().sharers == 1


def test_a_folder_of_others_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert meters_folder() == tmp_path / "joulemesh-meters"
    assert MeterFolder(meters_folder()).trouble is None
    meters_folder().chmod(0o777)
    assert "own folder" in (MeterFolder(meters_folder()).trouble or "")
    (tmp_path / "link").symlink_to(tmp_path / "joulemesh-meters")
    assert "own folder" in (MeterFolder(tmp_path / "link").trouble or "")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert meters_folder().is_absolute()


def test_the_dead_are_not_waited_for(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    gone, here = a_meter(tmp_path, f"{process.pid}-5"), a_meter(tmp_path, f"{os.getpid()}-5")
    gone.read()
    first = here.read()
    assert first.sharers == 1
    assert here.read().microjoules > first.microjoules


@pytest.mark.asyncio
async def test_where_nothing_can_be_written_a_node_says_so_and_counts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    meter = a_meter(tmp_path / "file" / "meters")
    heard: asyncio.Queue[Event] = asyncio.Queue()
    worker = ThreadWorker("meter")
    metering = Metering(
        MeteredEnergy(meter, blocks=1),
        worker=worker,
        events=heard.put_nowait,
        clock=lambda: 0,
        power=lambda: Power(micro_per_kwh=1, pue_milli=1_000),
        path=None,
    )
    task = asyncio.create_task(metering.run())
    event = await heard.get()
    task.cancel()
    worker.close()
    assert isinstance(event, MeterNotShared)
    assert "both count all of it" in event.sentence()
    first = meter.read()
    assert meter.read().microjoules > first.microjoules


@pytest.mark.asyncio
async def test_a_node_says_that_it_shares_and_that_it_does_not_any_more(tmp_path: Path) -> None:
    heard: asyncio.Queue[Event] = asyncio.Queue()
    worker = ThreadWorker("meter")
    metering = Metering(
        MeteredEnergy(a_meter(tmp_path, f"{os.getpid()}-1"), blocks=1),
        worker=worker,
        events=heard.put_nowait,
        clock=lambda: 0,
        power=lambda: Power(micro_per_kwh=1, pue_milli=1_000),
        path=tmp_path / "energy" / "report.json",
    )
    task = asyncio.create_task(metering.run())
    other = Reader(tmp_path, 50)
    try:
        other.read()
        shared = await heard.get()
    finally:
        other.kill()
    alone = await heard.get()
    task.cancel()
    worker.close()
    assert isinstance(shared, MeterShared)
    assert isinstance(alone, MeterShared)
    assert (shared.nodes, alone.nodes) == (2, 1)
    assert "2 nodes share the plug" in shared.sentence()
