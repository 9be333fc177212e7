"""`joule market`: what the offers that are heard come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.terminal.options import configured, examples, json_option
from node.cli.terminal.output import money, print_facts, print_json, print_table, tell
from node.cli.terminal.running import run_job
from node.config import ClientConfig
from protocol.errors import ConfigurationError

if TYPE_CHECKING:
    from protocol.market.market_figures import MarketFigures


@click.command(epilog=examples("joule market", "joule market --wait 20 --plot market.svg", "joule market --json"))
@configured(ClientConfig, only=("ledger", "peers", "data_dir", "log_level"))
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to listen for offers.",
)
@click.option("--model", metavar="NAME|ROOT", help="Only models of this name, or whose root begins so.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.svg", help="Draw it, too.")
@json_option
def market(config: ClientConfig, wait_s: float, model: str | None, plot: Path | None, as_json: bool) -> int:
    """Say what is on offer in all, model by model: capacity of each block, prices by place and class, concentration.

    Prices are $ per million tokens, as if each offer were of the whole model. All figures are what offers say. An
    operator is a key: who has several looks like several.
    """
    found, status = run_job(_collect(config, wait_s))
    chosen = [each for each in found if model is None or each.name == model or each.model.hex().startswith(model)]
    if plot is not None:
        _draw(chosen, plot)
    if as_json:
        print_json(chosen)
        return status
    if not chosen:
        click.echo("no offers heard; is a node running, and is --ledger or --peer the right one?", err=True)
    for each in chosen:
        _show(each)
    return status


async def _collect(config: ClientConfig, wait_s: float) -> list[MarketFigures]:
    from node.app.buying.client import open_client
    from protocol.market.market_figures import market_figures
    from protocol.policy.policy import TIME_PER_TOKEN_US

    async with open_client(config, None, tell(config, err=True)) as client:
        offers = await client.offers(wait_s, enough=lambda _found: False)
    return market_figures(offers, {str(each): us for each, us in TIME_PER_TOKEN_US.items()})


def _draw(markets: list[MarketFigures], file: Path) -> None:
    from node.cli.buying.market_plot import market_svg

    try:
        file.write_text(market_svg(markets), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}", hint="choose another --plot") from None
    click.echo(f"drew {file}", err=True)


def _show(market: MarketFigures) -> None:
    held = market.concentration
    click.echo(f"{market.name} ({market.model.hex()[:12]}), {market.precision}")
    print_facts(
        {
            "  offers": f"{market.offers} by {market.operators} keys; {market.free_places} places free",
            "  capacity": f"{market.capacity / 1000:g} tokens/s through the scarcest block, each session alone",
            "  not served": _ranges(market.uncovered) or "no block: there is a way through all",
            "  concentration": "nobody serves" if held.hhi is None else f"HHI {held.hhi}; {held.hold_half} hold half",
        }
    )
    print_table(
        ("blocks", "tokens/s", "asked for"),
        [
            [f"{start}:{end}", f"{market.supply[start] / 1000:.2f}", f"{market.demand[start] / 1000:.2f}"]
            for start, end in _runs(market)
        ],
    )
    print_table(
        ("where or what for", "offers", "in $/1M", "median", "out $/1M", "median"),
        [
            [each.name, str(each.offers), *map(money, (each.low_in, each.median_in, each.low_out, each.median_out))]
            for each in (*market.by_place, *market.by_class)
        ],
    )
    click.echo()


def _runs(market: MarketFigures) -> list[tuple[int, int]]:
    """Blocks that are served and asked for alike, next to one another."""
    runs: list[tuple[int, int]] = []
    for block in range(market.blocks):
        same = runs and all(each[block] == each[block - 1] for each in (market.supply, market.demand))
        runs[-1:] = [(runs[-1][0], block + 1)] if same else [*runs[-1:], (block, block + 1)]
    return runs


def _ranges(blocks: tuple[int, ...]) -> str:
    """Block numbers as spans."""
    spans: list[list[int]] = []
    for block in blocks:
        if spans and spans[-1][1] == block:
            spans[-1][1] = block + 1
        else:
            spans.append([block, block + 1])
    return ", ".join(f"{start}:{end}" for start, end in spans)
