"""`joule bench`: what this machine makes of a model, before anybody is asked to pay for it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.terminal.options import configured, examples, json_option
from node.cli.terminal.output import money, print_json, print_table
from node.cli.terminal.running import run_job
from node.config import NodeConfig
from node.events import unheard

if TYPE_CHECKING:
    from node.app.selling.benched import BenchedModel, BenchedNode, Pace
    from protocol.market.pricing import Supply

__all__ = ["bench", "markdown"]

METER = (
    "meter", "meter_url", "meter_path", "meter_unit", "meter_command", "meter_error", "joules_per_token",
    "watts_per_core", "device_watts", "device_tflops", "device_gb_per_s", "threads",
)  # fmt: skip
PRICES = (
    "energy_price", "pue", "carbon_g_per_kwh", "carbon_price", "tariff", "overhead_price", "margin", "margin_policy",
    "capital_price", "hardware_price", "target_use", "data_dir",
)  # fmt: skip


def _whole_numbers(_context: click.Context, _option: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        found = tuple(dict.fromkeys(int(each) for each in text.split(",")))
    except ValueError:
        found = ()
    if not found or not all(0 < each <= 256 for each in found):
        raise click.BadParameter("give numbers from 1 to 256 with commas between them, such as 1,8,32")
    return found


batches_option = click.option(
    "--batches", default="1,8,32", show_default=True, callback=_whole_numbers, metavar="LIST", help="Sessions at once."
)
context_option = click.option(
    "--context", type=click.IntRange(1, 65_536), default=256, show_default=True, help="Positions that each session has."
)
seconds_option = click.option(
    "--seconds",
    type=click.FloatRange(0, 600),
    default=2.0,
    show_default=True,
    help="How long each kind of work is repeated; a meter may need longer.",
)


@click.group(epilog=examples("joule bench model ./model", "joule bench node --model ./model --energy-price 0.30"))
def bench() -> None:
    """What this machine makes of a model: tokens, joules, worth, and what it would earn."""


@bench.command(
    epilog=examples(
        "joule bench model ./model",
        "joule bench model ./model --precisions fp32,int8 --batches 1,16 --plot worth.svg",
        "joule bench model ./model --meter shelly --meter-url http://192.168.1.20 --json",
    )
)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@configured(NodeConfig, only=METER, unused={"model": "."})
@click.option("--precisions", default="", metavar="LIST", help="Such as fp32,int8.  [default: all that can be had]")
@batches_option
@context_option
@seconds_option
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.svg", help="Draw the table, too."
)
@json_option
def model(
    directory: Path,
    config: NodeConfig,
    precisions: str,
    batches: tuple[int, ...],
    context: int,
    seconds: float,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure the whole model in DIR: how good, how fast and how thrifty it is in each precision.

    It answers 66 questions that come with joulemesh, each by choosing among four answers, and reads a text: accuracy,
    perplexity, and how far its expectations are from fp32's. Then it is timed and metered, by numbers of sessions in a
    pass. Accuracy times tokens per kWh is what a kilowatt-hour buys. int8 and int4 are made of a model in floating
    point, and thrown away afterwards. Prints Markdown.
    """
    from node.app.selling.benchmark import bench_model
    from node.cli.selling.bench_plot import draw, require_svg

    if plot is not None:
        require_svg(plot)
    chosen = [each.strip() for each in precisions.split(",") if each.strip()]
    found = bench_model(config, directory, precisions=chosen, batches=batches, context=context, least_s=seconds)
    if plot is not None:
        draw(plot, found)
    if as_json:
        print_json(found)
    else:
        click.echo(markdown(found))


@bench.command(
    epilog=examples(
        "joule bench node --model ./model --energy-price 0.30",
        "joule bench node --config node.toml --batches 1,16 --json",
    )
)
@configured(NodeConfig, only=("model", "blocks", "kv_tokens", *METER, *PRICES))
@batches_option
@context_option
@seconds_option
@json_option
def node(config: NodeConfig, batches: tuple[int, ...], context: int, seconds: float, as_json: bool) -> int:
    """Find out what this machine sells best: precision, blocks and batch, at what power costs here now.

    An offer's price goes by a session alone, so that it can be kept; what is served beside others costs less, and the
    difference is earned. Each line is a product with so many sessions at once: what its offer would ask by these
    settings, and what an hour of it would bring and cost. The best is the first. Whether anybody comes, and what others
    ask, joule market shows.
    """
    from node.app.selling.benchmark import bench_node

    supply, status = run_job(_supply(config))
    found = bench_node(config, supply, batches=batches, context=context, least_s=seconds)
    if as_json:
        print_json(found)
    else:
        _tell(found)
    return status


async def _supply(config: NodeConfig) -> Supply:
    from node.app.selling.power import power_of

    followed = await asyncio.to_thread(power_of, config, unheard)
    await followed.supply.begin()
    return followed.supply.supply


def markdown(found: BenchedModel) -> str:
    """The table, for a README."""
    lines = [
        f"# {found.name}",
        "",
        f"{found.device}; joules by {found.meter}; {found.context} positions a session.",
        "",
        "| precision | weights | KV of 1,000 positions | right (95 %) | perplexity | from fp32 | same first | prompt |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in found.precisions:
        worth = each.worth
        lines.append(
            f"| {each.precision} | {each.weight_bytes / 1e6:,.1f} MB | {each.kv_bytes / 1e3:,.1f} MB "
            f"| {worth.right} of {worth.questions} ({worth.low_ppm / 1e4:.0f} to {worth.high_ppm / 1e4:.0f} %) "
            f"| {worth.perplexity_milli / 1000:.2f} | {_nats(worth.divergence_micronats)} "
            f"| {_share(worth.agreement_ppm)} | {each.milli_prompt_tokens_per_s / 1000:,.0f} tokens/s |"
        )
    lines += [
        "",
        "| precision | sessions | tokens/s | J a token | tokens a kWh | accuracy x tokens a kWh |",
        "|---|---|---|---|---|---|",
    ]
    for each in found.precisions:
        for pace in each.paces:
            lines.append(
                f"| {each.precision} | {pace.batch} | {pace.milli_tokens_per_s / 1000:,.1f} | {_joules(pace)} "
                f"| {_count(pace.tokens_per_kwh)} | {_count(each.right_per_kwh(pace))} |"
            )
    return "\n".join(lines)


def _tell(found: BenchedNode) -> None:
    click.echo(f"{found.name} on {found.device}; joules by {found.meter}; ${money(found.micro_per_kwh)} per kWh")
    rows = []
    for each in found.products:
        pace = each.pace
        room = "" if each.sessions >= pace.batch else f" (room for {each.sessions})"
        rows.append(
            [
                each.precision,
                each.blocks,
                f"{pace.batch}{room}",
                f"{pace.milli_tokens_per_s / 1000:.1f}",
                _joules(pace),
                f"{each.offered_microjoules / 1e6:.4g}",
                money(each.ask),
                money(each.takings),
                "?" if each.profit is None else money(each.profit),
            ]
        )
    print_table(
        ("sold", "blocks", "sessions", "tokens/s", "J a token", "J offered", "$/1M asked", "$/h taken", "$/h earned"),
        rows,
    )


def _joules(pace: Pace) -> str:
    return "?" if pace.microjoules is None else f"{pace.microjoules / 1e6:.4g}"


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _nats(value: int | None) -> str:
    return "" if value is None else f"{value / 1e6:.4f} nats"


def _share(value: int | None) -> str:
    return "" if value is None else f"{value / 1e4:.1f} %"
