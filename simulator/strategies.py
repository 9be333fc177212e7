"""How sites choose their asks: by rule, by best response, by quantity, or by a plug-in of yours.

A plug-in is a class named `module:Class` in a scenario; it is made once with the run's `Settings`, and its `levels` is
called each day with a `View` and returns the ask of each site, or None for those of the rule.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any, Protocol

import numpy as np

from protocol.energy.tariff import floor_price
from protocol.errors import ConfigurationError
from protocol.units import MICRO, ceil_div
from simulator.demand import Classes, response
from simulator.draws import Floats
from simulator.exact import Ints
from simulator.pricing import Prices
from simulator.scenario import Settings

__all__ = ["BestResponse", "Strategy", "View", "best_levels", "cournot", "strategy_of", "unit_cost"]

_MOST_PLAYERS = 200
_ROUNDS = 400
_HALVINGS = 80
_GRID, _ROUNDS_OF_GRIDS = 17, 9


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a strategy sees in the morning; C classes, N sites."""

    day: int
    cost: Ints
    """(N,) micro-units per million tokens that serving costs a site today: energy and overhead."""
    capacity: Ints
    """(N,) requests that a site can serve in an epoch."""
    demand: Ints
    """(C,) requests of each class in an epoch, on average over the day, at its reference price."""
    classes: Classes
    present: np.ndarray[Any, np.dtype[np.bool_]]
    """(N,)"""
    asks: Ints
    """(N,) micro-units per million tokens by the rule."""

    def wanted(self, price: Ints, site: int) -> Ints:
        """Requests in an epoch, of classes that a site may serve, that would pay each of these prices (P,)."""
        asked = response(self.classes, np.broadcast_to(price, (len(self.demand), len(price))))
        pays = (price[None, :] <= self.classes.price_cap[:, None]) & self.classes.lawful[:, site, None]
        return np.asarray((self.demand[:, None] * asked // MICRO * pays).sum(axis=0))


class Strategy(Protocol):
    """What a plug-in has."""

    def levels(self, view: View) -> Ints | None:
        """(N,) micro-units per million tokens to ask today; None for the asks of the rule."""
        ...


class Rule:
    """The node's own: asks by its kernels."""

    def levels(self, view: View) -> Ints | None:
        """None."""
        return None


class BestResponse:
    """Each site's best ask against those of all others, until nobody wants to move (X15)."""

    def __init__(self, settings: Settings) -> None:
        self._tick = max(1, settings.market.tick)

    def levels(self, view: View) -> Ints:
        """The asks at which it ends."""
        if len(view.cost) > _MOST_PLAYERS:
            raise ConfigurationError(f"best responses of over {_MOST_PLAYERS} sites", hint="simulate fewer, or a rule")
        return best_levels(view, self._tick)


def strategy_of(settings: Settings) -> Strategy:
    """The strategy of a scenario. Raises ConfigurationError: no such plug-in."""
    name = settings.market.strategy
    if name in ("rule", "cournot"):
        return Rule()
    if name == "best-response":
        return BestResponse(settings)
    module, _, attribute = name.partition(":")
    try:
        plug_in = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"market.strategy = {name!r} is not known", hint="rule, best-response, cournot, or module:Class"
        ) from error
    found: Strategy = plug_in(settings)
    return found


def unit_cost(classes: Classes, prices: Prices, c: int) -> Ints:
    """(E, N) micro-units per million tokens, in the mix of a class, that serving costs: energy and overhead."""
    floor_in, floor_out = (floor_price(each, prices.overhead) for each in (prices.energy_in, prices.energy_out))
    tokens_in, tokens_out = int(classes.tokens_in[c]), int(classes.tokens_out[c])
    return ceil_div(tokens_in * floor_in + tokens_out * floor_out, tokens_in + tokens_out)


def best_levels(view: View, tick: int) -> Ints:
    """Asks that are best responses to one another, as far as there are such; from the caps down in ever finer steps."""
    players = np.flatnonzero(view.present & (view.capacity > 0))
    top = int(view.classes.price_cap.max())
    asks = np.where(view.present, np.maximum(view.cost, top), view.cost)
    step = max(tick, top // 8)
    while players.size:
        for _ in range(_ROUNDS):
            moved = [_move(view, asks, int(site), step) for site in players]
            if not any(moved):
                break
        if step == tick:
            break
        step = max(tick, step // 8)
    return asks


def _move(view: View, asks: Ints, site: int, step: int) -> bool:
    """Let one site choose; whether it chose something else than it had."""
    classes = view.classes
    others = view.present & (classes.lawful & classes.lawful[:, site, None]).any(axis=0)
    others[site] = False
    cost, own = int(view.cost[site]), int(asks[site])
    top = int(view.classes.price_cap.max())
    grid = np.linspace(cost, max(top, cost), 65).astype(np.int64)
    prices = np.unique(np.concatenate([asks[others] - step, view.classes.price_cap, grid, [own, cost]]))
    prices = prices[prices >= cost]
    below = (np.where(others, view.capacity, 0)[None, :] * (asks[None, :] <= prices[:, None])).sum(axis=1)
    sold = np.clip(view.wanted(prices, site) - below, 0, int(view.capacity[site]))
    profit = (prices - cost).astype(object) * sold
    best = int(np.argmax(profit))
    chosen = int(prices[best]) if profit[best] > 0 else cost
    before = profit[int(np.searchsorted(prices, own))] if own >= cost else -1
    if chosen == own or (profit[best] > 0 and profit[best] <= before):
        return False
    asks[site] = chosen
    return True


def cournot(
    classes: Classes, potential: Ints, cost: Ints, capacity: Floats, *, leader: int | None = None
) -> tuple[Floats, Floats]:
    """Prices (E,) and quantities (E, N) in requests at which nobody wants to offer more or less (X16).

    Each site knows how the price falls with what it offers: ``q = b (p - c)``, at most its capacity, where demand falls
    by `b` requests for each micro-unit per million tokens. A leader knows besides what all others make of its choice.

    Args:
        potential: (C, E) requests at the reference prices.
        cost: (E, N) micro-units per million tokens.
        capacity: (E, N) requests.
        leader: the site that chooses first.
    """
    elasticity = (classes.elasticity / MICRO)[:, None]
    intercept = (potential * (1 + elasticity)).sum(axis=0)
    slope = (potential * elasticity / classes.reference_price[:, None]).sum(axis=0)
    if not (slope[intercept > 0] > 0).all():
        raise ConfigurationError("quantities need demand that answers to prices", hint="give elasticity")
    game = _Game(intercept, np.maximum(slope, 1e-12), cost, capacity, int(classes.price_cap.max()))
    if leader is None:
        price = game.price(np.zeros_like(intercept))
        return price, game.offers(price)
    followers = dataclasses.replace(game, capacity=np.where(np.arange(cost.shape[1]) == leader, 0.0, capacity))
    first = _leads(followers, cost[:, leader], np.asarray(capacity[:, leader], dtype=float))
    price = followers.price(first)
    offered = followers.offers(price)
    offered[:, leader] = first
    return price, offered


@dataclasses.dataclass(frozen=True, slots=True)
class _Game:
    """Quantities against a linear demand."""

    intercept: Floats
    slope: Floats
    cost: Ints
    capacity: Floats
    cap: int

    def price(self, already: Floats) -> Floats:
        """(E,) where demand is what all offer, besides `already` (E,)."""
        low, high = np.zeros(len(self.slope)), np.minimum(self.intercept / self.slope, self.cap)
        for _ in range(_HALVINGS):
            price = (low + high) / 2
            more = self.intercept - self.slope * price > self.offers(price).sum(axis=1) + already
            low, high = np.where(more, price, low), np.where(more, high, price)
        return np.asarray((low + high) / 2)

    def offers(self, price: Floats) -> Floats:
        """(E, N)"""
        return np.clip(self.slope[:, None] * (price[:, None] - self.cost), 0, self.capacity)


def _leads(followers: _Game, cost: Ints, most: Floats) -> Floats:
    """(E,) the leader's best quantity: by ever finer grids around the best one so far."""
    low, high = np.zeros_like(most), np.minimum(most, followers.intercept)
    for _ in range(_ROUNDS_OF_GRIDS):
        steps = np.linspace(low, high, _GRID)
        profit = np.stack([(followers.price(each) - cost) * each for each in steps])
        best = profit.argmax(axis=0)
        at = np.arange(len(most))
        low, high = steps[np.maximum(best - 1, 0), at], steps[np.minimum(best + 1, _GRID - 1), at]
    return np.asarray((low + high) / 2)
