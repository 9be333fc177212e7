"""One day of the event engine: who may serve a request for how much, and what was sold."""

from __future__ import annotations

import dataclasses

import numpy as np

from protocol.market.rates import Rates, share
from protocol.units import ceil_div
from simulator.clearing import MeritOrder, Product, Trades
from simulator.demand import Classes
from simulator.exact import Ints
from simulator.late import Lateness
from simulator.pipelines import Stage
from simulator.population import Population
from simulator.pricing import Prices
from simulator.sessions import Part

__all__ = ["Day", "Job", "Served"]


@dataclasses.dataclass(slots=True)
class Job:
    """One request."""

    of_class: int
    epoch: int
    """In which it arrived, of its day."""
    factor: float
    """By which each of its tokens takes longer than the mean."""
    work: float
    """Its tokens' time over that of a request of its class, at the mean."""
    size: tuple[int, int]
    """Prompt and generated tokens."""
    at_us: int
    """When it arrived."""
    stage: int = 0
    """That it joins next."""
    waited_us: int = 0
    sites: list[int] = dataclasses.field(default_factory=list)
    """By stage."""
    services: list[int] = dataclasses.field(default_factory=list)
    """Microseconds of a slot that each takes."""
    parts: list[Part] = dataclasses.field(default_factory=list)
    """What each site serves, stages in a row that it serves together."""


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


class Day:
    """One day's asks, and what was sold at them, by sites of these `names`."""

    def __init__(
        self,
        names: list[str],
        classes: Classes,
        people: Population,
        stages: list[Stage],
        epochs: slice,
        merits: dict[Product, MeritOrder],
        products: list[Product],
        prices: Prices,
        open_sites: np.ndarray[tuple[int, int], np.dtype[np.bool_]],
        lateness: Lateness,
    ) -> None:
        self._classes, self._people, self._stages = classes, people, stages
        self._merits, self._products, self._prices, self._open = merits, products, prices, open_sites
        self._shape = len(classes.names), epochs.stop - epochs.start
        self._rows: dict[tuple[int, int, int], tuple[list[int], list[int]]] = {}
        self._names, self._lateness = names, lateness
        self._parts: dict[tuple[int, int, int, bool], Part] = {}
        self._amounts: dict[tuple[int, int, int, bool, tuple[int, int]], int] = {}
        self._sold: dict[tuple[int, int, int, int], list[int]] = {}
        """Requests, all their prompt and generated tokens, and micro-units, by class, epoch, site and stage."""
        self._jobs: list[Job] = []
        self._busy = np.zeros(open_sites.shape, dtype=np.int64)

    def row(self, job: Job, stage: int) -> list[int]:
        """Sites that may serve a job at a stage, the cheapest first."""
        return self._ranked(job, stage)[0]

    def quote(self, job: Job, stage: int, site: int) -> int:
        """What its class's requests cost there, in millionths of a micro-unit."""
        return self._ranked(job, stage)[1][site]

    def _ranked(self, job: Job, stage: int) -> tuple[list[int], list[int]]:
        key = job.of_class, job.epoch, stage
        if key not in self._rows:
            merit, classes = self._merits[self._products[job.of_class]], self._classes
            order, quote = merit.order[job.epoch], merit.quote[job.epoch]
            fits = classes.lawful[job.of_class] & self._open[job.epoch]
            if self._stages:
                part = self._stages[stage]
                quote = ceil_div(quote * part.blocks, part.held)
                order = order[np.argsort(quote[order], kind="stable")]
                fits &= part.holds
            fits &= quote <= int(classes.most_paid[job.of_class])
            self._rows[key] = order[fits[order]].tolist(), quote.tolist()
        return self._rows[key]

    def take(self, job: Job) -> None:
        """A job goes to its sites."""
        self._jobs.append(job)
        for stage, (site, service) in enumerate(zip(job.sites, job.services, strict=True)):
            blocks, before = (self._stages[stage].blocks if self._stages else 1), 0
            if stage and job.sites[stage - 1] == site:
                earlier = job.parts.pop()
                blocks, before = blocks + earlier.blocks, self._owed(job, site, earlier)
            job.parts.append(self._part(job, site, blocks))
            sold = self._sold.setdefault((job.of_class, job.epoch, site, stage), [0, 0, 0, 0])
            for at, some in enumerate((1, *job.size, self._owed(job, site, job.parts[-1]) - before)):
                sold[at] += some
            self._busy[job.epoch, site] += service // int(self._people.slots[site])

    def _owed(self, job: Job, site: int, part: Part) -> int:
        """Micro-units for a request."""
        key = job.epoch, site, part.blocks, part.late, job.size
        if key not in self._amounts:
            self._amounts[key] = part.owed(*job.size)
        return self._amounts[key]

    def _part(self, job: Job, site: int, blocks: int) -> Part:
        """So many of a site's blocks, at what it asks."""
        held, epoch = int(self._stages[0].held[site]) if self._stages else 1, job.epoch
        key = epoch, site, blocks, self._lateness.is_late(site, blocks, held, job.factor)
        if key not in self._parts:
            people, prices = self._people, self._prices
            rates = Rates(
                opening=int(people.opening[site]),
                price_in=int(prices.ask_in[epoch, site]),
                price_out=int(prices.ask_out[epoch, site]),
                price_cached=0,
                price_rejected=0,
                late_discount_ppm=int(self._lateness.discount[site]),
            )
            joules = int(people.joules_in[site]) * blocks // held, int(people.joules_out[site]) * blocks // held
            self._parts[key] = Part(self._names[site], blocks, share(rates, blocks, held), joules, late=key[-1])
        return self._parts[key]

    def served(self, want: Ints, late_after_us: list[int]) -> Served:
        """All of it.

        Args:
            late_after_us: by class; 0 where no service level is set.
        """
        columns = np.array([(*key, *sold) for key, sold in self._sold.items()], dtype=np.int64).reshape(-1, 8)
        c, epoch, site, stage, some, *sizes = columns.T
        if self._stages:
            used = np.array([each.blocks for each in self._stages], dtype=np.int64)[stage]
            trades = Trades(c, epoch, site, some, stage, used, self._stages[0].held[site], *sizes)
        else:
            trades = Trades(c, epoch, site, some, None, None, None, *sizes)
        waits, counts, whole = np.zeros(self._shape), np.zeros(self._shape), np.zeros(self._shape)
        late = np.zeros(self._shape, dtype=np.int64)
        for job in self._jobs:
            at = job.of_class, job.epoch
            waits[at] += job.waited_us
            counts[at] += 1
            way_us = int(self._classes.round_trip_us[job.of_class, int(self._people.region[job.sites[0]])])
            whole[at] += job.waited_us + sum(job.services) + way_us
            late[at] += 0 < late_after_us[job.of_class] < job.waited_us
        mean, latency = (np.rint(each / np.maximum(counts, 1)).astype(np.int64) for each in (waits, whole))
        return Served(want, trades, mean, latency, late, self._busy)
