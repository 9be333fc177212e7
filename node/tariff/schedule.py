"""What a site's power is from quarter to quarter: curves, charges, tranches and exchange rates put together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import lru_cache

from node.tariff.description import Curve, Exchange, Feed, Flat, Quantity, Table, Tariff
from node.tariff.local_time import LocalHour, SiteCalendar
from node.tariff.numbers import CARBON, PRICE, PUE
from protocol.energy.charges import blended_price, charged, demand_price, exchanged, in_merit_order
from protocol.energy.price_series import STEP_S, PriceSeries, PriceSource, filled, hourly_means
from protocol.energy.rate_table import DemandTable
from protocol.energy.tariff import MAX_TARIFF
from protocol.market.pricing import Supply
from protocol.units import MICRO

__all__ = ["BEYOND", "Points", "SupplySeries", "quantity_of", "supply_series"]

BEYOND = f"some prices come to more than {MAX_TARIFF // MICRO} per kWh: is the unit right?"

Points = Mapping[str, Mapping[int, int]]
"""What feeds said: for each thing that one is of, values by the start of a quarter."""


@dataclass(frozen=True, slots=True)
class SupplySeries:
    """Prices in the ledger's money, PUE in thousandths, and grams of CO2 per kWh, over the same quarters."""

    price: PriceSeries
    pue: PriceSeries | None
    """None where the settings say it."""
    carbon: PriceSeries | None
    """None where the settings say it."""
    notes: tuple[str, ...] = ()
    """What a person should know of it, such as an exchange rate that is old."""

    def at(self, now: int, settled: Supply) -> Supply:
        """The supply at a time; what the series does not have is as settled. Raises InvalidError outside the series."""
        return Supply(
            self.price.at(now),
            settled.pue_milli if self.pue is None else self.pue.at(now),
            settled.carbon_g_per_kwh if self.carbon is None else self.carbon.at(now),
        )

    def hours(self, now: int, settled: Supply, most: int) -> tuple[Supply, ...]:
        """Of the hours after the one of `now`, by their means."""
        prices = hourly_means(self.price, now, most)
        pues = hourly_means(self.pue, now, most) if self.pue else (settled.pue_milli,) * len(prices)
        carbon = hourly_means(self.carbon, now, most) if self.carbon else (settled.carbon_g_per_kwh,) * len(prices)
        return tuple(map(Supply, prices, pues, carbon))


def quantity_of(tariff: Tariff, name: str) -> Quantity:
    """What a feed of a tariff is of, with bounds for its currency."""
    if name != "price":
        return {"pue": PUE, "carbon": CARBON}[name]
    most = (
        MAX_TARIFF if tariff.exchange is None else MAX_TARIFF * MICRO // max(rate for _, rate in tariff.exchange.rates)
    )
    return replace(PRICE, low=-most, high=most)


def supply_series(
    tariff: Tariff, points: Points, start: int, steps: int, aged: Collection[str] = frozenset()
) -> SupplySeries:
    """The series of so many quarters. A price that comes to more than any can be is put at that, and a note says so.

    Args:
        aged: feeds whose points were kept from before: they count, and are called stale.
    """
    price, notes = _price(tariff, points, start, steps)
    made = {
        "price": price,
        "pue": _plain(tariff.pue, tariff.calendar, points.get("pue", {}), start, steps),
        "carbon": _plain(tariff.carbon, tariff.calendar, points.get("carbon", {}), start, steps),
    }
    made |= {name: _stale(series) for name in aged if (series := made[name]) is not None}
    return SupplySeries(price=made["price"] or price, pue=made["pue"], carbon=made["carbon"], notes=notes)


def _stale(series: PriceSeries) -> PriceSeries:
    """The same from a feed that has not been read since."""
    sources = tuple(PriceSource.STALE if each is PriceSource.FEED else each for each in series.sources)
    return PriceSeries(series.start, series.prices, sources)


def _plain(
    curve: Curve | None, calendar: SiteCalendar, points: Mapping[int, int], start: int, steps: int
) -> PriceSeries | None:
    if curve is None:
        return None
    values, sources = _values(curve, calendar, points, start, steps, 0)
    return PriceSeries(start, values, sources)


