"""Offers as they come and go: a table that changes on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from node.json_values import plain
from node.screen import json_text, screen_line

if TYPE_CHECKING:
    from node.app.buying.client import Client
    from protocol.market.offer import Offer, OfferKey

__all__ = ["Change", "changes", "watch"]

LOOK_S = 1.0
"""Between looks, where nothing is heard: offers expire."""
CALM_S = 0.25
"""After a look: many offers come at once."""
SILENCE_S = 5.0
"""Without any offer, after which peers and the ledger are asked for theirs."""

Shown = Callable[["Sequence[Offer]"], None]


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one offer."""

    kind: str
    """``new``, ``changed`` or ``gone``."""
    offer: Offer


def changes(before: Mapping[OfferKey, Offer], now: Mapping[OfferKey, Offer]) -> list[Change]:
    """What is new, says other things than before, or is gone; an offer that was only sent again is none of these."""
    found = [Change("new", now[key]) for key in now if key not in before]
    found += [Change("changed", now[key]) for key in now if key in before and _said(now[key]) != _said(before[key])]
    return found + [Change("gone", before[key]) for key in before if key not in now]


def _said(offer: Offer) -> Offer:
    return offer.replace(sequence=0, issued_at=0, expires_at=0)


async def watch(client: Client, show: Shown) -> None:
    """Show the offers that are heard, whenever they change and once a second, until cancelled."""
    network, _ = await client.join()
    silent_s = time.monotonic()
    while True:
        found = network.book.offers()
        show(found)
        if found:
            silent_s = time.monotonic()
        elif time.monotonic() - silent_s > SILENCE_S:
            silent_s = time.monotonic()
            await asyncio.gather(network.ask_books(), network.ask_ledger(client.ledger))
        await asyncio.sleep(CALM_S)
        network.heard.clear()
        try:
            async with asyncio.timeout(LOOK_S):
                await network.heard.wait()
        except TimeoutError:
            continue


class Lines:
    """A line for each change; JSON objects for programs.

    Args:
        line: a few words about an offer.
        facts: what JSON has of an offer beside its fields.
    """

    def __init__(self, line: Callable[[Offer], str], facts: Callable[[Offer], dict[str, object]] | None) -> None:
        self._line = line
        self._facts = facts
        self._before: dict[OfferKey, Offer] = {}

    def __call__(self, offers: Sequence[Offer]) -> None:
        from protocol.market.offer import offer_key

        now = {offer_key(each): each for each in offers}
        for change in changes(self._before, now):
            self._print(change)
        self._before = now

    def _print(self, change: Change) -> None:
        if self._facts is not None:
            facts = {"change": change.kind, "at": int(time.time()), **self._facts(change.offer), **plain(change.offer)}
            click.echo(json_text(facts))
        else:
            said = screen_line(self._line(change.offer))
            click.echo(f"{time.strftime('%H:%M:%S')}  {change.kind:<7}  {said}")
        sys.stdout.flush()


class Live:
    """A table on a terminal, drawn over itself. A context manager."""

    def __init__(self, columns: Sequence[str], rows: Callable[[Sequence[Offer]], Iterable[Sequence[str]]]) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self._columns = columns
        self._rows = rows
        self._live = RichLive(console=Console(highlight=False, markup=False), auto_refresh=False, screen=False)

    def __enter__(self) -> Live:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, offers: Sequence[Offer]) -> None:
        from rich import box
        from rich.table import Table

        title = f"{len(offers)} offers at {time.strftime('%H:%M:%S')}; stop with Ctrl-C"
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", title=title, title_justify="left")
        for column in self._columns:
            table.add_column(column, overflow="fold")
        for row in self._rows(offers):
            table.add_row(*map(screen_line, row))
        self._live.update(table, refresh=True)
