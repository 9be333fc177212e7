"""A whole log replayed, with every signature: with one process and with two, and whether it is as quick at its end."""

from __future__ import annotations

import resource
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from ledger_bench.logs import database_of
from node.ledger.verify import verify_database

PROCESSES = (1, 2)


@dataclass(slots=True)
class Replays:
    """Of one log: seconds by the number of processes, one for each round."""

    entries: int = 0
    clock_s: dict[int, list[float]] = field(default_factory=lambda: {count: [] for count in PROCESSES})
    busiest_s: dict[int, list[float]] = field(default_factory=lambda: {count: [] for count in PROCESSES})
    """Processor time of the process that had the most to do: what the clock would show on idle cores."""
    halves: list[float] = field(default_factory=list)
    """How much slower an entry of the second half was than one of the first, in processor time, on one process."""

    def ratio(self, seconds: dict[int, list[float]]) -> float:
        """How many times as quick two are."""
        return statistics.median(one / two for one, two in zip(*seconds.values(), strict=True))


async def measure(folder: Path, rounds: int) -> Replays:
    """Sides take turns."""
    found = Replays()
    for _ in range(rounds):
        for processes in PROCESSES:
            marks: list[tuple[int, float]] = []
            began, others, used = time.perf_counter(), _others_s(), time.process_time()
            report = await verify_database(
                database_of(folder),
                processes=processes,
                progress=lambda done, _, marks=marks: marks.append((done, time.process_time())),
            )
            if report.fault is not None:
                raise SystemExit(f"the log is not sound: {report.fault}")
            found.entries = report.entries
            found.clock_s[processes].append(time.perf_counter() - began)
            # The others are counted when they have ended, as they have by now.
            found.busiest_s[processes].append(max(time.process_time() - used, _others_s() - others))
            if processes == 1:
                found.halves.append(_slower(marks))
    return found


def _others_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _slower(marks: list[tuple[int, float]]) -> float:
    first, middle, last = marks[0], marks[len(marks) // 2], marks[-1]
    early = (middle[1] - first[1]) / (middle[0] - first[0])
    return (last[1] - middle[1]) / (last[0] - middle[0]) / early
