"""One row of the table: an attack beside honest jobs, what it cost whom, and the targets that it is held against."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from siege.attack import Attack, Budget, Surface
from siege.field import Child, Field, FreshRun, Job
from siege.watched import Usage, Work

__all__ = ["LONG", "SHORT", "Row", "Size", "measure"]

KEPT_MB = 10.0
"""Memory that may stay taken after an attack."""
BOOK_MB = 100.0
"""Memory that may stay taken after one that fills books: an offer stays until it expires, and books are bounded."""
KEPT_FILES = 3
"""Descriptors that may: honest links come and go while they are counted."""
LEAST_RATE = {Budget.NOTHING: 0.8, Budget.ONE_JOB: 0.5, Budget.PLAY: 0.0}
"""Honest jobs under attack, of those before, by what the attacker spends."""
RECOVERED = 0.9
"""Honest jobs from `RECOVER_S` after it, of those before: all of them, but for what two measurements differ by."""
RECOVER_S = 5.0
LATEST_START = 1.5
"""A newcomer's answer begins so many times as late as without the attack, at most."""
NEWCOMER_MB = 100.0
"""More memory than without the attack that a newcomer's command may take."""
DIALS_A_MINUTE = 4
"""By one client or node, of one host."""
AWAKE_S = 60.0
"""An attacker has so long to start."""
CALM_S = 20.0
"""Memory and descriptors have so long to come back."""


@dataclass(frozen=True, slots=True)
class Size:
    """How long things are looked at."""

    window_s: float
    """For a rate before and after."""
    least: int
    """Jobs in a window, at least."""
    limit_s: float
    """An attack is stopped after so long, whatever it has got done."""
    long: bool
    """Whether rates and newcomers are held against targets: on a busy machine a short look tells nothing of them."""
    newcomers: int


LONG = Size(window_s=20.0, least=3, limit_s=180.0, long=True, newcomers=2)
SHORT = Size(window_s=0.0, least=1, limit_s=8.0, long=False, newcomers=0)


