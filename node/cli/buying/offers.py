"""`joule offers`: what is for hire."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import click

from node.cli.terminal.options import configured, examples, json_option
from node.cli.terminal.output import money, print_json, print_table, tell
from node.cli.terminal.running import run_job
from node.config import ClientConfig
from node.json_values import plain

if TYPE_CHECKING:
    from protocol.market.offer import Offer


COLUMNS = (
    "model",
    "blocks",
    "precision",
    "in $/1M",
    "out $/1M",
    "J/token",
    "source",
    "where",
    "hardware",
    "room",
    "provider",
    "for",
)


@click.command(epilog=examples("joule offers", "joule offers --wait 10 --json", "joule offers --watch"))
@configured(ClientConfig, only=("ledger", "peers", "data_dir", "log_level"))
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to listen, where no model is covered sooner.",
)
@click.option(
    "--watch",
    "watched",
    is_flag=True,
    help="Go on until stopped: a table that changes, or a line for each change where there is no terminal.",
)
@json_option
def offers(config: ClientConfig, wait_s: float, watched: bool, as_json: bool) -> int:
    """Collect the offers on the network and list them, cheapest first.

    Prices are $ per million tokens through the offered blocks. Joules are per token, with where the figure comes from.
    A provider that failed this machine's jobs is left out of routes for a while, where there is another: the last
    column says so (`joule peers` says more).
    """
    if watched:
        return run_job(_watch(config, as_json))[1]
    (found, left_out), status = run_job(_collect(config, wait_s))
    found = _sorted(found)
    if as_json:
        print_json([{**_facts(offer), "left_out": left_out.get(offer.public_key), **plain(offer)} for offer in found])
    elif found:
        rows = [[*row, left_out.get(offer.public_key, "")] for row, offer in zip(_rows(found), found, strict=True)]
        print_table((*COLUMNS, "left out"), rows)
    else:
        click.echo("no offers heard; is a node running, and is --ledger or --peer the right one?", err=True)
    return status


def _sorted(found: Iterable[Offer]) -> list[Offer]:
    return sorted(found, key=lambda offer: (offer.model_name, offer.span.start, offer.span.end, offer.rates.price_out))


def _rows(found: Sequence[Offer]) -> list[list[str]]:
    shared, now = _shared_names(found), int(time.time())
    return [_row(offer, now, shared) for offer in _sorted(found)]


def _facts(offer: Offer) -> dict[str, object]:
    return {"provider": _provider(offer)}


def _line(offer: Offer) -> str:
    """An offer in a few words."""
    rates, places = offer.rates, offer.limits.sessions
    return (
        f"{_provider(offer)}  {offer.span} of {offer.blocks} of {offer.model_name}  in ${money(rates.price_in)} "
        f"out ${money(rates.price_out)} per 1M  {offer.region or offer.jurisdiction}  {places} places"
    )


async def _watch(config: ClientConfig, as_json: bool) -> None:
    from node.app.buying.client import open_client
    from node.cli.buying.offer_watch import Lines, Live, watch

    with contextlib.ExitStack() as stack:
        if as_json or not sys.stdout.isatty():
            show: Callable[[Sequence[Offer]], None] = Lines(_line, _facts if as_json else None)
        else:
            show = stack.enter_context(Live(COLUMNS, _rows))
        async with open_client(config, None, tell(config, err=True)) as client:
            await watch(client, show)


async def _collect(config: ClientConfig, wait_s: float) -> tuple[list[Offer], dict[bytes, str]]:
    """Offers, and by public key why routes do without their providers for now."""
    from node.app.buying.client import open_client

    async with open_client(config, None, tell(config, err=True)) as client:
        found = await client.offers(wait_s)
        return found, client.left_out(found)


def _provider(offer: Offer) -> str:
    from protocol.identity.ids import checksum_address
    from protocol.identity.signing import address_of_public_key

    return checksum_address(address_of_public_key(offer.public_key))


def _shared_names(found: Iterable[Offer]) -> set[str]:
    """Names that several models have: they are shown with their roots."""
    models = {(offer.model_name, offer.model) for offer in found}
    return {name for name, times in Counter(name for name, _ in models).items() if times > 1}


def _row(offer: Offer, now: int, shared: set[str]) -> list[str]:
    energy, limits, rates = offer.energy, offer.limits, offer.rates
    return [
        f"{offer.model_name} ({offer.model.hex()[:12]})" if offer.model_name in shared else offer.model_name,
        f"{offer.span} of {offer.blocks}",
        offer.precision,
        money(rates.price_in),
        money(rates.price_out),
        "?" if energy is None else f"{energy.millijoules_out / 1000:.3f}",
        "unknown" if energy is None else str(energy.source),
        offer.region or offer.jurisdiction,
        f"{offer.hardware.count} {offer.hardware.device}",
        f"{limits.context}, window {limits.window}",
        _provider(offer),
        f"{max(0, offer.expires_at - now)} s",
    ]
