"""A client's route through the sites of a pipeline: the node's own search over signed offers' columns (X24).

A client looks for the cheapest lawful route over all sites. Where one of its sites has no slot free, it looks again
without those that have none, as a client does whose orders are refused.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib

import numpy as np

from protocol.identity.ids import BlockSpan
from protocol.market.offer import Evidence
from protocol.policy.law import Law
from protocol.policy.policy import Known, Needs, Reason, ReasonCode
from protocol.routing.columns import Columns
from protocol.routing.judging import Judge
from protocol.routing.router import route_over
from protocol.routing.routes import NoRouteError
from protocol.routing.ways import Ways
from protocol.routing.wish import Wish
from simulator.demand import Classes
from simulator.exact import Ints
from simulator.law import MODEL, NOW, VENUE, offer_of, policy_of
from simulator.pipelines import Stage
from simulator.population import Population
from simulator.pricing import Prices
from simulator.scenario import Settings

__all__ = ["Router"]

_REMEMBERED = 4096
_BUSY = Reason(ReasonCode.ROOM, "all its slots are taken")
_NO_WAY = np.zeros((1, 1), dtype=np.int64)


class Router:
    """Finds routes over one day's offers.

    Args:
        open_sites: (E, N) whether a site is there at all.
    """

    def __init__(
        self,
        settings: Settings,
        classes: Classes,
        people: Population,
        stages: list[Stage],
        prices: Prices,
        open_sites: np.ndarray[tuple[int, int], np.dtype[np.bool_]],
    ) -> None:
        self._settings, self._classes, self._people, self._stages = settings, classes, people, stages
        self._prices, self._open = prices, open_sites
        self._keys = [b"\x02" + hashlib.sha256(name.encode()).digest() for name in people.names()]
        self._at = {key: site for site, key in enumerate(self._keys)}
        self._columns = functools.lru_cache(1)(self._offered)
        self._judge = functools.lru_cache(64)(self._judged)
        self.sites = functools.lru_cache(_REMEMBERED)(self._searched)
        """Of a class in an epoch, without some sites: the site of each stage, or None where no route is lawful."""

    def _searched(self, c: int, epoch: int, without: frozenset[int]) -> tuple[int, ...] | None:
        total = int(self._classes.tokens[c])
        wish = Wish(
            latency_weight=0,
            prompt_milli=round(1000 * int(self._classes.tokens_in[c]) / total),
            without={self._keys[site]: _BUSY for site in without},
        )
        nothing = np.zeros(len(self._people), dtype=np.int64)
        try:
            route = route_over(self._judge(c, epoch), Ways(nothing, nothing, _NO_WAY), wish)
        except NoRouteError:
            return None
        begins = np.cumsum([0] + [stage.blocks for stage in self._stages[:-1]]).tolist()
        return tuple(
            next(self._at[leg.offer.public_key] for leg in route.legs if leg.span.start <= block < leg.span.end)
            for block in begins
        )

    def _judged(self, c: int, epoch: int) -> Judge:
        evidence = [Known(evidence=Evidence(each.evidence)) for each in self._settings.regions.values()]
        return Judge(
            columns=self._columns(epoch),
            policy=policy_of(list(self._settings.demand.values())[c]),
            model=MODEL,
            blocks=self._settings.run.blocks,
            venue=VENUE,
            now=NOW,
            needs=Needs(law=Law(until=NOW)),
            known={key: evidence[place] for key, place in zip(self._keys, self._people.region.tolist(), strict=True)},
            among=self._classes.lawful[c] & self._open[epoch],
        )

    def _offered(self, epoch: int) -> Columns:
        """Offers of all sites, one a row, at what they ask in an epoch."""
        regions, kinds = list(self._settings.regions.values()), list(self._settings.hardware.values())
        most, columns = self._settings.run.blocks, Columns()
        for site, key in enumerate(self._keys):
            kind = kinds[int(self._people.hardware[site])]
            offer = offer_of(regions[int(self._people.region[site])], kind)
            start, end = kind.blocks or (0, most)
            rates = dataclasses.replace(
                offer.rates,
                price_in=_of(self._prices.ask_in, epoch, site),
                price_out=_of(self._prices.ask_out, epoch, site),
            )
            columns.put(
                dataclasses.replace(
                    offer, public_key=key, span=BlockSpan(start=start, end=end), blocks=most, rates=rates
                )
            )
        return columns


def _of(asks: Ints, epoch: int, site: int) -> int:
    return int(asks[epoch, site])
