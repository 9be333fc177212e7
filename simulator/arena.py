"""The event engine's queues: requests arrive one by one on a virtual clock, wait, are served stage by stage, and leave.

It takes the place of clearing (`simulator.clearing`): what it returns are the same trades, so that asks, law, payments,
costs and books are those of the fluid engine. A client chooses a site for every stage when its request arrives, as the
terms of a session do: the cheapest that is lawful and has a slot free, for a pipeline by the node's own router; where
none has, the one where it waits least. Queues are served in order of arrival, so how long a request is to wait is known
when it comes.
"""

from __future__ import annotations

import heapq

import numpy as np

from protocol.errors import ConfigurationError
from protocol.routing.routes import MAX_LEGS
from simulator.clearing import MeritOrder, Product
from simulator.demand import Classes
from simulator.draws import draws_for
from simulator.exact import Ints
from simulator.late import Lateness
from simulator.law import policy_of
from simulator.ledger import SessionLedger
from simulator.pipelines import Stage
from simulator.population import Population
from simulator.pricing import Prices
from simulator.queues import Queue
from simulator.replay.recorded import Recorded
from simulator.routing import Router
from simulator.scenario import Settings
from simulator.sessions import Sessions
from simulator.signers import KeySigners, NameSigners
from simulator.sold import Day, Job, Served

__all__ = ["Arena"]

_GIVES_UP = 10
"""Times its service level: nobody waits for longer where one is set."""


