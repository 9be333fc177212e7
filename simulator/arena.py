"""The event engine's queues: requests arrive one by one on a virtual clock, wait, are served stage by stage, and leave.

It takes the place of clearing (`simulator.clearing`): what it returns are the same trades, so that asks, law, payments,
costs and books are those of the fluid engine. A client takes the cheapest site that is lawful, within its cap and has a
slot free; where none has, it queues where it would wait least, and gives up where that is longer than it waits at most.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import deque

import numpy as np

from protocol.units import ceil_div
from simulator.clearing import MeritOrder, Product, Trades
from simulator.demand import Classes
from simulator.draws import draws_for
from simulator.exact import Ints
from simulator.ledger import NullLedger
from simulator.pipelines import Stage
from simulator.population import Population
from simulator.pricing import Prices
from simulator.replay.recorded import Recorded
from simulator.scenario import Settings

__all__ = ["Arena", "Served"]


@dataclasses.dataclass(slots=True)
class _Job:
    of_class: int
    epoch: int
    """In which it arrived, from the start of the run."""
    factor: float
    """By which its service takes longer than the mean."""
    size: tuple[int, int]
    """Prompt and generated tokens."""
    since_us: int
    """When it began to wait."""
    stage: int = 0
    waited_us: int = 0
    served_us: int = 0
    legs: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    """Sites so far, and the blocks that each served."""


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """What came of one day's arrivals; (C, E) where not said."""

    want: Ints
    trades: Trades
    wait_us: Ints
    """Mean over those who were served."""
    latency_us: Ints
    """Mean from arrival to the end, with the way to the first site and back."""
    late: Ints
    """Who waited for longer than their service level says."""
    busy_us: Ints
    """(E, N) time for which sites worked, by the epoch of arrival, over their slots."""


