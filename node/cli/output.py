"""How results are printed: tables for people, JSON for programs."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from node.ports import Events

__all__ = ["event_printer", "money", "per_million", "print_facts", "print_json", "print_table"]


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


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
        table.add_row(*row)
    Console(highlight=False, markup=False, width=None if terminal else 240).print(table)


def print_facts(facts: Mapping[str, str]) -> None:
    """Names and values, aligned."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {value}")


def money(micro: int) -> str:
    """Micro-units as people read them: at least two places, and as many as there are."""
    sign, units, rest = ("-" if micro < 0 else ""), *divmod(abs(micro), 1_000_000)
    places = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{units}.{places}"


def per_million(micro: int) -> str:
    """A price per million tokens."""
    return f"${money(micro)}/1M"


def event_printer(as_json: bool, *, err: bool = False) -> Events:
    """Prints what a running service tells: a line with the time each, or a JSON object each."""
    show: Callable[[str, Mapping[str, Any]], str] = _event_json if as_json else _event_line

    def print_event(name: str, details: Mapping[str, Any]) -> None:
        click.echo(show(name, details), err=err)

    return print_event


def _event_json(name: str, details: Mapping[str, Any]) -> str:
    return json.dumps({"time": int(time.time()), "event": name, **details}, ensure_ascii=False, default=str)


def _event_line(name: str, details: Mapping[str, Any]) -> str:
    shown = "  ".join(f"{key}={_short(value)}" for key, value in details.items() if value is not None)
    return f"{time.strftime('%H:%M:%S')}  {name:<18}  {shown}".rstrip()


def _short(value: Any) -> str:
    """A value on one line; ids in hex are cut, as the JSON form has them whole."""
    text = str(value)
    if len(text) == 64 and all(digit in "0123456789abcdef" for digit in text):
        return text[:12] + "..."
    return text if text.isprintable() else repr(text)
