"""Who could provide: one array element for each site, drawn once. Nothing here changes during a run.

Sites are ordered by region, and in a region by group: those that are drawn, then each [site.NAME]. A group has random
streams of its own, so nothing that happens to one changes the lots of another.
"""

from __future__ import annotations

import dataclasses
import heapq
from typing import Any

import numpy as np

from protocol.drafting.speculation import Costs, Pace, speed
from protocol.errors import ConfigurationError
from protocol.units import MICRO, ceil_div
from simulator.draws import Floats, Lots
from simulator.exact import Ints
from simulator.hardware import Hardware
from simulator.scenario import Settings
from simulator.tables import MILLI

__all__ = ["SECONDS_AN_HOUR", "Population", "allotted", "draft_speed", "draw_population"]

SECONDS_AN_HOUR = 3600
_MOST_WATTS = 100_000_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Arrays of length N, one element for each site."""

    groups: tuple[tuple[str, int], ...]
    """Names of groups, and how many sites each has; in order."""
    region: Ints
    """Index into the scenario's regions, ascending."""
    hardware: Ints
    """Index into the scenario's hardware."""
    units: Ints
    """Machines at the site."""
    pue: Ints
    """Thousandths."""
    joules_in: Ints
    """Millijoules per prompt token, at the machine."""
    joules_out: Ints
    """Millijoules per generated token, at the machine."""
    tokens_in_per_s: Ints
    """Of the whole site."""
    tokens_out_per_s: Ints
    """Of the whole site."""
    unit_in_us: Ints
    """Microseconds that one prompt token takes one unit, rounded up: what a node's ask goes by."""
    unit_out_us: Ints
    """Of a generated token."""
    idle_watts: Ints
    """Of the whole site."""
    hourly_cost: Ints
    """Micro-units per hour, of the whole site."""
    capital_daily: Ints
    """Micro-units a day that pay for the building of the site over its life."""
    slots: Ints
    """Requests that the whole site serves at once."""
    ignores_energy: np.ndarray[Any, np.dtype[np.bool_]]
    """Whether its asks leave out what energy costs."""
    fixed_asks: tuple[Ints, Ints]
    """Micro-units per million prompt and generated tokens that it asks whatever they cost it; 0: by its costs."""
    opening: Ints
    """Micro-units that it asks for a request, whatever its size."""
    tie: Ints
    """A lot in 0..2**62 by which equal asks are put in order."""

    def __len__(self) -> int:
        return len(self.region)

    def names(self) -> list[str]:
        """Of all sites: the group and a number in it."""
        return [f"{group}/{i:05d}" for group, count in self.groups for i in range(count)]


def draw_population(settings: Settings) -> Population:
    """The sites of a scenario, from its seed. Raises ConfigurationError for sites out of all bounds."""
    regions, kinds = list(settings.regions.values()), list(settings.hardware.values())
    groups = _groups(settings)
    names = [(name, count) for name, _, count, _ in groups]
    counts = [count for _, _, count, _ in groups]
    region = np.repeat([at for _, at, _, _ in groups], counts).astype(np.int64)
    drawn = np.repeat([site is None for *_, site in groups], counts)

    def lots(purpose: str) -> Floats:
        return Lots(settings.run.seed, purpose, names).of(0)

    hardware = _by_share(lots("hardware"), [kind.share for kind in kinds])
    units = 1 + np.floor(lots("units") * _pick(kinds, "most_units", hardware)).astype(np.int64)
    start = 0
    kind_names = list(settings.hardware)
    for _, _, count, site in groups:
        if site is not None:
            hardware[start : start + count] = kind_names.index(settings.sites[site].hardware)
            units[start : start + count] = settings.sites[site].units
        start += count
    pue = np.floor(lots("pue") * (_pick(regions, "pue_spread", region) + 1)).astype(np.int64) * drawn
    joules = 1 + drawn * (2 * lots("joules") - 1) * _pick(kinds, "joules_spread", hardware) / MICRO
    cost = 1 + drawn * (2 * lots("cost") - 1) * _pick(kinds, "cost_spread", hardware) / MICRO
    speed_in = _pick(kinds, "tokens_in_per_s", hardware)
    speed_out = np.array([draft_speed(kind) for kind in kinds], dtype=np.int64)[hardware]
    daily = np.array([capital_daily(kind, settings.entry.discount) for kind in kinds], dtype=np.int64)
    people = Population(
        groups=tuple(names),
        region=region,
        hardware=hardware,
        units=units,
        pue=_pick(regions, "pue", region) + pue,
        joules_in=np.rint(_pick(kinds, "joules_in", hardware) * joules).astype(np.int64),
        joules_out=np.rint(_pick(kinds, "joules_out", hardware) * joules).astype(np.int64),
        tokens_in_per_s=speed_in * units,
        tokens_out_per_s=speed_out * units,
        unit_in_us=ceil_div(np.full_like(units, MICRO), speed_in),
        unit_out_us=ceil_div(np.full_like(units, MICRO), speed_out),
        idle_watts=_pick(kinds, "idle_watts", hardware) * units,
        hourly_cost=np.rint(_pick(kinds, "hourly_cost", hardware) * cost).astype(np.int64) * units,
        capital_daily=daily[hardware] * units,
        slots=_pick(kinds, "slots", hardware) * units,
        ignores_energy=lots("ignorance") * MICRO < settings.agents.ignore_energy,
        fixed_asks=(_pick(kinds, "ask_in", hardware), _pick(kinds, "ask_out", hardware)),
        opening=_pick(kinds, "opening", hardware),
        tie=(lots("tie") * 2.0**52).astype(np.int64),
    )
    _check_bounds(people)
    return people


