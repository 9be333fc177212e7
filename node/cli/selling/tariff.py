"""`joule tariff`: what power will cost, by the tariff of a node."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from node.cli.terminal.options import configured, examples, json_option
from node.cli.terminal.output import money, print_json, print_table
from node.cli.terminal.running import run_job
from node.config import NodeConfig
from node.events import Event, Level, unheard

if TYPE_CHECKING:
    from node.tariff import FollowedSupply, SupplySeries
    from protocol.market.pricing import Supply

_BAR = 32
"""Characters of the longest bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarter:
    """A quarter of an hour."""

    at: int
    """Unix seconds of its start."""
    micro_per_kwh: int
    """Micro-units per kWh, with all that comes on top; below 0 where consumption is paid."""
    source: str
    """``table``, ``feed``, ``stale`` or ``fallback``."""
    pue_milli: int
    """In thousandths."""
    carbon_g_per_kwh: int | None
    """Grams of CO2; null where nobody says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffShown:
    """What power costs from now on."""

    zone: str
    """Of the tariff."""
    currency: str
    """That the tariff is written in; prices here are in the ledger's money."""
    quarters: tuple[Quarter, ...]
    """From the one of now on."""
    failing: dict[str, str]
    """Feeds that cannot be read, and why; by what they are of."""
    notes: tuple[str, ...]
    """What else should be known of these prices."""


@click.group(epilog=examples("joule tariff show --tariff tariff.toml"))
def tariff() -> None:
    """What power costs a node, by its tariff."""


@tariff.command(
    epilog=examples(
        "joule tariff show --tariff tariff.toml",
        "joule tariff show --config node.toml --hours 24 --json",
        "joule tariff show --tariff tariff.toml --plot tariff.svg",
    )
)
@configured(NodeConfig, only=("tariff", "energy_price", "pue", "carbon_g_per_kwh"), unused={"model": "."})
@click.option(
    "--hours", type=click.IntRange(1, 24 * 14), default=48, show_default=True, metavar="HOURS", help="How far to look."
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw it, too: to a .svg, or to a .png with the extra `sim`.",
)
@json_option
def show(config: NodeConfig, hours: int, plot: Path | None, as_json: bool) -> int:
    """Print what power costs in the hours to come, as a node with these settings sees it.

    Prices are $ per kWh with all that comes on top, the mean of each hour; the source is the worst of its quarters.
    Feeds are read once. The status is 1 where one could not be read, and prices are as the node would fill them in.
    """
    followed, status = run_job(_read(config, quiet=as_json))
    found = _shown(followed, hours)
    if plot is not None:
        from node.cli.selling.tariff_plot import draw

        draw(plot, found)
    if as_json:
        print_json(found)
    else:
        _print(found)
    return status or (1 if found.failing else 0)


async def _read(config: NodeConfig, *, quiet: bool) -> FollowedSupply:
    from node.app.process.clock import clock
    from node.app.selling.provider_settings import supply_of
    from node.tariff import FollowedSupply

    def tell(event: Event) -> None:
        if event.level >= Level.WARNING:
            click.echo(event.sentence(), err=True)

    followed = await asyncio.to_thread(
        FollowedSupply, config.tariff, supply_of(config), clock=clock, events=unheard if quiet else tell
    )
    await followed.begin()
    return followed


def _shown(followed: FollowedSupply, hours: int) -> TariffShown:
    series = followed.series(hours + 1)
    described = followed.tariff
    return TariffShown(
        zone="UTC" if described is None else str(described.calendar.zone),
        currency="USD" if described is None else described.currency,
        quarters=tuple(_quarters(series, followed.settled, hours)),
        failing=followed.failing,
        notes=series.notes,
    )


def _quarters(series: SupplySeries, settled: Supply, hours: int) -> list[Quarter]:
    price, made = series.price, []
    for step in range(4 * hours):
        at = price.start + 900 * step
        supply = series.at(at, settled)
        source = str(price.source_at(at))
        made.append(
            Quarter(
                at=at,
                micro_per_kwh=supply.micro_per_kwh,
                source=source,
                pue_milli=supply.pue_milli,
                carbon_g_per_kwh=supply.carbon_g_per_kwh,
            )
        )
    return made


def _print(found: TariffShown) -> None:
    zone, hours = ZoneInfo(found.zone), _hours(found.quarters)
    highest = max(max(sum(each.micro_per_kwh for each in hour) // len(hour) for hour in hours), 1)
    rows = []
    for hour in hours:
        mean = -(-sum(each.micro_per_kwh for each in hour) // len(hour))
        then = datetime.fromtimestamp(hour[0].at, UTC).astimezone(zone)
        carbon = hour[0].carbon_g_per_kwh
        bar = "▏" if mean <= 0 else "█" * max(1, mean * _BAR // highest)
        worst = max((each.source for each in hour), key=("table", "feed", "stale", "fallback").index)
        grams = "?" if carbon is None else str(carbon)
        rows.append([f"{then:%a %d %b %H:%M}", money(mean), bar, worst, f"{hour[0].pue_milli / 1000:g}", grams])
    print_table((f"{found.zone}", "$/kWh", "", "source", "PUE", "gCO2/kWh"), rows)
    for note in found.notes:
        click.echo(f"note: {note}", err=True)


def _hours(quarters: tuple[Quarter, ...]) -> list[list[Quarter]]:
    """By the hour of Unix time; the first one may have begun before."""
    found: dict[int, list[Quarter]] = {}
    for each in quarters:
        found.setdefault(each.at // 3600, []).append(each)
    return list(found.values())