class Arena:
    """All sites' queues."""

    def __init__(
        self,
        settings: Settings,
        classes: Classes,
        people: Population,
        stages: list[Stage],
        recorded: Recorded | None = None,
    ) -> None:
        self._classes, self._people, self._stages, self._recorded = classes, people, stages, recorded
        demands = list(settings.demand.values())
        seed = settings.run.seed
        self._arrivals = [draws_for(seed, "event arrivals", name) for name in classes.names]
        self._services = [draws_for(seed, "event services", name) for name in classes.names]
        self._exponential = [each.service == "exponential" for each in demands]
        self._most_wait_us = [each.max_wait_ms * 1000 for each in demands]
        self._slots = people.slots.tolist()
        self._each_us = (classes.busy_us * people.slots).tolist()
        self._busy = [0] * len(people)
        self._queues: list[deque[_Job]] = [deque() for _ in range(len(people))]
        self._backlog_us = [0.0] * len(people)
        self._heap: list[tuple[int, int, int, _Job]] = []
        self._number = 0
        self.ledger = NullLedger(classes.names, len(people)) if settings.run.ledger else None

    def day(
        self,
        epochs: slice,
        potential: Ints,
        working_us: Ints,
        merits: dict[Product, MeritOrder],
        products: list[Product],
        prices: Prices,
        epoch_us: int,
        *,
        last: bool,
    ) -> Served:
        """Let a day's requests arrive, and serve until the next day begins; on the last one until all are done.

        Args:
            potential: (C, E) mean arrivals.
            working_us: (E, N) time that sites have; one without any takes no new request.
        """
        shape = potential.shape
        want = np.stack([self._arrived(c, potential[c]) for c in range(shape[0])])
        day = _Day(self, epochs, merits, products, prices, working_us > 0, want.shape)
        arrivals = self._arrival_times(want, epochs.start, epoch_us)
        end = epochs.stop * epoch_us
        for at_us, c, epoch, size in arrivals:
            self._until(at_us, day)
            factor = float(self._services[c].exponential()) if self._exponential[c] else 1.0
            self._place(_Job(c, epoch, factor * self._longer(c, size), size, at_us), at_us, day)
        self._until(2**62 if last else end, day)
        return day.served(want)

    def _arrived(self, c: int, mean: Ints) -> Ints:
        """(E,) how many requests come; those of a trace are known."""
        if self._recorded is not None and self._recorded.names(c):
            return mean
        return np.asarray(self._arrivals[c].poisson(mean), dtype=np.int64)

    def _arrival_times(self, want: Ints, first: int, epoch_us: int) -> list[tuple[int, int, int, tuple[int, int]]]:
        found: list[tuple[int, int, int, tuple[int, int]]] = []
        for c in range(want.shape[0]):
            size = int(self._classes.tokens_in[c]), int(self._classes.tokens_out[c])
            for e, count in enumerate(want[c].tolist()):
                start = (first + e) * epoch_us
                if self._recorded is not None and self._recorded.names(c):
                    known = self._recorded.arrivals(c, first + e, count)
                    found += [(start + within, c, first + e, own) for within, own in known]
                else:
                    times = self._arrivals[c].random(count) * epoch_us
                    found += [(start + int(each), c, first + e, size) for each in times]
        return sorted(found)

    def _longer(self, c: int, size: tuple[int, int]) -> float:
        """By how much a request of this size takes longer than its class's, at the mean speed of all sites."""
        usual = int(self._classes.tokens_in[c]), int(self._classes.tokens_out[c])
        if size == usual:
            return 1.0
        each = 1 / float(self._people.tokens_in_per_s.mean()), 1 / float(self._people.tokens_out_per_s.mean())
        return (size[0] * each[0] + size[1] * each[1]) / (usual[0] * each[0] + usual[1] * each[1])

    def _until(self, now: int, day: _Day) -> None:
        while self._heap and self._heap[0][0] <= now:
            at_us, _, site, job = heapq.heappop(self._heap)
            self._busy[site] -= 1
            self._next(site, at_us)
            job.stage += 1
            if job.stage < max(1, len(self._stages)):
                job.since_us = at_us
                self._place(job, at_us, day)
            elif self.ledger is not None:
                self.ledger.settle(job.of_class, [(site, day.owed(job, site, part)) for site, part in job.legs])

    def _place(self, job: _Job, now: int, day: _Day) -> None:
        site = day.choose(job)
        if site is None:
            return
        service = self._service_us(job, site)
        if self._busy[site] < self._slots[site]:
            self._start(job, site, now, service)
            day.take(job, site, service, late=job.waited_us > self._most_wait_us[job.of_class] > 0)
            return
        expected = self._backlog_us[site] / self._slots[site]
        if self._most_wait_us[job.of_class] and expected > 10 * self._most_wait_us[job.of_class]:
            return
        self._queues[site].append(job)
        self._backlog_us[site] += service
        day.queued.append(job)
        day.take(job, site, service, late=False)

    def _next(self, site: int, now: int) -> None:
        if self._queues[site] and self._busy[site] < self._slots[site]:
            job = self._queues[site].popleft()
            service = self._service_us(job, site)
            self._backlog_us[site] -= service
            job.waited_us += now - job.since_us
            self._start(job, site, now, service)

    def _start(self, job: _Job, site: int, now: int, service: int) -> None:
        job.served_us += service
        self._busy[site] += 1
        self._number += 1
        heapq.heappush(self._heap, (now + service, self._number, site, job))

    def _service_us(self, job: _Job, site: int) -> int:
        part = 1.0
        if self._stages:
            stage = self._stages[job.stage]
            part = stage.blocks / int(stage.held[site])
        each_us = float(self._each_us[job.of_class][site])
        return max(1, round(each_us * part * job.factor))

    def expected_wait_us(self, site: int) -> float:
        """How long a newcomer would wait."""
        return 0.0 if self._busy[site] < self._slots[site] else (1 + self._backlog_us[site]) / self._slots[site]

    def free(self, site: int) -> bool:
        """Whether a slot is."""
        return bool(self._busy[site] < self._slots[site])

    @property
    def late_after_us(self) -> list[int]:
        """By class; 0 where no service level is set."""
        return self._most_wait_us