def _values(
    curve: Curve, calendar: SiteCalendar, points: Mapping[int, int], start: int, steps: int, monthly_wh: int
) -> tuple[tuple[int, ...], tuple[PriceSource, ...]]:
    match curve:
        case Feed(stale_s=stale_s, fallback=fallback):
            return filled(points, start, steps, stale_s=stale_s, fallback=fallback)
        case Flat(value=value):
            values = (value,) * steps
        case Table(rates=rates):
            hours = [calendar.local(start + step * STEP_S) for step in range(steps)]
            values = tuple(
                rates.rate(at.month, at.hour, weekend=at.weekend, used_wh=monthly_wh * at.month_ppm // MICRO)
                for at in hours
            )
    return values, (PriceSource.TABLE,) * steps


def _price(tariff: Tariff, points: Points, start: int, steps: int) -> tuple[PriceSeries, tuple[str, ...]]:
    energy, sources = _values(
        tariff.price, tariff.calendar, points.get("price", {}), start, steps, tariff.load.monthly_wh
    )
    prices: list[int] = []
    notes: dict[str, None] = {}
    for step, base in enumerate(energy):
        at = start + step * STEP_S
        local = tariff.calendar.local(at)
        price = charged(base + _demand(tariff, local), tariff.charges)
        price = _with_tranches(tariff, local, base, price)
        rate, note = _rate(tariff.exchange, datetime.fromtimestamp(at, UTC).date())
        notes[note] = None
        price = exchanged(price, rate)
        if abs(price) > MAX_TARIFF:
            notes[BEYOND] = None
            price = max(-MAX_TARIFF, min(MAX_TARIFF, price))
        prices.append(price)
    return PriceSeries(start, tuple(prices), sources), tuple(note for note in notes if note)


def _with_tranches(tariff: Tariff, local: LocalHour, energy: int, grid: int) -> int:
    """The mean price of what the site draws, the cheapest supplies first; the grid gives whatever is left."""
    if not tariff.tranches or tariff.load.watts is None:
        return grid
    supplies = [
        (each.watts_at(local.month, local.hour), energy if each.price is None else each.price)
        for each in tariff.tranches
    ]
    cheaper = in_merit_order([each for each in supplies if each[1] < grid])
    return blended_price(tariff.load.watts, cheaper, grid)


def _demand(tariff: Tariff, local: LocalHour) -> int:
    """What peaks cost, for each kWh of this hour: its share of a month's charge."""
    if not isinstance(tariff.price, Table) or tariff.load.watts is None:
        return 0
    demand, watts = tariff.price.demand, tariff.load.watts
    hours = _hours(tariff.calendar, demand, local.year, local.month)
    price = demand_price(demand.flat_rate(local.month, watts), sum(hours.values()), tariff.load.factor_ppm)
    if demand.periods:
        period = demand.period(local.month, local.hour, weekend=local.weekend)
        price += demand_price(demand.period_rate(period, watts), hours[period], tariff.load.factor_ppm)
    return price


@lru_cache(maxsize=64)
def _hours(calendar: SiteCalendar, demand: DemandTable, year: int, month: int) -> dict[int, int]:
    """Hours of a month in each period of a demand table; all in one where it has none."""
    found: dict[int, int] = {}
    for hour in calendar.hours_in(year, month):
        period = demand.period(month, hour.hour, weekend=hour.weekend) if demand.periods else 0
        found[period] = found.get(period, 0) + 1
    return found


def _rate(exchange: Exchange | None, day: date) -> tuple[int, str]:
    """The newest rate of a day or before it, in millionths, and what is to be said of it."""
    if exchange is None:
        return MICRO, ""
    known = [each for each in exchange.rates if each[0] <= day] or [exchange.rates[0]]
    since, rate = known[-1]
    old = exchange.oldest_days is not None and (day - since).days > exchange.oldest_days
    return rate, f"the exchange rate is of {since}" if old or since > day else ""
