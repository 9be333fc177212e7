"""`joule status`: what runs here, what the keys have, what is open, what needs attention."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from node.cli.accounts.money import local_time
from node.cli.terminal.options import configured, examples, json_option
from node.cli.terminal.output import money, print_facts, print_json, print_table
from node.cli.terminal.running import run_job
from node.config import ClientConfig
from protocol.identity.ids import checksum_address

if TYPE_CHECKING:
    from node.app.diagnosis.status import HereSession, Status
    from node.app.process.services import Service

_STARTED = {
    "ledger": ("url",),
    "gateway": ("url",),
    "witness": ("url",),
    "anchor": ("peer",),
    "watchtower": ("paths",),
}
"""What is told of a service that is ready, by what it said then."""


@click.command(epilog=examples("joule status", "joule status --json"))
@configured(ClientConfig, only=("ledger", "data_dir"))
@json_option
def status(config: ClientConfig, as_json: bool) -> int:
    """Show what runs on this machine, what its keys have, which sessions are open, and what needs attention.

    It needs no settings and no passphrase, and changes nothing. Without --ledger it asks the ledger of a service that
    runs here. `joule doctor` looks deeper.
    """
    from node.app.diagnosis.status import status_of

    found, ended = run_job(status_of(config))
    if as_json:
        print_json(found)
        return ended
    ledger = found.ledger + ("" if found.answers else " (no answer)")
    print_facts({"data": found.data_dir, "ledger": ledger, "receipts": str(found.receipts)})
    for title, columns, rows, none in _tables(found):
        click.echo(f"\n{title}" if rows else f"\n{none}")
        if rows:
            print_table(columns, rows)
    return ended


def _tables(found: Status) -> Iterator[tuple[str, tuple[str, ...], list[list[str]], str]]:
    """Title, columns and rows of each table, and what is said where there are no rows."""
    services = [[each.service, str(each.process), _since(each.since), _doing(each)] for each in found.services]
    yield "Running here", ("service", "process", "for", "what"), services, "Nothing runs here."
    keys = [[each.name, _account(each.address), _money(each.free), _money(each.bond)] for each in found.keys]
    yield "Keys", ("key", "account", "free $", "at stake $"), keys, "No keys: joule key new"
    sessions = [_session(each) for each in found.sessions]
    columns = ("session", "key", "", "held $", "expires")
    yield "Open sessions", columns, sessions, "No open sessions."
    warnings = [[each.level, each.what, each.detail, each.fix] for each in found.warnings]
    yield "Warnings", ("", "what", "found", "what to do"), warnings, "No warnings."


def _session(each: HereSession) -> list[str]:
    key = f"{checksum_address(each.address)[:10]}…"
    return [each.session.hex()[:12], key, each.side, _money(each.held), local_time(each.expires_at)]


def _account(address: bytes | None) -> str:
    return "?" if address is None else checksum_address(address)


def _money(micro: int | None) -> str:
    return "?" if micro is None else money(micro)


def _since(at: int) -> str:
    seconds = max(0, int(time.time()) - at)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _doing(service: Service) -> str:
    ready: dict[str, Any] | None = service.ready
    if ready is None:
        return "starting"
    if service.service == "node":
        return f"blocks {ready.get('blocks')} of {ready.get('model')}, for {service.ledger}"
    said = " ".join(str(ready[name]) for name in _STARTED.get(service.service, ()) if name in ready)
    return f"{said}, for {service.ledger}" if service.ledger else said
