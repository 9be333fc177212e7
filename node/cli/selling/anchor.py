"""`joule anchor`: time other machines, so that their place can be judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from node.cli.terminal.options import configured, examples, json_option, key_file, passphrase_option, unlocked
from node.cli.terminal.output import print_facts, print_json, tell
from node.cli.terminal.running import serve, survive_hangups
from node.config import AnchorConfig
from node.settings.law import Anchors, Ground, Place
from protocol.errors import ConfigurationError, KeystoreError
from protocol.identity.ids import checksum_address


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorLine:
    """An anchor, as clients' settings name it."""

    anchor: str
    """For `anchors` in a client's settings."""


@click.group(
    epilog=examples("joule anchor run --key anchor", "joule anchor show --at 50.11,8.68 --place DE --inside-km 100")
)
def anchor() -> None:
    """An anchor: a machine whose place is known, and which times others."""


@anchor.command(epilog=examples("joule anchor run --key anchor --listen /ip4/127.0.0.1/tcp/4005"))
@configured(AnchorConfig, again=True)
@passphrase_option
@json_option
def run(config: AnchorConfig, read: Callable[[], AnchorConfig], passphrase_file: Path | None, as_json: bool) -> None:
    """Time nodes that ask for it until stopped, and sign for how long they took.

    It sends a node numbers that nobody can guess, and takes the time until they come back signed with the node's key.
    Light comes no further in that time: so clients who know where this machine stands can tell where the node is not,
    and of one that is near, where it is.
    """
    from node.app.process.reload import Reload
    from node.app.selling.anchoring import run_anchor

    survive_hangups()
    events = tell(config, as_json=as_json)
    reload = Reload(config, read, events)
    reload.follow(events.follow)
    key = unlocked(config, passphrase_file)
    serve(run_anchor(config, key, events), events=events, reload=reload)


@anchor.command(epilog=examples("joule anchor show --key anchor --at 50.11,8.68 --place DE --inside-km 100"))
@configured(AnchorConfig, only=("key", "data_dir"))
@click.option("--at", "where", required=True, metavar="NORTH,EAST", help="Where it stands, in degrees.")
@click.option("--place", required=True, metavar="CODE", help="The country, or the part of one, that it stands in.")
@click.option(
    "--inside-km",
    type=click.IntRange(0, 5_000),
    default=0,
    show_default=True,
    metavar="KM",
    help="All land within so many km of it is that place; 0 where it can only exclude others.",
)
@json_option
def show(config: AnchorConfig, where: str, place: str, inside_km: int, as_json: bool) -> None:
    """Write the line that names this anchor in clients' settings."""
    found = key_file(config)
    if found.address is None:
        raise KeystoreError(f"the file of the key {found.name!r} does not say its address", hint="joule key import")
    try:
        north, east = Ground().parse(where).replace(" ", "").split(",")
        line = f"{checksum_address(found.address)}@{Place().parse(place)}:{north}/{east}:{inside_km}km"
        Anchors.anchor(line)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    if as_json:
        print_json(AnchorLine(anchor=line))
    else:
        print_facts({"anchor": line})