class _Day:
    """One day's asks, and what was sold."""

    def __init__(
        self,
        arena: Arena,
        epochs: slice,
        merits: dict[Product, MeritOrder],
        products: list[Product],
        prices: Prices,
        open_sites: np.ndarray[tuple[int, int], np.dtype[np.bool_]],
        shape: tuple[int, int],
    ) -> None:
        self._arena, self._first = arena, epochs.start
        self._merits, self._products, self._prices, self._open = merits, products, prices, open_sites
        self._count = open_sites.shape[1]
        self._rows: dict[tuple[int, int, int], list[int]] = {}
        self._sold: dict[tuple[int, int, int, int], list[int]] = {}
        """Requests, all their prompt and generated tokens, and micro-units, by class, epoch, site and stage."""
        self._jobs: list[_Job] = []
        self._shape = shape
        self._late = np.zeros(shape, dtype=np.int64)
        self._busy = np.zeros((shape[1], self._count), dtype=np.int64)
        self.queued: list[_Job] = []

    def _epoch(self, job: _Job) -> int:
        return int(min(max(job.epoch - self._first, 0), self._shape[1] - 1))

    def _row(self, job: _Job) -> list[int]:
        """Sites that may serve a job at its stage, the cheapest first."""
        key = job.of_class, self._epoch(job), job.stage
        if key not in self._rows:
            merit, classes = self._merits[self._products[job.of_class]], self._arena._classes
            order, quote = merit.order[key[1]], merit.quote[key[1]]
            fits = classes.lawful[job.of_class] & self._open[key[1]]
            if self._arena._stages:
                stage = self._arena._stages[job.stage]
                quote = ceil_div(quote * stage.blocks, stage.held)
                order = order[np.argsort(quote[order], kind="stable")]
                fits &= stage.holds
            fits &= quote <= int(classes.most_paid[job.of_class])
            self._rows[key] = order[fits[order]].tolist()
        return self._rows[key]

    def choose(self, job: _Job) -> int | None:
        """The cheapest with a slot free, or where the wait is least."""
        row = self._row(job)
        free = next((site for site in row if self._arena.free(site)), None)
        return free if free is not None else min(row, key=self._arena.expected_wait_us, default=None)

    def take(self, job: _Job, site: int, service: int, *, late: bool) -> None:
        """A job goes to a site."""
        key = job.of_class, self._epoch(job), site, job.stage
        stages = self._arena._stages
        part = stages[job.stage].blocks if stages else 1
        sold = self._sold.setdefault(key, [0, 0, 0, 0])
        for at, some in enumerate((1, *job.size, self.owed(job, site, part))):
            sold[at] += some
        job.legs.append((site, part))
        if job.stage == 0:
            self._jobs.append(job)
        self._busy[key[1], site] += service // self._arena._slots[site]

    def owed(self, job: _Job, site: int, part: int) -> int:
        """Micro-units that a leg earned, by the amount kernel."""
        epoch, stages = self._epoch(job), self._arena._stages
        held = int(stages[0].held[site]) if stages else 1
        ask_in, ask_out = (int(each[epoch, site]) for each in (self._prices.ask_in, self._prices.ask_out))
        opening = int(self._arena._people.opening[site])
        return NullLedger.owed(*job.size, ask_in, ask_out, part, held, opening)

    def served(self, want: Ints) -> Served:
        """All of it."""
        columns = np.array([(*key, *sold) for key, sold in self._sold.items()], dtype=np.int64).reshape(-1, 8)
        c, epoch, site, stage, some, *sizes = columns.T
        stages = self._arena._stages
        if stages:
            used = np.array([each.blocks for each in stages], dtype=np.int64)[stage]
            trades = Trades(c, epoch, site, some, stage, used, stages[0].held[site], *sizes)
        else:
            trades = Trades(c, epoch, site, some, None, None, None, *sizes)
        waits, counts, whole = np.zeros(self._shape), np.zeros(self._shape), np.zeros(self._shape)
        for job in self._jobs:
            at = job.of_class, self._epoch(job)
            waits[at] += job.waited_us
            counts[at] += 1
            region = int(self._arena._people.region[job.legs[0][0]])
            way_us = int(self._arena._classes.round_trip_us[job.of_class, region])
            whole[at] += job.waited_us + job.served_us + way_us
            limit = self._arena.late_after_us[job.of_class]
            self._late[at] += bool(limit) and job.waited_us > limit
        mean, latency = (np.rint(each / np.maximum(counts, 1)).astype(np.int64) for each in (waits, whole))
        return Served(want, trades, mean, latency, self._late, self._busy)
