"""Which generated tokens come late, by the offer of the site that served them, and are sold at its discount (X29).

A token takes a leg as long as its request is slower than the mean: as a node counts, all the tokens of a request that
take longer than `late_us` are late, and no other ones.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from protocol.units import MICRO
from simulator.clearing import Trades
from simulator.draws import Floats
from simulator.exact import Ints
from simulator.extras import check_extra
from simulator.population import Population
from simulator.scenario import Settings

__all__ = ["Lateness", "lateness_of"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """For N sites and C classes."""

    limit: Floats
    """(N,) how many times the mean a token may take, when all the blocks of a site are used, until it is late."""
    discount: Ints
    """(N,) millionths."""
    variations: list[float]
    """(C,) squared coefficients of variation of the time that a request takes."""

    @property
    def matters(self) -> bool:
        """Whether anybody grants a discount."""
        return bool(self.discount.any())

    def is_late(self, site: int, blocks: int, held: int, factor: float) -> bool:
        """Of a request that takes `factor` times the mean at so many of a site's blocks."""
        return bool(self.discount[site]) and factor * blocks > float(self.limit[site]) * held

    def expected(self, trades: Trades, tokens_out: Ints) -> Ints:
        """Of these generated tokens, as many as come late on average, rounded down."""
        times = self.limit[trades.site]
        if trades.used is not None and trades.held is not None:
            times = times * trades.held / trades.used
        share = np.zeros(len(times))
        for c, variation in enumerate(self.variations):
            mine = trades.of_class == c
            share[mine] = _share_above(times[mine], variation)
        return np.minimum(np.floor(tokens_out * share).astype(np.int64), tokens_out)


def lateness_of(settings: Settings, people: Population) -> Lateness:
    """By the offers of a scenario's sites."""
    kinds = list(settings.hardware.values())
    token_us = people.slots * MICRO / people.tokens_out_per_s
    after_us = np.array([kind.late_after_us for kind in kinds], dtype=np.int64)[people.hardware]
    return Lateness(
        limit=np.asarray(after_us / token_us),
        discount=np.array([kind.late_discount for kind in kinds], dtype=np.int64)[people.hardware],
        variations=[demand.service_variation for demand in settings.demand.values()],
    )


def _share_above(times: Floats, variation: float) -> Floats:
    """The chance that a lot of mean 1 and this variation is above so much: fixed, exponential, or of a gamma law."""
    if not variation:
        return np.asarray((times < 1).astype(float))
    if variation == 1:
        return np.exp(-times)
    check_extra("scipy")
    from scipy.special import gammaincc

    return np.asarray(gammaincc(1 / variation, times / variation))