def allotted(providers: int, shares: list[int]) -> list[int]:
    """How many of `providers` go to each share: one by one, to whom each is most due (Sainte-Laguë).

    So one more provider is one more somewhere, and no fewer anywhere.
    """
    counts = [0] * len(shares)
    due = [(-float(share), at) for at, share in enumerate(shares) if share]
    heapq.heapify(due)
    for _ in range(providers if due else 0):
        _, at = due[0]
        counts[at] += 1
        heapq.heapreplace(due, (-shares[at] / (2 * counts[at] + 1), at))
    return counts


def draft_speed(kind: Hardware) -> int:
    """Generated tokens per second of a unit, with what guessing ahead brings."""
    if not kind.draft_depth:
        return kind.tokens_out_per_s
    right = kind.draft_accept / MICRO
    survival = [right**guesses for guesses in range(kind.draft_depth + 1)]
    trip = 1 + kind.draft_depth * kind.draft_row_cost / MICRO
    gain = speed(survival, right, Pace(kind.draft_depth, 1), Costs(1.0, trip, trip))
    return max(1, round(kind.tokens_out_per_s * gain))


def capital_daily(kind: Hardware, discount: int) -> int:
    """Micro-units a day over a unit's life whose present value is what it costs to build."""
    rate = (1 + discount / MICRO) ** (1 / 365) - 1
    if not rate:
        return round(kind.capital / kind.life_days)
    return round(float(kind.capital * rate / (1 - (1 + rate) ** -kind.life_days)))


def _groups(settings: Settings) -> list[tuple[str, int, int, str | None]]:
    """(name, region, sites, name of the [site] or None), in order."""
    by_share = allotted(settings.run.providers, [region.share for region in settings.regions.values()])
    found: list[tuple[str, int, int, str | None]] = []
    for at, ((name, region), shared) in enumerate(zip(settings.regions.items(), by_share, strict=True)):
        found.append((f"provider/{name}", at, shared + region.sites, None))
        found += [(f"site/{own}", at, site.count, own) for own, site in settings.sites.items() if site.region == name]
    return found


def _by_share(lots: Floats, shares: list[int]) -> Ints:
    ends = np.cumsum(np.array(shares, dtype=np.float64))
    if not ends[-1]:
        return np.zeros(len(lots), dtype=np.int64)
    return np.asarray(np.searchsorted(ends, lots * ends[-1], side="right"), dtype=np.int64)


def _check_bounds(people: Population) -> None:
    """Raise `ConfigurationError` where an hour of energy might not stay under 2**62."""
    watts_in = people.tokens_in_per_s * people.joules_in // MILLI
    watts_out = people.tokens_out_per_s * people.joules_out // MILLI
    if max(int(watts.max()) for watts in (watts_in, watts_out, people.idle_watts)) > _MOST_WATTS:
        raise ConfigurationError("a site draws over 100 MW", hint="lower most_units, joules or tokens per second")


def _pick(rows: list[Any], field: str, index: Ints) -> Ints:
    return np.array([getattr(row, field) for row in rows], dtype=np.int64)[index]
