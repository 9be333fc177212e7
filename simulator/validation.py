"""What the tables of one run must agree on: names that exist, places and law that a node knows, sizes that fit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from protocol.errors import ConfigurationError
from protocol.geography.jurisdictions import GROUPS, UNDECLARED, is_known, is_place, may_stand_in
from protocol.units import MICRO
from simulator.settings import unknown_key
from simulator.tables import MOST_PROVIDERS, Demand, Event

if TYPE_CHECKING:
    from simulator.replay.trace import Trace
    from simulator.scenario import Settings

__all__ = ["check_across"]

_LARGEST_RUN = 10**9  # provider-epochs: in microseconds they stay under 2**62
_HOW = "a code of ISO 3166, like DE or US-CA"
OF_REGIONS = ("tariff", "supply", "carbon", "shed", "drain")


def check_across(settings: Settings) -> None:
    """Raises ConfigurationError."""
    run = settings.run
    if 60 % run.epoch_minutes:
        raise ConfigurationError("run.epoch_minutes does not divide 60", hint="5, 6, 10, 12, 15, 20, 30 or 60")
    _check_sites(settings)
    _check_hardware(settings)
    if run.ledger:
        _check_ledger(settings)
    _check_trace(settings)
    for name, region in settings.regions.items():
        _check_place(region.jurisdiction, f"region.{name}.jurisdiction")
    places = [region.jurisdiction for region in settings.regions.values()]
    for name, demand in settings.demand.items():
        _check_demand(demand, places, f"demand.{name}")
    for at, event in enumerate(settings.events, 1):
        _check_event(settings, event, f"event {at}")
    if settings.market.strategy == "cournot" and settings.market.price_rule != "uniform":
        raise ConfigurationError("quantities need one price", hint='market.price_rule = "uniform" with cournot')
    leader = settings.market.leader
    if leader and settings.market.strategy != "cournot":
        raise ConfigurationError("market.leader chooses a quantity", hint='market.strategy = "cournot"')
    if leader and (leader not in settings.sites or settings.sites[leader].count != 1):
        raise ConfigurationError(
            f"market.leader = {leader!r} is no single site", hint="name a [site.NAME] with count = 1"
        )
    if settings.token.closure != "given" and not settings.token.fee:
        raise ConfigurationError("token.fee is missing", hint="without burning there is no price of a token")


def _check_sites(settings: Settings) -> None:
    run, shared = settings.run, any(region.share for region in settings.regions.values())
    if run.providers and not shared:
        raise ConfigurationError(
            "run.providers are shared out, and no region has a share", hint="give region.NAME.share"
        )
    for name, site in settings.sites.items():
        if site.region not in settings.regions:
            raise unknown_key(f"site.{name}.region {site.region!r}", site.region, settings.regions)
        if site.hardware not in settings.hardware:
            raise unknown_key(f"site.{name}.hardware {site.hardware!r}", site.hardware, settings.hardware)
    drawn = run.providers + sum(region.sites for region in settings.regions.values())
    if drawn and not any(kind.share for kind in settings.hardware.values()):
        raise ConfigurationError("no hardware has a share", hint="give hardware.NAME.share")
    total = drawn + sum(site.count for site in settings.sites.values())
    if not 1 <= total <= MOST_PROVIDERS:
        raise ConfigurationError(f"there are {total} sites", hint=f"from 1 to {MOST_PROVIDERS:,}")
    epochs = (run.hours + 24 * run.burn_in_days) * 60 // run.epoch_minutes
    if total * epochs > _LARGEST_RUN:
        raise ConfigurationError("too many sites for so many epochs", hint=f"at most {_LARGEST_RUN:,} together")


def _check_hardware(settings: Settings) -> None:
    for name, kind in settings.hardware.items():
        if kind.blocks and kind.blocks[1] > settings.run.blocks:
            raise ConfigurationError(
                f"hardware.{name}.blocks end after the model's", hint=f"run.blocks is {settings.run.blocks}"
            )
        if 0 < kind.late_us < kind.position_us:
            raise ConfigurationError(
                f"hardware.{name}.late_us is less than a token takes", hint=f"at least {kind.position_us}"
            )


def _check_ledger(settings: Settings) -> None:
    if settings.run.fidelity != "event":
        raise ConfigurationError("run.ledger is for requests that are served one by one", hint='fidelity = "event"')
    for name, demand in settings.demand.items():
        if not demand.tokens_in:
            raise ConfigurationError(f"demand.{name} has no prompt, and a session needs one", hint="tokens_in = 1")


def _check_trace(settings: Settings) -> None:
    run, trace = settings.run, settings.trace
    if trace is None:
        if run.fidelity == "replay":
            raise ConfigurationError("run.trace is missing", hint="a replay needs one; `joule sim trace` writes it")
        return
    if run.burn_in_days:
        raise ConfigurationError("a trace begins at hour 0", hint="leave run.burn_in_days out")
    for name in trace.classes:
        if name not in settings.demand:
            raise unknown_key(f"run.trace names demand.{name}, which", name, settings.demand)
        if settings.demand[name].requests_per_hour or settings.demand[name].series:
            raise ConfigurationError(
                f"demand.{name} is in the trace and has requests of its own", hint="leave one of them out"
            )
    if run.fidelity == "replay":
        _check_replay(settings, trace)


def _check_replay(settings: Settings, trace: Trace) -> None:
    for name in trace.sites:
        if name not in settings.sites or settings.sites[name].count != 1:
            raise ConfigurationError(f"the trace names site {name!r}", hint=f"add [site.{name}] with count = 1")
    if others := sorted(set(settings.demand) - set(trace.classes)):
        raise ConfigurationError(f"demand.{others[0]} is not in the trace", hint="a replay adds no demand")


def _check_place(place: str, key: str) -> None:
    if place in GROUPS:
        some = ", ".join(sorted(GROUPS[place])[:3])
        raise ConfigurationError(
            f"{key} = {place!r} is a group of countries", hint=f"name the country: {some}, ...; lists may name groups"
        )
    if not is_place(place) and place != UNDECLARED:
        raise ConfigurationError(f"{key} = {place!r} is not a known code", hint=_HOW)


def _check_demand(demand: Demand, places: list[str], key: str) -> None:
    ways = [tuple(each.split(">")) for each in demand.corridors]
    if any(len(way) != 2 for way in ways):
        raise ConfigurationError(f"{key}.corridors are written FROM>TO", hint='like ["DE>CH"]')
    areas = (area for way in ways for area in way)
    for code in (*demand.allow, *demand.deny, *areas):
        if not is_known(code):
            raise ConfigurationError(
                f"{key} names {code!r}, which is not a known code", hint=f"{_HOW}; groups: {', '.join(sorted(GROUPS))}"
            )
    for code in (*demand.allow, *demand.deny):
        if not any(_may_be_in((code,), place) for place in places):
            raise ConfigurationError(
                f"{key} names jurisdiction {code!r}, where no region is",
                hint="known: " + ", ".join(sorted(set(places))),
            )
    if demand.origin and not is_place(demand.origin):
        raise ConfigurationError(f"{key}.origin = {demand.origin!r} is not a known code", hint=_HOW)
    if demand.corridors and not demand.origin:
        raise ConfigurationError(f"{key} has corridors, and no origin that data come from", hint=f"set {key}.origin")
    if demand.elasticity and not demand.reference_price:
        raise ConfigurationError(f"{key}.reference_price is missing", hint="elasticity is relative to it")
    if bool(demand.requests_per_hour) == bool(demand.series) and demand.series:
        raise ConfigurationError(f"{key} has a series and requests_per_hour", hint="leave one of them out")


def _may_be_in(codes: tuple[str, ...], place: str) -> bool:
    country, region = (place[:2], place) if "-" in place else (place, "")
    return may_stand_in(codes, country, region)


def _check_event(settings: Settings, event: Event, key: str) -> None:
    names: Iterable[str] = ()
    if event.what in OF_REGIONS:
        names = settings.regions
    elif event.what == "demand":
        names = settings.demand
    if event.what in ("shed", "drain") and event.factor != MICRO:
        raise ConfigurationError(f"{key}.factor multiplies nothing", hint=f"leave it out: sites {event.what}, or not")
    for name in event.where:
        if name not in names:
            raise unknown_key(f"{key}.where {name!r}", name, names)
