"""Who may be served where for as long as no site changes how far it holds back, and how classes are cleared there."""

from __future__ import annotations

import functools
from collections.abc import Callable

from simulator.clearing import MeritOrder, Product, Trades, clear, passes_of, runs_of
from simulator.demand import Classes
from simulator.exact import Ints
from simulator.joint import Web, clear_jointly, webs_of
from simulator.scenario import Settings
from simulator.zones import zones_of

__all__ = ["Clearing", "Ground"]

Clearing = Callable[[Ints, Ints, dict[Product, MeritOrder]], Trades]


class Ground:
    """What follows from the sites that each class may use.

    Args:
        pipelines: whether requests pass several sites.
    """

    def __init__(self, settings: Settings, classes: Classes, products: list[Product], *, pipelines: bool) -> None:
        self.classes, self._products, self.zones = classes, products, zones_of(classes)
        self.one_market = len(set(products)) == 1 and bool(classes.lawful.all()) and not pipelines
        joint = settings.market.clearing == "joint" and settings.market.price_rule != "posted"
        self._jointly = joint and not pipelines and len(classes.names) > 1
        self._webs: dict[tuple[int, ...], list[tuple[Product, list[Web]]]] = {}

    def clearing(self, order: list[int]) -> Clearing:
        """What serves classes whose turns are in this order, all at once where that is asked for."""
        if not self._jointly:
            return functools.partial(clear, self.classes, passes_of(self.classes, self._products, order))
        if tuple(order) not in self._webs:
            runs = runs_of(self._products, order)
            self._webs[tuple(order)] = [(product, webs_of(self.zones, some)) for product, some in runs]
        return functools.partial(clear_jointly, self.classes, self._webs[tuple(order)])
