"""One run: day after day, ask, clear, settle, adapt. A scenario's settings in, arrays of what happened out.

Asks, demand and clearing are by the epoch, use and presence by the day. No file, no clock: progress goes to a callable.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from protocol.errors import ConfigurationError
from protocol.settlement.stakes import penalty_parts
from protocol.units import MICRO
from simulator.arena import Arena
from simulator.audits import Audits
from simulator.cleared import Cleared, joined
from simulator.clearing import (
    MeritOrder,
    Product,
    Trades,
    clear,
    merit_order,
    passes_of,
    products_of,
    quotes,
    turns,
)
from simulator.curtailment import AT_EASE, Curtailment, Levels
from simulator.deferral import Backlog
from simulator.demand import Classes, draw_classes, response
from simulator.elastic import asked_at, crossing
from simulator.entry import Movers
from simulator.exact import Ints, exact_sum, ratio
from simulator.failures import Failures
from simulator.ground import Clearing, Ground
from simulator.happenings import factors, multiplied
from simulator.late import lateness_of
from simulator.metrics import Recorder, Records
from simulator.peaks import Peaks
from simulator.pipelines import clear_pipelines, stages_of
from simulator.population import draw_population
from simulator.pricing import Prices, block_prices, scaled_prices
from simulator.replay.recorded import Recorded
from simulator.scenario import Settings
from simulator.series import spread_over
from simulator.settlement import Block, Books, payments, settle
from simulator.strategies import View, cournot, strategy_of, unit_cost
from simulator.supply import draw_supply
from simulator.timeline import HOURS_A_DAY, Timeline
from simulator.tokens import TokenDay, Treasury
from simulator.zones import Worth, Zones, worth_of

__all__ = ["Market", "simulate"]

_MOST_EVENTS = 20_000_000  # some ten minutes
_KEPT_BYTES = 16 << 20


def simulate(settings: Settings, progress: Callable[[float], None] = lambda _: None) -> Records:
    """Run the market of `settings` from the start of its burn-in to its last hour.

    Args:
        progress: called after each simulated day with the share that is done.

    Raises:
        ConfigurationError: prices, amounts or totals that outgrow 62-bit integers.
        RuleError: the books do not balance, which would be a fault of this program.
    """
    # glibc returns freed memory to the system as soon as it is twice the largest block that was ever freed; every day
    # would fetch the same pages anew, for a sixth of its time. This block is never touched, so it costs nothing.
    np.empty(_KEPT_BYTES, dtype=np.uint8)
    market = Market(settings)
    for day, epochs in market.timeline.days():
        market.day(day, epochs)
        progress(epochs.stop / market.timeline.epochs)
    market.books.check()
    return market.recorder.records()


class Market:
    """All that a run carries from day to day."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.timeline = settings, Timeline(settings.run)
        self.population = draw_population(settings)
        self.supply = draw_supply(settings, self.timeline)
        self.classes = draw_classes(settings, self.timeline, self.population)
        self.products = products_of(self.classes)
        self.stages = stages_of(settings, self.population)
        self.lateness = lateness_of(settings, self.population)
        self.failures = Failures(settings, self.timeline, self.population)
        self.peaks = Peaks(settings, self.population, self.timeline.epoch_us)
        self.movers, self.audits = Movers(settings, self.population), Audits(settings, self.population)
        self.state = self.movers.first()
        self.backlog = Backlog(self.classes, self.population.region, self.supply.per_kwh)
        self.strategy = strategy_of(settings)
        self.treasury, self.books = Treasury(settings.token), Books(self.classes.names)
        self.recorder = Recorder(settings, self.timeline, self.population, self.classes, self.supply)
        self.recorded = self._recorded()
        if settings.run.fidelity == "event" and exact_sum(self.classes.potential) > _MOST_EVENTS:
            raise ConfigurationError(
                f"over {_MOST_EVENTS:,} requests would be served one by one",
                hint="simulate fewer hours or requests, or flows",
            )
        self.arena = (
            Arena(settings, self.classes, self.population, self.stages, self.lateness, self.recorded)
            if _is_event(settings)
            else None
        )
        self._last_price = np.zeros(len(self.classes.names), dtype=np.int64)
        self._token_price = self._given_token_price()
        uniform, elastic = settings.market.price_rule == "uniform", bool(self.classes.elasticity.any())
        self._at_once = uniform and elastic and not self.backlog.waits
        self.curtailment = Curtailment(settings, self.timeline, self.supply, self.population.region)
        self._ground = functools.lru_cache(256)(self._ground_at)

    def day(self, day: int, epochs: slice) -> None:
        """Live through one day."""
        settings, people = self.settings, self.population
        present = self.state.present.astype(np.int64)
        working_us = self.timeline.epoch_us * present * self.supply.share[people.region, epochs].T // MICRO
        down_us = self.failures.down_us(epochs)
        if down_us is not None:
            working_us = np.maximum(working_us - down_us, 0)
        per_kwh = self.supply.per_kwh[people.region, epochs].T
        prices = self._with_strategy(
            day, epochs, block_prices(settings.market, people, self.state.use, per_kwh), working_us
        )
        merits = self._merits(prices, day)
        parts = []
        for some, levels in self.curtailment.runs(epochs):
            within = slice(some.start - epochs.start, some.stop - epochs.start)
            now = {product: each.part(within) for product, each in merits.items()}
            parts.append(self._part(day, some, levels, now, prices.part(within), working_us[within]))
        cleared, worth, earned = joined(parts)
        times = (present, self.timeline.per_hour, HOURS_A_DAY * self.timeline.per_hour)
        settled = settle(self.classes, people, working_us, times, cleared.trades, earned, prices)
        block = self.peaks.charged(day, settled)
        self.books.post(block)
        self._close(day, epochs, cleared, worth, block, working_us)

    def _ground_at(self, levels: Levels) -> Ground:
        """What holds while regions hold back so far."""
        classes = self.classes
        if any(level != AT_EASE for level in levels):
            classes = dataclasses.replace(classes, lawful=classes.lawful & self.curtailment.admitted(levels))
        return Ground(self.settings, classes, self.products, pipelines=bool(self.stages))

    def _part(
        self,
        day: int,
        epochs: slice,
        levels: Levels,
        merits: dict[Product, MeritOrder],
        prices: Prices,
        working_us: Ints,
    ) -> tuple[Cleared, Worth, Ints]:
        """Clear epochs in which no site changes how far it holds back; what each trade earned is the last."""
        ground = self._ground(levels)
        if self.settings.run.fidelity == "replay" and self.recorded is not None:
            want, trades = self.recorded.day(epochs)
            cleared = Cleared(want=want, trades=trades, left_us=working_us.copy())
        else:
            cleared = self._cleared(day, epochs, ground, merits, prices, working_us)
        most = self.settings.market.value_of_lost_load
        worth = worth_of(
            ground.classes, ground.zones, self.products, merits, cleared.want, cleared.trades, cleared.left_us, most
        )
        earned = cleared.trades.paid
        return cleared, worth, self._payments(cleared, prices, worth, ground.zones) if earned is None else earned

    def _with_strategy(self, day: int, epochs: slice, prices: Prices, working_us: Ints) -> Prices:
        if self.settings.market.strategy in ("rule", "cournot"):
            return prices
        main = int(np.argmax(self.classes.potential[:, epochs].sum(axis=1)))
        tokens_in, tokens_out = int(self.classes.tokens_in[main]), int(self.classes.tokens_out[main])
        asks = quotes(tokens_in, tokens_out, prices.ask_in, prices.ask_out).mean(axis=0) / (tokens_in + tokens_out)
        view = View(
            day=day,
            cost=np.ceil(unit_cost(self.classes, prices, main).mean(axis=0)).astype(np.int64),
            capacity=(working_us // self.classes.busy_us[main]).min(axis=0),
            demand=np.rint(self.classes.potential[:, epochs].mean(axis=1)).astype(np.int64),
            classes=self.classes,
            present=self.state.present,
            asks=np.rint(asks).astype(np.int64),
        )
        levels = self.strategy.levels(view)
        return prices if levels is None else scaled_prices(prices, levels)

    def _merits(self, prices: Prices, day: int) -> dict[Product, MeritOrder]:
        """One merit order for each product; equal asks in an order that is drawn for each site, and moves daily."""
        ranks = np.empty(len(self.population), dtype=np.int64)
        mixed = (self.population.tie * (2 * (day % 1_000_003) + 1)) & (2**52 - 1)
        ranks[np.argsort(mixed, kind="stable")] = np.arange(len(ranks))
        merits = {}
        for product in dict.fromkeys(self.products):
            c = self.products.index(product)
            quote = quotes(product[0], product[1], prices.ask_in, prices.ask_out)
            for extra in (self.classes.rank_extra[c], self.population.opening * MICRO):
                if extra.any():
                    quote = quote + extra
            merits[product] = merit_order(quote, ranks)
        return merits

    def _cleared(
        self,
        day: int,
        epochs: slice,
        ground: Ground,
        merits: dict[Product, MeritOrder],
        prices: Prices,
        working_us: Ints,
    ) -> Cleared:
        classes, potential = ground.classes, self.classes.potential[:, epochs]
        order = turns(classes, day)
        clears = ground.clearing(order)
        if self.settings.market.strategy == "cournot":
            return self._quantities(order, ground, potential, merits, prices, working_us)
        if self.arena is not None:
            return self._by_events(self.arena, epochs, classes, merits, prices, working_us)
        if self._at_once and ground.one_market:
            want, price = crossing(classes, potential, merits[self.products[0]], working_us)
            left_us = working_us.copy()
            return Cleared(want=want, trades=clears(want, left_us, merits), left_us=left_us, fixed=price)
        want = potential * response(classes, self._last_price[:, None]) // MICRO
        left_us = working_us.copy()
        if self.stages:
            trades = clear_pipelines(classes, self.stages, order, want, left_us, merits)
        elif self.backlog.waits:
            return self._step_by_step(epochs, clears, want, left_us, merits)
        else:
            trades = clears(want, left_us, merits)
        return Cleared(want=want, trades=trades, left_us=left_us)

    def _by_events(
        self,
        arena: Arena,
        epochs: slice,
        classes: Classes,
        merits: dict[Product, MeritOrder],
        prices: Prices,
        working_us: Ints,
    ) -> Cleared:
        last = epochs.stop == self.timeline.epochs
        asked = classes.potential[:, epochs] * response(classes, self._last_price[:, None]) // MICRO
        found = arena.day(
            epochs, classes, asked, working_us, merits, self.products, prices, self.timeline.epoch_us, last=last
        )
        if last and arena.ledger is not None:
            arena.ledger.check()
        left_us = np.maximum(working_us - found.busy_us, 0)
        return Cleared(want=found.want, trades=found.trades, left_us=left_us, measured=found)

    def _quantities(
        self,
        order: list[int],
        ground: Ground,
        potential: Ints,
        merits: dict[Product, MeritOrder],
        prices: Prices,
        working_us: Ints,
    ) -> Cleared:
        if not ground.one_market:
            raise ConfigurationError(
                "quantities are for one kind of request under one law",
                hint="give all classes the same tokens, and let no site hold back",
            )
        busy = self.classes.busy_us[0]
        leader = self.settings.market.leader
        first = self.population.names().index(f"site/{leader}/00000") if leader else None
        cost = unit_cost(self.classes, prices, 0)
        price, offered = cournot(self.classes, potential, cost, working_us / busy, leader=first)
        left_us = np.minimum(np.rint(offered).astype(np.int64) * busy, working_us)
        fixed = np.rint(price).astype(np.int64)
        want = asked_at(self.classes, potential, fixed)
        free = merit_order(np.zeros_like(left_us), np.arange(left_us.shape[1]))
        passes = passes_of(self.classes, self.products, order)
        trades = clear(self.classes, passes, want, left_us, dict.fromkeys(merits, free))
        return Cleared(want=want, trades=trades, left_us=left_us, fixed=fixed)

    def _step_by_step(
        self, epochs: slice, clears: Clearing, want: Ints, left_us: Ints, merits: dict[Product, MeritOrder]
    ) -> Cleared:
        """Epoch after epoch: what is left over in one is wanted in the next."""
        asked, parts = want.copy(), []
        for at in range(want.shape[1]):
            epoch = epochs.start + at
            for c in self.backlog.waits:
                asked[c, at] = self.backlog.due(c, epoch, int(want[c, at]))
            now = {product: each.part(slice(at, at + 1)) for product, each in merits.items()}
            part = clears(asked[:, at : at + 1], left_us[at : at + 1], now)
            for c in self.backlog.waits:
                self.backlog.served(c, epoch, int(part.requests[part.of_class == c].sum()))
            parts.append((part.of_class, part.epoch + at, part.site, part.requests))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return Cleared(want=asked, trades=Trades(*columns), left_us=left_us, arrived=want)

    def _payments(self, cleared: Cleared, prices: Prices, worth: Worth, zones: Zones) -> Ints:
        """Micro-units of each trade, by the price rule."""
        rule, classes, trades, fixed = self.settings.market.price_rule, self.classes, cleared.trades, cleared.fixed
        epoch, site, c = trades.epoch, trades.site, trades.of_class
        if rule == "uniform":
            price = worth.price[c, epoch, zones.of_site[site]] if fixed is None else fixed[epoch]
            price = np.minimum(price, classes.price_cap[c])
            return payments(classes, trades, self.lateness, price, price)
        at = epoch * len(self.population) + site
        asks = trades.part(prices.ask_in.take(at)), trades.part(prices.ask_out.take(at))
        by_ask = payments(classes, trades, self.lateness, *asks, trades.part(self.population.opening[site]))
        if rule == "posted":
            return by_ask
        scarce = np.minimum(worth.scarcity[epoch, zones.of_site[site]], classes.price_cap[c])
        return np.maximum(by_ask, payments(classes, trades, self.lateness, scarce, scarce))

    def _close(
        self,
        day: int,
        epochs: slice,
        cleared: Cleared,
        worth: Worth,
        block: Block,
        working_us: Ints,
    ) -> None:
        """Audits, tokens, who comes and goes, and the record."""
        revenue, requests = block.revenue.sum(axis=0), block.requests.sum(axis=0)
        audit = self.audits.day(day, requests, revenue)
        token = self._tokens(day, int(block.paid.sum()), epochs)
        reward = _split(token.reward, revenue if self.settings.token.reward == "work" else self._machines())
        self.books.move("cheated", "providers", int(audit.gained.sum()))
        for to, part in zip(("auditors", "burned"), penalty_parts(audit.slashed), strict=True):
            self.books.move("providers", to, exact_sum(part))
        self.books.move("token_holders", "providers", int(reward.sum()))
        self.books.move("providers", "token_holders", token.fees)
        self.books.move("providers", "treasury", token.kept)
        self.books.check()
        running = block.running_cost.sum(axis=0)
        other = audit.gained - audit.slashed + reward - _split(token.fees + token.kept, revenue)
        gross = revenue - running + other
        if day >= 0:
            hours = slice(epochs.start - self.timeline.before, epochs.stop - self.timeline.before)
            self.recorder.enter(hours, self.state, cleared, worth, block, working_us)
            self.recorder.enter_day(day, token, self.treasury, audit, other)
        trades = cleared.trades
        served = trades.complete * self.classes.tokens[trades.of_class]
        tokens = np.zeros(len(self.classes.names), dtype=np.int64)
        np.add.at(tokens, trades.of_class, served)
        self._last_price = ratio(block.paid.sum(axis=1), tokens)
        length = working_us.shape[0] * self.timeline.epoch_us
        use = block.busy_us.sum(axis=0) * MICRO // length
        self.state = self.movers.next(self.state, day, use, running, gross, audit.caught)

    def _tokens(self, day: int, paid: int, epochs: slice) -> TokenDay:
        fees = paid * self.settings.token.fee // MICRO
        return self.treasury.day(day, fees=fees, given=int(self._token_price[epochs].mean()))

    def _machines(self) -> Ints:
        return self.population.units * self.state.present

    def _recorded(self) -> Recorded | None:
        trace = self.settings.trace
        if trace is None:
            return None
        sites = self.population.names()
        return Recorded(trace, self.timeline, self.classes.names, sites, self.settings.run.seed)

    def _given_token_price(self) -> Ints:
        token, timeline = self.settings.token, self.timeline
        if token.price_series:
            numbers = self.settings.series[token.price_series]
            given = spread_over(numbers, timeline.epochs, timeline.epoch_minutes, timeline.first)
        else:
            given = np.full(timeline.epochs, token.price, dtype=np.int64)
        return multiplied(given, factors(self.settings, timeline, "token-price", [""])[0], "token's price")


def _is_event(settings: Settings) -> bool:
    if settings.run.fidelity != "event":
        return False
    if settings.market.price_rule != "posted" or any(each.defer_hours for each in settings.demand.values()):
        raise ConfigurationError("single requests pay what is asked, and wait at sites", hint="posted, no defer_hours")
    return True


def _split(total: int, weights: Ints) -> Ints:
    """(N,) integers that add up to `total`, in proportion to the weights; all to the first where there are none."""
    whole = int(weights.sum())
    if not total:
        return np.zeros(len(weights), dtype=np.int64)
    if not whole:
        return np.concatenate([[total], np.zeros(len(weights) - 1, dtype=np.int64)]).astype(np.int64)
    ends = [int(each) * total // whole for each in np.cumsum(weights)]
    return np.asarray(np.diff(np.array(ends, dtype=np.int64), prepend=0), dtype=np.int64)
