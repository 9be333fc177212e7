"""`joule sessions`, `settle` and `watch`: the vouchers that a node keeps, and those that are watched for others."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.terminal.options import configured, examples, json_option, key_file, passphrase_option, unlocked
from node.cli.terminal.output import money, print_json, print_table, tell
from node.cli.terminal.running import run_job, serve
from node.config import ClientConfig, shared
from node.events import Level
from protocol.errors import ConfigurationError, KeystoreError
from protocol.identity.ids import Address, checksum_address

if TYPE_CHECKING:
    from node.app.daemons.watching import Watched
    from node.app.settlement.settling import HeldSession, Settling
    from node.events import Events
    from protocol.identity.signing import SigningKey

_ACCOUNT = ("ledger", "confirmations", "max_gas_price", "coin_price", "key", "data_dir", "log_level")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedVouchers:
    """What a watchtower was given."""

    folder: str
    """Where it lies."""
    vouchers: int
    """How many."""
    worth: int
    """Micro-units that they would bring this node now."""


def _parse_share(_ctx: click.Context, _parameter: click.Parameter, text: str) -> int:
    try:
        return shared.FEE_SHARE.parse(text)
    except ValueError as error:
        raise ConfigurationError(f"--fee-share: {error}", hint="write it in percent, like 5") from None


@click.group(invoke_without_command=True, epilog=examples("joule sessions", "joule sessions export ./for-the-tower"))
@click.pass_context
def sessions(context: click.Context) -> None:
    """Show the sessions that the node here was ordered in, and what its vouchers are still worth.

    Without a command this is `joule sessions list`.
    """
    if context.invoked_subcommand is None:
        context.exit(context.invoke(list_sessions))


@sessions.command("list", epilog=examples("joule sessions list --key berlin", "joule sessions list --json"))
@configured(ClientConfig, only=_ACCOUNT)
@json_option
def list_sessions(config: ClientConfig, as_json: bool) -> int:
    """List the sessions of the node with this key: client, reserve, voucher, expiry, and whether it was redeemed."""
    found, status = run_job(_list(config, _address(config)))
    if as_json:
        print_json(found)
    elif found:
        columns = ("session", "client", "reserved $", "earned $", "redeemed $", "worth now $", "expires", "redeem by")
        print_table(columns, [_row(each) for each in found])
    else:
        click.echo("no session is open here")
    return status


@sessions.command(epilog=examples("joule sessions export ./for-the-tower --key berlin"))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@configured(ClientConfig, only=_ACCOUNT)
@json_option
def export(config: ClientConfig, folder: Path, as_json: bool) -> int:
    """Write copies of the vouchers that still bring something into DIR, for `joule watch` on another machine.

    They can be redeemed by anyone, and pay nobody but you and the other nodes of their sessions. Repeat it as vouchers
    grow: files are replaced.
    """
    exported, status = run_job(_export(config, _address(config), folder))
    if as_json:
        print_json(exported)
    else:
        click.echo(f"wrote {exported.vouchers} vouchers, worth ${money(exported.worth)} now, into {folder}")
    return status


@click.command(epilog=examples("joule settle --key berlin", "joule settle --fee-share 100"))
@configured(ClientConfig, only=_ACCOUNT)
@click.option(
    "--fee-share",
    metavar="PERCENT",
    default="5",
    show_default=True,
    callback=_parse_share,
    help="Redeem where the fee is at most this part of what an operation brings.",
)
@click.option("--all", "everything", is_flag=True, help="Redeem all that brings more than it costs.")
@passphrase_option
@json_option
def settle(config: ClientConfig, fee_share: int, everything: bool, passphrase_file: Path | None, as_json: bool) -> int:
    """Redeem now what the vouchers of the node with this key are worth, up to eight in one operation.

    A node that runs does so by itself, some seconds after each job; this is for one that does not, and beside one that
    does. What is held back for its fee is redeemed at last when its session has expired.
    """
    key = unlocked(config, passphrase_file)
    done, status = run_job(_settle(config, key, fee_share, everything, tell(config, err=True)))
    if as_json:
        print_json(done)
        return status
    click.echo(f"redeemed {done.vouchers} vouchers for ${money(done.amount)}, at a fee of ${money(done.fees)}")
    if done.held_back:
        click.echo(f"{done.held_back} more are worth ${money(done.held_back_worth)}, too little for their fee for now")
    return status


@click.command(epilog=examples("joule watch ./from-berlin", "joule watch ./from-berlin --once --json"))
@click.argument("paths", type=click.Path(path_type=Path, exists=True), metavar="DIR|FILE...", nargs=-1, required=True)
@configured(ClientConfig, only=("ledger", "confirmations", "max_gas_price", "coin_price", "key", "data_dir"))
@click.option(
    "--log-level",
    type=click.Choice([level.word for level in Level]),
    default=Level.INFO.word,
    show_default=True,
    help="How much is told.",
)
@click.option(
    "--lead",
    metavar="SECONDS",
    type=click.IntRange(0, 90 * 24 * 3600),
    default=0,
    show_default=True,
    help="Settle so long before a session expires, not at its expiry, when its grace begins.",
)
@click.option("--once", is_flag=True, help="Look once, settle what is due, and end.")
@passphrase_option
@json_option
def watch(
    config: ClientConfig,
    paths: tuple[Path, ...],
    log_level: str,
    lead: int,
    once: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> int:
    """Keep watch over vouchers of other nodes, and settle those that nobody has settled when their session expires.

    DIR and FILE are what `joule sessions export` writes; folders are read anew each minute. What a voucher pays goes to
    its providers, whoever settles it; the ledger's fee is paid by you. A voucher that brings less is left alone.
    """
    key = unlocked(config, passphrase_file)
    if once:
        seen, status = run_job(_look(config, key, paths, lead, tell(config, err=True)))
        if as_json:
            print_json(seen)
        else:
            click.echo(f"settled {seen.settled} vouchers for ${money(seen.amount)}, at a fee of ${money(seen.fees)}")
            click.echo(f"{seen.vouchers} more are watched, worth ${money(seen.worth)}")
        return status
    events = tell(dataclasses.replace(config, log_level=log_level), as_json=as_json)
    serve(_watch(config, key, paths, lead, events), events=events, reload=_nothing)
    return 0


def _nothing() -> None:
    """A hangup changes nothing here: folders are read anew anyway."""


def _address(config: ClientConfig) -> Address:
    address = key_file(config).address
    if address is None:
        raise KeystoreError(f"the key file {config.key} does not name its address", hint="import it: joule key import")
    return address


async def _list(config: ClientConfig, node: Address) -> list[HeldSession]:
    from node.app.settlement.settling import held_sessions, open_ledger, read_vouchers, vouchers_folder

    async with open_ledger(config) as ledger:
        return await held_sessions(ledger, await read_vouchers(vouchers_folder(config.data_dir, node)))


async def _export(config: ClientConfig, node: Address, folder: Path) -> ExportedVouchers:
    from node.app.settlement.settling import export_vouchers, held_sessions, open_ledger, read_vouchers, vouchers_folder

    async with open_ledger(config) as ledger:
        stored = await read_vouchers(vouchers_folder(config.data_dir, node))
        held = await held_sessions(ledger, stored)
    count = export_vouchers(stored, held, folder)
    return ExportedVouchers(folder=str(folder), vouchers=count, worth=sum(each.worth for each in held))


async def _settle(config: ClientConfig, key: SigningKey, share: int, everything: bool, events: Events) -> Settling:
    from node.app.process.clock import clock
    from node.app.settlement.settling import open_ledger, settle_now

    async with open_ledger(config) as ledger:
        return await settle_now(
            ledger, config.data_dir, key, share_ppm=share, last=everything, clock=clock, events=events
        )


async def _look(config: ClientConfig, key: SigningKey, paths: tuple[Path, ...], lead: int, events: Events) -> Watched:
    from node.app.daemons.watching import Watchtower
    from node.app.process.clock import clock
    from node.app.settlement.settling import open_ledger

    async with open_ledger(config) as ledger:
        return await Watchtower(ledger, paths, key, clock, events, lead_s=lead).look()


async def _watch(config: ClientConfig, key: SigningKey, paths: tuple[Path, ...], lead: int, events: Events) -> None:
    from node.app.daemons.watching import Watchtower
    from node.app.network.presence import Presence
    from node.app.process.clock import clock
    from node.app.process.services import shown_here
    from node.app.settlement.settling import open_ledger

    with shown_here(config.data_dir, "watchtower", events, ledger=config.ledger) as shown:
        async with open_ledger(config) as ledger:
            tower = Watchtower(ledger, paths, key, clock, shown, lead_s=lead)
            await tower.run(Presence(ledger.url, shown, time.monotonic))


def _row(held: HeldSession) -> tuple[str, ...]:
    return (
        held.session.hex()[:12],
        checksum_address(held.client),
        money(held.reserved),
        money(held.promised),
        money(held.settled),
        money(held.worth),
        _moment(held.expires_at),
        _moment(held.redeem_by),
    )


def _moment(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
