"""`joule peers`: what this machine's clients and nodes remember of others."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.terminal.options import configured, examples, json_option, keystore
from node.cli.terminal.output import money, print_json, print_table, tell
from node.cli.terminal.running import run_job
from node.config import ClientConfig
from protocol.errors import ConfigurationError, InvalidError, KeystoreError
from protocol.identity.ids import Address, checksum_address, parse_address
from protocol.reputation.standing import Deed, shunned_until, why_shunned

if TYPE_CHECKING:
    from node.events import Events
    from node.peers import Acquaintance, StoredMemory

Open = Callable[["Events"], AbstractAsyncContextManager["StoredMemory"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedDeed:
    """What a peer did of one kind, within the days that are remembered."""

    deed: Deed
    """What it was."""
    count: int
    """How often."""
    amount: int
    """Micro-units that moved with it."""
    last_at: int
    """When last, Unix seconds."""
    about: str
    """Of the last one, for people; it may come from a peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedPeer:
    """One peer, and what follows from its deeds."""

    address: bytes
    """Its address."""
    deeds: tuple[RememberedDeed, ...]
    """The latest last."""
    shunned_until: int | None
    """Unix seconds until which it is done without where there is another; null where it is not."""
    why: str | None
    """Why it is, for people; null where it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was forgotten."""

    peers: int
    """How many were remembered before."""


_node_option = click.option(
    "--node",
    "node",
    metavar="KEY",
    help="What the node with this key remembers, by the key's name or address.  [default: what clients do]",
)


@click.group(invoke_without_command=True, epilog=examples("joule peers", "joule peers list --node default --json"))
@click.pass_context
def peers(context: click.Context) -> None:
    """Show what is remembered of peers: who served, who failed, and who is left out until when.

    It is counted from own jobs, kept in the data directory, and forgotten after 30 days. Without a command this is
    `joule peers list`.
    """
    if context.invoked_subcommand is None:
        context.exit(context.invoke(list_peers))


@peers.command("list", epilog=examples("joule peers list", "joule peers list --node default --json"))
@configured(ClientConfig, only=("data_dir", "log_level"))
@_node_option
@json_option
def list_peers(config: ClientConfig, node: str | None, as_json: bool) -> int:
    """List the peers that are remembered: what each did, how often, and until when it is left out."""
    found, status = run_job(_list(_opener(config, node), tell(config, err=True)))
    now = int(time.time())
    if as_json:
        print_json([_remembered(each, now) for each in found])
    elif found:
        print_table(("address", "deeds", "paid $", "last", "left out until"), [_row(each, now) for each in found])
    else:
        click.echo("nothing is remembered of any peer")
    return status


@peers.command(
    epilog=examples("joule peers forget all", "joule peers forget 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
)
@click.argument("address", metavar="ADDRESS|all")
@configured(ClientConfig, only=("data_dir", "log_level"))
@_node_option
@json_option
def forget(config: ClientConfig, address: str, node: str | None, as_json: bool) -> int:
    """Forget what is remembered of a peer, or of all: it is a newcomer again."""
    whom = None if address == "all" else _parsed(address)
    known, status = run_job(_forget(_opener(config, node), tell(config, err=True), whom))
    if as_json:
        print_json(Forgotten(peers=known))
    else:
        click.echo("forgot 1 peer" if known == 1 else f"forgot {known} peers")
    return status


def _opener(config: ClientConfig, node: str | None) -> Open:
    from node.app.network.peers import open_peers

    return partial(open_peers, config.data_dir, None if node is None else _node_address(config.data_dir, node))


def _node_address(data_dir: Path, node: str) -> Address:
    if node.startswith("0x"):
        return _parsed(node)
    found = keystore(data_dir).find(node)
    if found.address is None:
        raise KeystoreError(f"the key file {node} does not name its address", hint="give the address: --node 0x...")
    return found.address


def _parsed(text: str) -> Address:
    try:
        return parse_address(text)
    except InvalidError as error:
        raise ConfigurationError(error.message, hint=error.hint) from None


async def _list(opened: Open, events: Events) -> list[Acquaintance]:
    async with opened(events) as memory:
        return memory.acquaintances()


async def _forget(opened: Open, events: Events, whom: Address | None) -> int:
    async with opened(events) as memory:
        return await memory.forget(whom)


def _remembered(peer: Acquaintance, now: int) -> RememberedPeer:
    tallies = sorted(peer.standing.tallies.items(), key=lambda each: each[1].last_at)
    until = shunned_until(peer.standing)
    return RememberedPeer(
        address=peer.address,
        deeds=tuple(
            RememberedDeed(
                deed=deed, count=tally.count, amount=tally.amount, last_at=tally.last_at, about=peer.about[deed]
            )
            for deed, tally in tallies
        ),
        shunned_until=until if until > now else None,
        why=why_shunned(peer.standing, now),
    )


def _row(peer: Acquaintance, now: int) -> list[str]:
    shown = _remembered(peer, now)
    last = shown.deeds[-1]
    until = "" if shown.shunned_until is None else f"{_clock(shown.shunned_until)}: {last.about or shown.why}"
    return [
        checksum_address(shown.address),
        ", ".join(f"{each.deed} {each.count}" for each in shown.deeds),
        money(sum(each.amount for each in shown.deeds)),
        f"{last.deed} {_clock(last.last_at)}",
        until,
    ]


def _clock(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