@dataclass(slots=True)
class Row:
    """What was measured."""

    name: str
    surface: Surface
    count: int
    seconds: float = 0.0
    """That the attack ran."""
    before: float = 0.0
    """Honest jobs a minute."""
    during: float = 0.0
    after: float = 0.0
    work: list[tuple[float, float]] = field(default_factory=list)
    """Before, during and after: processor seconds of all honest processes for each job, and for each second the seconds
    that they waited for a processor, added up. It tells work that the attack makes from a machine that others use."""
    failed: Counter[str] = field(default_factory=Counter)
    """Honest jobs that failed while it ran and after it, by code."""
    rss_mb: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Of the attacked process: before, at most, after."""
    files: tuple[int, int, int] = (0, 0, 0)
    cpu_s: float = 0.0
    """That the attacked process took while it ran."""
    newcomers: tuple[list[FreshRun], list[FreshRun]] | None = None
    """Before and during."""
    tracebacks: int = 0
    exits: int = 0
    tally: dict[str, int] = field(default_factory=dict)
    """What the attacker counted."""
    failure: str = ""
    """Why the attacker itself broke."""
    spent_micro: int = 0
    missed: list[str] = field(default_factory=list)
    """Targets that were not met, in words."""

    @property
    def held(self) -> bool:
        return not self.missed


async def measure(field: Field, attack: Attack, size: Size, count: int | None = None) -> Row:
    """Make an attack on the network, and look at everything else meanwhile."""
    row = Row(attack.name, attack.surface, count or (attack.long if size.long else attack.short))
    tracebacks, exits = field.tracebacks, field.exits
    row.before, _ = await _rate(field, row, size)
    timed = attack.fresh and size.newcomers
    runs_before = [await field.fresh_run() for _ in range(size.newcomers)] if timed else []
    first = field.usage(attack.on)
    async with field.attack(attack, row.count, AWAKE_S) as child:
        began = time.monotonic()
        peak = asyncio.create_task(_peak(field, attack.on))
        at_first = field.work
        row.during, during = await _while_it_runs(field, attack, child, size, began)
        row.work.append(_shares(field.work - at_first, during, time.monotonic() - began))
        if timed:
            row.newcomers = runs_before, [await field.fresh_run() for _ in range(size.newcomers)]
        row.seconds = time.monotonic() - began
    busy = field.usage(attack.on)
    peak.cancel()
    most = await _result(peak)
    if size.long:
        await asyncio.sleep(RECOVER_S)
    row.after, after = await _rate(field, row, size)
    last = await _calm(field, attack, first)
    row.failed = Counter(job.code for job in (*during, *after) if not job.ok)
    if first and last:
        row.rss_mb = (first.rss_mb, max(most.rss_mb, last.rss_mb), last.rss_mb)
        row.files = (first.files, max(most.files, last.files), last.files)
    row.cpu_s = busy.cpu_s - first.cpu_s if busy and first else 0.0
    row.tracebacks, row.exits = field.tracebacks - tracebacks, field.exits - exits
    _take_word(row, child)
    if size.long:
        await field.dismiss()
    row.missed = list(_missed(row, attack, size, len(field.target.nodes)))
    return row


async def _rate(field: Field, row: Row, size: Size) -> tuple[float, list[Job]]:
    """Good jobs a minute from now on, and all of them."""
    began, at_first = time.monotonic(), field.work
    jobs = await field.jobs_in(size.window_s, size.least)
    took = time.monotonic() - began
    row.work.append(_shares(field.work - at_first, jobs, took))
    return _a_minute(jobs, took), jobs


def _shares(work: Work, jobs: Sequence[Job], seconds: float) -> tuple[float, float]:
    done = sum(job.ok for job in jobs)
    return work.cpu_s / max(1, done), work.waited_s / max(seconds, 0.001)


def _a_minute(jobs: Sequence[Job], seconds: float) -> float:
    return 60 * sum(job.ok for job in jobs) / max(seconds, 0.001)


async def _while_it_runs(
    field: Field, attack: Attack, child: Child, size: Size, began: float
) -> tuple[float, list[Job]]:
    """Until it is through, or has been held up for long enough."""
    known = len(field.jobs)
    await child.wait_for("at full", "done", limit_s=max(size.limit_s, attack.at_least_s))
    started = time.monotonic()
    if any(each["event"] == "at full" for each in child.said):
        await field.jobs_in(attack.at_least_s if size.long else 0.0, size.least, max(attack.at_least_s, size.limit_s))
    elif size.long:
        await child.wait_for("done", limit_s=max(0.0, size.limit_s - (time.monotonic() - began)))
    while not any(job.ok for job in field.jobs[known:]) and time.monotonic() - started < size.limit_s:
        await field.honest.news(1.0)  # not one was done yet
    jobs = field.jobs[known:]
    return _a_minute(jobs, time.monotonic() - began), jobs


async def _peak(field: Field, name: str) -> Usage:
    most = Usage(0.0, 0, 0.0)
    try:
        while True:
            if (now := field.usage(name)) is not None:
                most = Usage(max(most.rss_mb, now.rss_mb), max(most.files, now.files), now.cpu_s)
            await asyncio.sleep(0.25)
    except asyncio.CancelledError:
        return most


async def _result(task: asyncio.Task[Usage]) -> Usage:
    try:
        return await task
    except asyncio.CancelledError:
        return Usage(0.0, 0, 0.0)


async def _calm(field: Field, attack: Attack, first: Usage | None) -> Usage | None:
    """What the attacked process holds once it is back to what it held, or has had long enough for that."""
    until = time.monotonic() + CALM_S
    while (now := field.usage(attack.on)) is not None and first is not None and time.monotonic() < until:
        if now.rss_mb <= first.rss_mb + KEPT_MB and now.files <= first.files + KEPT_FILES:
            break
        await field.honest.news(0.5)
    return now


def _take_word(row: Row, child: Child) -> None:
    for each in child.said:
        if each["event"] == "done":
            row.tally, row.failure = each["tally"], each["failure"]
            row.spent_micro = row.tally.get("spent_micro", 0)
            return
    row.failure = f"the attacker said nothing at its end: {child.complaint[-300:]}"


def _missed(row: Row, attack: Attack, size: Size, nodes: int) -> list[str]:
    missed = []
    if row.failure:
        missed.append(f"the attack itself failed: {row.failure}")
    if row.exits:
        missed.append(f"{row.exits} processes ended")
    if row.tracebacks:
        missed.append(f"{row.tracebacks} tracebacks")
    if not any(count for name, count in row.tally.items() if name.startswith(attack.came)):
        missed.append(f"nothing came of the attack, which counted {row.tally}")
    missed += [f"{name.removeprefix('breach_').replace('_', ' ')}" for name in row.tally if name.startswith("breach_")]
    before, _, after = row.rss_mb
    if after > before + (BOOK_MB if attack.surface is Surface.OFFERS else KEPT_MB):
        missed.append(f"{after - before:.0f} MB kept by {attack.on}")
    if row.files[2] > row.files[0] + KEPT_FILES:
        missed.append(f"{row.files[2] - row.files[0]} descriptors kept by {attack.on}")
    return missed + (_missed_rates(row, attack, nodes) if size.long else _missed_jobs(row))


def _missed_jobs(row: Row) -> list[str]:
    """A short look: honest jobs came, whatever the pace."""
    return [f"no honest job {when}" for when, rate in (("during", row.during), ("after", row.after)) if not rate]


def _missed_rates(row: Row, attack: Attack, nodes: int) -> list[str]:
    missed = []
    least = LEAST_RATE[attack.budget]
    if row.during < least * row.before:
        missed.append(f"{100 * row.during / max(row.before, 0.1):.0f} % of the jobs during, {100 * least:.0f} % wanted")
    if row.after < RECOVERED * row.before:
        missed.append(f"{100 * row.after / max(row.before, 0.1):.0f} % of the jobs after")
    dialling = 1 + nodes  # a node looks for neighbours among those who offer
    if row.newcomers is not None:
        missed += _missed_by_newcomers(*row.newcomers)
        dialling += len(row.newcomers[1])
    dials = row.tally.get("dials_in_worst_minute", 0)
    if dials > DIALS_A_MINUTE * dialling:
        missed.append(f"a host was dialled {dials} times in a minute by {dialling} clients and nodes")
    return missed


def _missed_by_newcomers(before: list[FreshRun], during: list[FreshRun]) -> list[str]:
    missed = []
    failed = [run for run in during if run.first_s is None]
    if failed:
        missed.append(f"{len(failed)} of {len(during)} newcomers had no answer: {failed[0].said[:120]}")
    calm = min((run.first_s for run in before if run.first_s is not None), default=0.0)
    times = [run.first_s for run in during if run.first_s is not None]
    if times and calm and min(times) > LATEST_START * calm:
        missed.append(f"newcomers wait {min(times) / calm:.1f} times as long")
    most, had = max(run.peak_mb for run in during), max(run.peak_mb for run in before)
    if most > had + NEWCOMER_MB:
        missed.append(f"{most - had:.0f} MB more in a newcomer's command")
    return missed
