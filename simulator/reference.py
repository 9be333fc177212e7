"""One day of the market on Python ints, provider by provider: the plain reading of what the arrays do.

Tests hold the arrays to it, and `scripts/bench_simulator.py` says how much faster they are. It calls the kernels just
as a node does, one value at a time, and shares nothing but `capital_price` and `cost` with the vectorised day.
"""

from __future__ import annotations

import dataclasses

from protocol.metering import amount
from protocol.tariff import ask_price, energy_price, floor_price
from protocol.units import MICRO, ceil_div
from simulator.demand import Classes
from simulator.population import Population
from simulator.pricing import capital_price
from simulator.scenario import MILLI, Market
from simulator.settlement import cost

__all__ = ["Site", "SiteHour", "plain_hour", "sites"]

_HOUR_US = 3600 * MICRO


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A provider as plain ints; units as in `Population`."""

    pue: int
    joules_in: int
    joules_out: int
    tokens_in_per_s: int
    tokens_out_per_s: int
    idle_watts: int
    hourly_cost: int


@dataclasses.dataclass(slots=True, kw_only=True)
class SiteHour:
    """What one provider asks and does in one hour."""

    ask_in: int
    ask_out: int
    energy_in: int
    energy_out: int
    left_us: int
    tokens_in: int = 0
    tokens_out: int = 0
    revenue: int = 0
    work_cost: int = 0
    idle_cost: int = 0
    energy: int = 0
    requests: dict[str, int] = dataclasses.field(default_factory=dict)


def sites(population: Population) -> list[Site]:
    """The population, one object each."""
    fields = [field.name for field in dataclasses.fields(Site)]
    columns = (getattr(population, field).tolist() for field in fields)
    return [Site(**dict(zip(fields, row, strict=True))) for row in zip(*columns, strict=True)]


def plain_hour(
    market: Market,
    providers: list[Site],
    classes: Classes,
    *,
    turns: list[int],
    tie_rank: list[int],
    present: list[bool],
    use: list[int],
    tariff: list[int],
    want: list[int],
) -> list[SiteHour]:
    """Ask, clear and settle one hour; the lists have one element for each provider, `want` one for each class."""
    hours = [
        _ask(market, site, used, price, here)
        for site, used, price, here in zip(providers, use, tariff, present, strict=True)
    ]
    for c in turns:
        _serve(providers, hours, classes, c, tie_rank, want[c])
    for site, hour, price, here in zip(providers, hours, tariff, present, strict=True):
        if here:
            _close(site, hour, price)
    return hours


def _ask(market: Market, site: Site, use: int, tariff: int, present: bool) -> SiteHour:
    energy_in = energy_price(site.joules_in, site.pue, tariff)
    energy_out = energy_price(site.joules_out, site.pue, tariff)
    capital_in = capital_price(market.target_use, site.hourly_cost, site.tokens_in_per_s)
    capital_out = capital_price(market.target_use, site.hourly_cost, site.tokens_out_per_s)
    return SiteHour(
        ask_in=ask_price(floor_price(energy_in, market.overhead), market.margin, capital_in, use),
        ask_out=ask_price(floor_price(energy_out, market.overhead), market.margin, capital_out, use),
        energy_in=energy_in,
        energy_out=energy_out,
        left_us=_HOUR_US if present else 0,
    )


def _serve(sites: list[Site], hours: list[SiteHour], classes: Classes, c: int, tie_rank: list[int], want: int) -> None:
    """Give a class's requests to the cheapest lawful provider with time left, then to the next."""
    tokens_in, tokens_out, most = (int(x[c]) for x in (classes.tokens_in, classes.tokens_out, classes.most_paid))
    quotes = [tokens_in * hour.ask_in + tokens_out * hour.ask_out for hour in hours]
    for i in sorted(range(len(sites)), key=lambda i: (quotes[i], tie_rank[i])):
        site, hour = sites[i], hours[i]
        if want == 0 or quotes[i] > most:
            return
        if not classes.lawful[c][i]:
            continue
        each_us = ceil_div(tokens_in * MICRO, site.tokens_in_per_s) + ceil_div(
            tokens_out * MICRO, site.tokens_out_per_s
        )
        requests = min(want, hour.left_us // each_us)
        want -= requests
        hour.left_us -= requests * each_us
        hour.tokens_in += requests * tokens_in
        hour.tokens_out += requests * tokens_out
        hour.revenue += amount(requests * tokens_in, requests * tokens_out, hour.ask_in, hour.ask_out)
        hour.requests[classes.names[c]] = requests


def _close(site: Site, hour: SiteHour, tariff: int) -> None:
    idle_mj = hour.left_us * site.idle_watts // MILLI
    hour.work_cost = cost(hour.tokens_in, hour.tokens_out, hour.energy_in, hour.energy_out)
    hour.idle_cost = cost(idle_mj // MILLI, 0, energy_price(MILLI, site.pue, tariff), 0)
    machine_mj = hour.tokens_in * site.joules_in + hour.tokens_out * site.joules_out + idle_mj
    hour.energy = ceil_div(machine_mj * site.pue, MILLI)