class Arena:
    """All sites' queues."""

    def __init__(
        self,
        settings: Settings,
        classes: Classes,
        people: Population,
        stages: list[Stage],
        lateness: Lateness,
        recorded: Recorded | None = None,
    ) -> None:
        self._settings, self._classes, self._people = settings, classes, people
        self._stages, self._lateness, self._recorded = stages, lateness, recorded
        self._router: Router | None = None
        """Of the day, where a model is on several sites."""
        self._demands, seed = list(settings.demand.values()), settings.run.seed
        self._arrivals = [draws_for(seed, "event arrivals", name) for name in classes.names]
        self._services = [draws_for(seed, "event services", name) for name in classes.names]
        self._patience = [draws_for(seed, "event patience", name) for name in classes.names]
        self._most_paid = classes.most_paid.tolist()
        sizes = zip(classes.tokens_in.tolist(), classes.tokens_out.tolist(), strict=True)
        self._usual: list[tuple[int, int]] = list(sizes)
        self._each_us = (classes.busy_us * people.slots).tolist()
        kinds = list(settings.hardware.values())
        self._queues = [
            Queue(slots, units * kinds[kind].queue, kinds[kind].admit_ms * 1000, rate)
            for slots, units, kind, rate in zip(
                *(each.tolist() for each in (people.slots, people.units, people.hardware, people.tokens_in_per_s)),
                strict=True,
            )
        ]
        self._heap: list[tuple[int, int, Job]] = []
        self._number = 0
        if settings.run.ledger and len(stages) > MAX_LEGS:
            raise ConfigurationError(
                f"a request passes {len(stages)} stages, and a session has {MAX_LEGS} legs at most",
                hint="let hardware hold the same blocks",
            )
        signers = KeySigners() if settings.run.signatures == "keys" else NameSigners()
        self._clients, self._sites = [f"client {name}" for name in classes.names], people.names()
        self.ledger = SessionLedger(signers, tuple(self._clients)) if settings.run.ledger else None
        self._sessions = None if self.ledger is None else Sessions(self.ledger, signers, settings.run.window)

    def day(
        self,
        epochs: slice,
        classes: Classes,
        potential: Ints,
        working_us: Ints,
        merits: dict[Product, MeritOrder],
        products: list[Product],
        prices: Prices,
        epoch_us: int,
        *,
        last: bool,
    ) -> Served:
        """Let requests of a day, or a part of one, arrive, and serve until its end; the last time until all are done.

        Args:
            classes: with the sites that they may use today.
            potential: (C, E) mean arrivals.
            working_us: (E, N) time that sites have; one without any takes no new request.
        """
        want = np.stack([self._arrived(c, potential[c]) for c in range(len(potential))])
        day = Day(
            self._sites,
            classes,
            self._people,
            self._stages,
            epochs,
            merits,
            products,
            prices,
            working_us > 0,
            self._lateness,
        )
        if self._stages:
            self._router = Router(self._settings, classes, self._people, self._stages, prices, working_us > 0)
        for at_us, c, epoch, size in self._arrival_times(want, epochs.start, epoch_us):
            self._until(at_us)
            job = Job(c, epoch - epochs.start, self._factor(c), self._longer(c, size), size, at_us)
            if self._takes(job, day):
                job.services = [self._service_us(job, stage) for stage in range(len(job.sites))]
                day.take(job)
                self._begin(job, at_us)
        self._until(2**62 if last else epochs.stop * epoch_us)
        return day.served(want, [each.max_wait_ms * 1000 for each in self._demands])

    def earned(self) -> list[int]:
        """Micro-units that each site holds on the ledger."""
        return [] if self.ledger is None else [self.ledger.held(name) for name in self._sites]

    def _factor(self, c: int) -> float:
        """By which a request's service takes longer than the mean; drawn for each."""
        demand, lots = self._demands[c], self._services[c]
        if demand.service == "gamma":
            return float(lots.gamma(1 / demand.service_variation, demand.service_variation))
        return float(lots.exponential()) if demand.service == "exponential" else 1.0

    def _arrived(self, c: int, mean: Ints) -> Ints:
        """(E,) how many requests come; those of a trace are known."""
        if self._recorded is not None and self._recorded.names(c):
            return mean
        return np.asarray(self._arrivals[c].poisson(mean), dtype=np.int64)

    def _arrival_times(self, want: Ints, first: int, epoch_us: int) -> list[tuple[int, int, int, tuple[int, int]]]:
        found: list[tuple[int, int, int, tuple[int, int]]] = []
        for c in range(want.shape[0]):
            size = self._usual[c]
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
        usual = self._usual[c]
        if size == usual:
            return 1.0
        each = 1 / float(self._people.tokens_in_per_s.mean()), 1 / float(self._people.tokens_out_per_s.mean())
        return (size[0] * each[0] + size[1] * each[1]) / (usual[0] * each[0] + usual[1] * each[1])

    def _takes(self, job: Job, day: Day) -> bool:
        """Choose a site for each stage; whether there is one for all, and the request is patient enough."""
        free = self._route(job)
        if free is None:
            return False
        for stage in range(max(1, len(self._stages))):
            site = free[stage] if free else self._choose(job, day, stage)
            if site is None:
                return False
            job.sites.append(site)
        quoted = sum(day.quote(job, stage, site) for stage, site in enumerate(job.sites))
        most_wait_us = self._most_wait_us(job.of_class)
        waits = self._queues[job.sites[0]].wait_us(job.at_us)
        return quoted <= self._most_paid[job.of_class] and waits <= most_wait_us

    def _route(self, job: Job) -> tuple[int, ...] | None:
        """The cheapest lawful route of sites that have a slot free; () where none has, None where none is lawful."""
        busy: frozenset[int] = frozenset()
        while self._router is not None:
            sites = self._router.sites(job.of_class, job.epoch, busy)
            if sites is None:
                return () if busy else None
            full = {site for site in sites if not self._queues[site].free(job.at_us)}
            if not full:
                return sites
            busy |= full
        return ()

    def _choose(self, job: Job, day: Day, stage: int) -> int | None:
        """The cheapest with a slot free, or where the wait is least of those that take one more."""
        now, earlier = job.at_us, job.sites[:-1]
        row = [site for site in day.row(job, stage) if site not in earlier] if earlier else day.row(job, stage)
        free = next((site for site in row if self._queues[site].free(now)), None)
        if free is not None:
            return free
        client = self._clients[job.of_class]
        takes = [site for site in row if self._queues[site].takes(now, client, job.size[0])]
        return min(takes, key=lambda site: self._queues[site].wait_us(now), default=None)

    def _most_wait_us(self, c: int) -> int:
        """How long a request waits before it is withdrawn; drawn for each."""
        demand = self._demands[c]
        if demand.patience_ms:
            lot = float(self._patience[c].exponential()) if demand.patience == "exponential" else 1.0
            return round(lot * demand.patience_ms * 1000)
        return _GIVES_UP * demand.max_wait_ms * 1000 or 2**62

    def _begin(self, job: Job, now: int) -> None:
        """Join the queue of the next stage's site."""
        stage = job.stage
        service = job.services[stage]
        queue = self._queues[job.sites[stage]]
        start = queue.join(now, service, self._clients[job.of_class], job.size[0])
        job.waited_us += start - now
        job.stage += 1
        self._number += 1
        heapq.heappush(self._heap, (start + service, self._number, job))

    def _until(self, now: int) -> None:
        while self._heap and self._heap[0][0] <= now:
            at_us, _, job = heapq.heappop(self._heap)
            if job.stage < len(job.sites):
                self._begin(job, at_us)
            elif self._sessions is not None:
                self._settle(self._sessions, job, at_us)

    def _settle(self, sessions: Sessions, job: Job, at_us: int) -> None:
        sessions.ledger.reach(at_us)
        policy = policy_of(self._demands[job.of_class])
        sessions.settle(self._clients[job.of_class], policy, job.size, job.parts)

    def _service_us(self, job: Job, stage: int) -> int:
        part = 1.0
        if self._stages:
            held = self._stages[stage]
            part = held.blocks / int(held.held[job.sites[stage]])
        each_us = float(self._each_us[job.of_class][job.sites[stage]])
        return max(1, round(each_us * part * (job.factor * job.work)))
