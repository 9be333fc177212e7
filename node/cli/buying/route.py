"""`joule route`: which way a job would take now, and why not another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.buying.route_picture import bars, svg
from node.cli.terminal.options import configured, examples, json_option
from node.cli.terminal.output import money, print_facts, print_json, print_table, tell
from node.cli.terminal.running import run_job
from node.config import ClientConfig
from protocol.errors import LocalError

if TYPE_CHECKING:
    from node.app.buying.planned import Backup, PassedOver, PlannedRoute

MOST_PROMPT = 1 << 20
MOST_BACKUPS = 8


@click.command(
    epilog=examples(
        "joule route",
        "joule route --explain --allow EU --latency-class voice",
        "joule route --prompt-tokens 2000 --max-price-out 2 --json",
        "joule route --backups 2",
        "joule route --svg route.svg",
    )
)
@configured(ClientConfig)
@click.option("--model", metavar="NAME|ROOT", help="The model to use; needed where several are on offer.")
@click.option(
    "--prompt-tokens",
    type=click.IntRange(1, MOST_PROMPT),
    default=100,
    show_default=True,
    help="Length of the prompt to plan for.",
)
@click.option(
    "--backups",
    type=click.IntRange(0, MOST_BACKUPS),
    default=0,
    show_default=True,
    help="Whole routes to show besides, each of other providers.",
)
@click.option("--explain", is_flag=True, help="Say of every other offer why it is not taken.")
@click.option(
    "--svg",
    "picture",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw the route and the offers beside it.",
)
@json_option
def route(
    config: ClientConfig,
    model: str | None,
    prompt_tokens: int,
    backups: int,
    explain: bool,
    picture: Path | None,
    as_json: bool,
) -> int:
    """Show the best route for a job on the offers of now: its legs, what they cost and take, and who could stand in.

    The nodes that might be used are asked whether they answer; nothing is reserved and nothing is paid. Prices are $
    per million tokens. With --json there is always a reason for each offer that is not taken.
    """
    found, status = run_job(_plan(config, model, prompt_tokens, backups, explain and not as_json))
    if picture is not None:
        try:
            picture.write_text(svg(found), encoding="utf-8")
        except OSError as error:
            raise LocalError(f"the picture cannot be written to {picture}: {error.strerror}") from None
    if as_json:
        print_json(found)
    else:
        _print(found, explain=explain)
    return status


async def _plan(
    config: ClientConfig, model: str | None, prompt_tokens: int, backups: int, explain: bool
) -> PlannedRoute:
    from node.app.buying.client import open_client
    from node.app.buying.planned import planned, why_not
    from node.app.buying.request import Request
    from protocol.routing.routes import NoRouteError

    request = Request(prompt=(0,) * prompt_tokens, model=model, backups=backups)
    async with open_client(config, None, tell(config, err=True)) as client:
        try:
            return planned(*await client.route(request))
        except NoRouteError as error:
            if explain and error.explanations:
                _print_passed_over(why_not(error.explanations))
            raise


def _print(found: PlannedRoute, *, explain: bool) -> None:
    print_table(
        ("leg", "blocks", "provider", "where", "in $/1M", "out $/1M", "ms/token", "ms away", "could take over"),
        [
            [
                str(number),
                leg.blocks,
                leg.provider,
                " ".join((leg.region or leg.jurisdiction, *leg.places)),
                money(leg.price_in_micro),
                money(leg.price_out_micro),
                f"{leg.position_us / 1000:.1f}",
                "?" if leg.round_trip_us is None else f"{leg.round_trip_us / 1000:.1f}",
                " ".join(leg.standbys) or "nobody",
            ]
            for number, leg in enumerate(found.legs)
        ],
    )
    click.echo()
    for line in bars(found):
        click.echo(line)
    click.echo()
    first = "unknown" if found.first_token_us is None else f"{found.first_token_us / 1000:.0f} ms at most"
    print_facts(
        {
            "model": f"{found.model} ({found.root[:12]})",
            "price": f"{money(found.price_in_micro)} in, {money(found.price_out_micro)} out $/1M",
            "first token": first,
            "each token": f"{found.token_us / 1000:.1f} ms",
            "proof": "no route within the limits is cheaper"
            if found.gap_micro == 0
            else f"no route within the limits is cheaper by more than {money(found.gap_micro)}",
        }
    )
    if found.backups:
        click.echo()
        _print_backups(found.backups)
    if explain:
        click.echo()
        _print_passed_over(found.not_taken)
    elif found.not_taken:
        click.echo(f"\n{len(found.not_taken)} other offers; --explain says why they are not taken")


def _print_backups(backups: tuple[Backup, ...]) -> None:
    print_table(
        ("backup", "in $/1M", "out $/1M", "ms/token", "by"),
        [
            [
                str(number),
                money(each.price_in_micro),
                money(each.price_out_micro),
                f"{each.token_us / 1000:.1f}",
                " ".join(f"{blocks}@{who}" for blocks, who in zip(each.blocks, each.providers, strict=True)),
            ]
            for number, each in enumerate(backups, 1)
        ],
    )


def _print_passed_over(offers: tuple[PassedOver, ...]) -> None:
    print_table(
        ("not taken", "where", "blocks", "code", "why"),
        [[each.provider, each.jurisdiction, each.blocks, each.code, each.reason] for each in offers],
    )
