"""How results are printed: tables for people, JSON for programs."""

from __future__ import annotations

import errno
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from node.cli.terminal.logs import follow_logs
from node.config import AnchorConfig, ClientConfig, LedgerConfig, NodeConfig, WitnessConfig
from node.events import Event, Level
from node.json_values import plain
from node.screen import json_text, screen_line

__all__ = ["EventPrinter", "money", "print_facts", "print_json", "print_table", "tell"]

_STYLES: dict[Level, dict[str, Any]] = {
    Level.DEBUG: {"dim": True},
    Level.INFO: {},
    Level.WARNING: {"fg": "yellow"},
    Level.ERROR: {"fg": "red", "bold": True},
}


def print_json(value: Any) -> None:
    """One JSON document on stdout: the fields of `value`, or of each in a list (`json_values.plain`)."""
    click.echo(json_text(plain(value), indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table: ruled and coloured on a terminal, plain columns elsewhere. Numbers stand right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    terminal = sys.stdout.isatty()
    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(re.fullmatch(r"-?\d+(\.\d+)?( s)?|\?", row[index]) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(screen_line, row))
    Console(highlight=False, markup=False, width=None if terminal else 240).print(table)


def print_facts(facts: Mapping[str, str]) -> None:
    """Names and values, aligned."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {screen_line(value)}")


def money(micro: int) -> str:
    """Micro-units as people read them: at least two places, and as many as there are."""
    sign, units, rest = ("-" if micro < 0 else ""), *divmod(abs(micro), 1_000_000)
    places = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{units}.{places}"


def tell(
    config: NodeConfig | LedgerConfig | ClientConfig | WitnessConfig | AnchorConfig,
    *,
    as_json: bool = False,
    err: bool = False,
    before: Callable[[], None] | None = None,
) -> EventPrinter:
    """A printer of events at the configured level, which libraries' logs follow too; the rest as `EventPrinter`."""
    level = Level.of(config.log_level)
    as_json = as_json or getattr(config, "log_format", "text") == "json"
    follow_logs(level, as_json=as_json)
    return EventPrinter(level, as_json=as_json, err=err, before=before)


class EventPrinter:
    """Prints what a process tells: a line each for people, or a JSON object each for programs.

    Args:
        level: events below it are left out; it may be changed at any time.
        err: whether to print on stderr, where stdout is for results.
        before: called before each line.
    """

    def __init__(
        self, level: Level, *, as_json: bool = False, err: bool = False, before: Callable[[], None] | None = None
    ) -> None:
        self.level = level
        self._before = before
        self._as_json = as_json
        self._err = err
        self._gone = False

    def follow(self, config: NodeConfig | LedgerConfig | ClientConfig | WitnessConfig | AnchorConfig) -> None:
        """Take over a level that has changed while the service runs."""
        self.level = Level.of(config.log_level)
        follow_logs(self.level, as_json=self._as_json)

    def __call__(self, event: Event) -> None:
        if event.level < self.level or self._gone:
            return
        try:
            if self._before is not None:
                self._before()
            click.echo(_event_json(event) if self._as_json else _event_line(event), err=self._err)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._gone = True  # the terminal was closed, which is no reason for a service to end


def _event_json(event: Event) -> str:
    return json_text({"time": int(time.time()), "event": event.name, "level": event.level.word, **event.to_json()})


def _event_line(event: Event) -> str:
    """Coloured by level; `click.echo` takes the colour away where there is no terminal."""
    line = f"{time.strftime('%H:%M:%S')}  {event.level.word:<7}  {screen_line(event.sentence())}"
    return click.style(line, **_STYLES[event.level])
