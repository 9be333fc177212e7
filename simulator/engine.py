"""One run: day after day, ask, clear, settle, adapt. A scenario's settings in, arrays of what happened out.

Asks and clearing are hourly, use and presence daily. No file, no clock: progress goes to a callable.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from protocol.units import MICRO
from simulator.clearing import HOUR_US, MeritOrder, clear, merit_order, quotes
from simulator.demand import Classes, draw_classes, wanted
from simulator.draws import draws_for
from simulator.exact import Ints, ratio
from simulator.habits import adapt, first_state
from simulator.metrics import Recorder, Records
from simulator.population import HOURS_A_DAY, draw_population, tariffs
from simulator.pricing import Prices, hour_prices
from simulator.scenario import Settings
from simulator.settlement import Books, Day, settle

__all__ = ["simulate"]


def simulate(settings: Settings, progress: Callable[[float], None] = lambda _: None) -> Records:
    """Run the market of `settings` from its first to its last hour.

    Args:
        progress: called after each simulated day with the share that is done.

    Raises:
        ConfigurationError: prices, amounts or totals that outgrow 62-bit integers.
        RuleError: the books do not balance, which would be a fault of this program.
    """
    population, tariff = draw_population(settings), tariffs(settings)
    classes, state = draw_classes(settings, population), first_state(settings)
    recorder, books = Recorder(settings, population, classes, tariff), Books(classes)
    ties = draws_for(settings.run.seed, "ties").permutation(settings.run.providers).astype(np.int64)
    lots = _churn_lots(settings)
    price = np.zeros(len(classes.names), dtype=np.int64)
    for start in range(0, settings.run.hours, HOURS_A_DAY):
        hours, today = slice(start, min(start + HOURS_A_DAY, settings.run.hours)), start // HOURS_A_DAY
        present = state.present.astype(np.int64)
        prices = hour_prices(settings.market, population, state.use, tariff[population.region, hours].T)
        want = wanted(classes, hours, price)
        orders = _orders(classes, prices, np.roll(ties, today))
        served = clear(classes, classes.turns(today), want, present, orders)
        day = settle(classes, population, present, served, prices)
        books.post(day)  # refuses totals that the sums below could not hold
        recorder.enter(hours, present, want, served, day)
        price = _mean_price(classes, served, day)
        use = day.busy_us.sum(axis=0) * MICRO // (HOUR_US * want.shape[1])
        state = adapt(state, settings.market, population, use, day.profit.sum(axis=0), lots[:, today])
        progress(hours.stop / settings.run.hours)
    books.check()
    return recorder.records()


def _orders(classes: Classes, prices: Prices, tie_rank: Ints) -> dict[tuple[int, int], MeritOrder]:
    """One merit order for each size of request that is asked for."""
    sizes = sorted(set(zip(classes.tokens_in.tolist(), classes.tokens_out.tolist(), strict=True)))
    return {size: merit_order(quotes(*size, prices.ask_in, prices.ask_out), tie_rank) for size in sizes}


def _mean_price(classes: Classes, served: Ints, day: Day) -> Ints:
    """(C,) micro-units per million tokens that each class paid in the day, 0 where it got nothing."""
    tokens = served.sum(axis=(1, 2)) * (classes.tokens_in + classes.tokens_out)
    return ratio(day.paid.sum(axis=1), tokens)


def _churn_lots(settings: Settings) -> Ints:
    """(2, days, N) draws below a million: who leaves and who joins."""
    shape = (-(-settings.run.hours // HOURS_A_DAY), settings.run.providers)
    lots = [draws_for(settings.run.seed, "churn", what).integers(0, MICRO, shape) for what in ("leave", "join")]
    return np.stack(lots)
