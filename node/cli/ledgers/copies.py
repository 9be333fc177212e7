"""`joule ledger export` and `tail`: a ledger's log as files, and as it grows."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.terminal.options import examples, json_option
from node.cli.terminal.output import money, print_facts, print_json
from node.cli.terminal.progress import counted
from node.cli.terminal.running import run_job
from node.json_values import plain
from node.screen import json_text, screen_line
from protocol.identity.ids import checksum_address

if TYPE_CHECKING:
    from node.app.settlement.copies import TailedEntry

__all__ = ["export", "tail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A log that was copied."""

    folder: str
    """Where it is."""
    origin: str
    """The log's name."""
    size: int
    """How many entries it has."""
    root: bytes
    """Of the newest checkpoint, 32 bytes."""


_key_option = click.option("--verifier-key", metavar="VKEY", help="The key that must have signed it.")


@click.command(epilog=examples("joule ledger export http://127.0.0.1:8645 copy", "joule ledger verify copy"))
@click.argument("target", metavar="URL|DATABASE")
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False))
@_key_option
@json_option
def export(target: str, folder: Path, verifier_key: str | None, as_json: bool) -> None:
    """Copy a whole log into FOLDER: its checkpoint, its tiles and its entries.

    TARGET is a ledger's URL, its SQLite file or its database URL. The copy has the paths of C2SP's tlog-tiles, so any
    web server can serve it. It is not verified here: `joule ledger verify FOLDER` does that, without the ledger. A
    folder with an earlier copy is brought up to date.
    """
    from node.app.settlement.copies import export_ledger

    found = asyncio.run(export_ledger(target, folder, verifier_key=verifier_key, progress=counted("files")))
    done = Exported(folder=str(folder), origin=found.origin, size=found.size, root=found.root)
    if as_json:
        print_json(done)
    else:
        print_facts({"log": done.origin, "entries": str(done.size), "folder": done.folder})


@click.command(epilog=examples("joule ledger tail http://127.0.0.1:8645 --follow", "joule ledger tail URL --json"))
@click.argument("url", metavar="URL")
@click.option("--from", "begin", type=click.IntRange(min=0), metavar="INDEX", help="Begin with this entry.")
@click.option("--last", type=click.IntRange(min=0), default=10, show_default=True, help="Else with so many.")
@click.option("--follow", "-f", is_flag=True, help="Go on with those that come, until it is stopped.")
@_key_option
@json_option
def tail(url: str, begin: int | None, last: int, follow: bool, verifier_key: str | None, as_json: bool) -> int:
    """Show the newest entries of a ledger's log, each proven to be in it."""
    from node.app.settlement.copies import tail_ledger

    def show(entry: TailedEntry) -> None:
        click.echo(json_text(plain(entry)) if as_json else screen_line(_line(entry)))

    _, status = run_job(tail_ledger(url, show, begin=begin, last=last, follow=follow, verifier_key=verifier_key))
    return status


def _line(entry: TailedEntry) -> str:
    taken = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.time))
    changed = ", ".join(f"{checksum_address(each.account)[:10]} has {money(each.free)}" for each in entry.accounts)
    return f"{entry.entry:>7}  {taken}  {entry.operation:<10} {checksum_address(entry.actor)[:10]}  {changed}"
