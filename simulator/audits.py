"""Who cheats, and who is found out (X18).

Cheating saves a site a part of what it earns. Of its requests a share is checked; a check finds a cheated one out with
some probability: the site then leaves and loses its stake, as a ledger takes it: half to whose check it was, the rest
to nobody. Whoever cheats only if it pays compares what one request brings it with what it expects to lose for it, by
the rate of checks that it believes in.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from protocol.units import MICRO
from simulator.draws import Lots
from simulator.entry import Flags
from simulator.exact import Ints
from simulator.population import Population
from simulator.scenario import Settings

__all__ = ["AuditDay", "Audits"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuditDay:
    """One day of cheating; arrays of length N."""

    cheated: Ints
    """Requests that were not served as promised."""
    gained: Ints
    """Micro-units that this saved."""
    caught: Flags
    slashed: Ints
    """Micro-units of stake that were lost."""
    checked: int
    """Requests of all sites that were checked."""


class Audits:
    """Decides who cheats, and draws who is found out."""

    def __init__(self, settings: Settings, population: Population) -> None:
        self._rules = settings.audit
        groups, seed = list(population.groups), settings.run.seed
        self._willing = Lots(seed, "would cheat", groups).of(0) * MICRO < self._rules.share
        self._lots = Lots(seed, "audit", groups)
        self.believed = self._rules.rate / MICRO * (self._rules.knowledge / MICRO)
        """The share of requests that sites believe to be checked."""
        self._memory = settings.market.memory_days

    def day(self, day: int, requests: Ints, revenue: Ints) -> AuditDay:
        """What happens in a day with so many requests and micro-units at each site."""
        rules = self._rules
        checked = int(requests.sum()) * rules.rate // MICRO
        if rules.cheats == "never":
            nothing = np.zeros(len(requests), dtype=np.int64)
            return AuditDay(cheated=nothing, gained=nothing, caught=nothing > 0, slashed=nothing, checked=checked)
        cheats = self._cheats(requests, revenue)
        cheated = np.where(cheats, requests, 0)
        found_out = rules.rate / MICRO * (rules.power / MICRO)
        survives = np.exp(cheated * np.log1p(-min(found_out, 1 - 1e-15)))
        caught = cheats & (self._lots.of(day) >= survives)
        total = int(cheated.sum())
        if total and rules.power:
            # As many requests as were served until it was found out tell how often is checked.
            exposed = float(np.where(caught, np.minimum(cheated, 1 / max(found_out, 1e-15)), cheated).sum())
            seen = float(caught.sum()) / exposed / (rules.power / MICRO)
            self.believed += (seen - self.believed) / self._memory
        return AuditDay(
            cheated=cheated,
            gained=np.where(cheats, revenue * rules.gain // MICRO, 0),
            caught=caught,
            slashed=np.where(caught, rules.stake, 0).astype(np.int64),
            checked=checked,
        )

    def _cheats(self, requests: Ints, revenue: Ints) -> Flags:
        rules = self._rules
        at_work = self._willing & (requests > 0)
        if rules.cheats == "always":
            return at_work
        gain = revenue / np.maximum(requests, 1) * (rules.gain / MICRO)
        return at_work & (gain > self.believed * (rules.power / MICRO) * rules.stake)
