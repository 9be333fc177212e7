"""`joule balance`, `reclaim`, `faucet` and `withdraw`: an account on the ledger."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.terminal.options import configured, examples, json_option, key_file, passphrase_option, unlocked
from node.cli.terminal.output import money, print_json, tell
from node.cli.terminal.running import run_job
from node.config import ClientConfig
from node.settings.kinds import Fixed
from protocol.encoding.codec import shape_of
from protocol.errors import ConfigurationError, InvalidError, KeystoreError
from protocol.identity.ids import Address, Name, checksum_address, parse_address

if TYPE_CHECKING:
    from node.app.buying.client import Client
    from node.app.settlement.venue import Moved
    from node.pipeline.buying.reclaim import OpenSession
    from protocol.identity.signing import SigningKey
    from protocol.settlement import Account

_AMOUNT = Fixed("$", 6, "0.000001", "1000000000")
ACCOUNT = ("ledger", "confirmations", "max_gas_price", "key", "data_dir", "log_level")
"""Settings of a command about an account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What an account has."""

    address: bytes
    """Whose it is."""
    free: int
    """Micro-units that it can spend, proven against the ledger's checkpoint."""
    held: int
    """Micro-units that unfinished sessions, opened from here, still hold."""
    held_until: int | None
    """Unix seconds from which all of that can be had back; null where nothing is held."""
    bond: int
    """Micro-units at stake."""
    unbonding: int
    """Micro-units on their way out of the stake."""
    unlock_at: int | None
    """Unix seconds from which those can be freed; null where there are none."""
    nonce: int
    """Operations of this account that the ledger has taken down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reclaimed:
    """What came back from expired sessions."""

    address: bytes
    """Whose it is."""
    returned: int
    """Micro-units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedMoney:
    """Money that went into or out of the ledger."""

    entry: str
    """Where the ledger says so: the index of its entry; of a contract, the transaction's hash."""
    time: int
    """Of that, Unix seconds."""
    free: dict[str, int]
    """Micro-units that each account in it has free after it, by address."""
    earlier: bool
    """Whether an earlier call, which ended before it told, had asked for this: both together count once."""


def parse_amount(_ctx: click.Context, _parameter: click.Parameter, text: str) -> int:
    """Micro-units of an amount in $ on the command line. Raises ConfigurationError."""
    try:
        return _AMOUNT.parse(text)
    except ValueError as error:
        raise ConfigurationError(str(error), hint="write an amount like 2.50") from None


def _parse_reference(_ctx: click.Context, _parameter: click.Parameter, text: str) -> str:
    try:
        shape_of(Name).check(text)
    except InvalidError as error:
        raise ConfigurationError(f"--reference: {error.message}", hint="write it shorter, on one line") from None
    return text


def _parse_address(text: str) -> Address:
    try:
        return parse_address(text)
    except InvalidError as error:
        raise ConfigurationError(error.message, hint=error.hint) from None


@click.command(epilog=examples("joule balance", "joule balance 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed --json"))
@click.argument("address", metavar="[ADDRESS]", required=False)
@configured(ClientConfig, only=ACCOUNT)
@json_option
def balance(config: ClientConfig, address: str | None, as_json: bool) -> int:
    """Show what an account has free, proven against the ledger's checkpoint; your own where no ADDRESS is given."""
    whose = key_file(config).address if address is None else _parse_address(address)
    if whose is None:
        raise KeystoreError(f"the key file {config.key} does not name its address", hint="import it: joule key import")
    (account, left_open), status = run_job(_balance(config, whose))
    held = sum(each.reserved_micro for each in left_open)
    back_from = max((each.back_from for each in left_open), default=None)
    if as_json:
        found = Balance(
            address=whose,
            free=account.free,
            held=held,
            held_until=back_from,
            bond=account.bond,
            unbonding=account.unbonding,
            unlock_at=account.unlock_at if account.unbonding else None,
            nonce=account.nonce,
        )
        print_json(found)
        return status
    click.echo(f"{checksum_address(whose)}  ${money(account.free)} free")
    if account.bond:
        click.echo(f"${money(account.bond)} is at stake")
    if account.unbonding:
        when = local_time(account.unlock_at)
        click.echo(f"${money(account.unbonding)} is leaving the stake; from {when} on it can be freed: joule unbond")
    if back_from is not None:
        when = local_time(back_from)
        sessions = "1 unfinished session" if len(left_open) == 1 else f"{len(left_open)} unfinished sessions"
        click.echo(f"${money(held)} is held by {sessions}; from {when} on it can be had back: joule reclaim")
    return status


@click.command(epilog=examples("joule reclaim"))
@configured(ClientConfig, only=ACCOUNT)
@passphrase_option
@json_option
def reclaim(config: ClientConfig, passphrase_file: Path | None, as_json: bool) -> int:
    """Have back what unfinished sessions still hold, once their grace has ended. `joule run` does so by itself."""
    key = unlocked(config, passphrase_file)
    returned, status = run_job(_reclaim(config, key))
    if as_json:
        print_json(Reclaimed(address=key.address, returned=returned))
    else:
        click.echo(f"${money(returned)} came back to {checksum_address(key.address)}")
    return status


@click.command(epilog=examples("joule faucet 10"))
@click.argument("amount", metavar="AMOUNT", default="1", callback=parse_amount)
@configured(ClientConfig, only=ACCOUNT)
@passphrase_option
@json_option
def faucet(config: ClientConfig, amount: int, passphrase_file: Path | None, as_json: bool) -> int:
    """Get play money, in $, on a local network whose ledger has a faucet.  [default amount: 1]"""
    key = unlocked(config, passphrase_file)
    done = f"credited ${money(amount)} to {checksum_address(key.address)}"
    return run_job(_move(config, key, lambda client: client.faucet(amount), done, as_json))[1]


@click.command(
    epilog=examples(
        "joule deposit 5 --ledger evm:8453:0x5FbDB2315678afecb367f032d93F642f64180aa3@http://127.0.0.1:8545"
    )
)
@click.argument("amount", metavar="AMOUNT", callback=parse_amount)
@configured(ClientConfig, only=ACCOUNT)
@passphrase_option
@json_option
def deposit(config: ClientConfig, amount: int, passphrase_file: Path | None, as_json: bool) -> int:
    """Pay tokens of your key's account, in $, into the settlement contract. Gas is paid in the chain's coin.

    The contract is allowed to take exactly that much. Into an embedded ledger its operator pays.
    """
    key = unlocked(config, passphrase_file)
    done = f"paid in ${money(amount)} for {checksum_address(key.address)}"
    return run_job(_move(config, key, lambda client: client.deposit(amount), done, as_json))[1]


@click.command(epilog=examples("joule withdraw 2.50 --reference 'IBAN DE02 1203 0000 0000 2020 51'"))
@click.argument("amount", metavar="AMOUNT", callback=parse_amount)
@click.option(
    "--reference",
    metavar="TEXT",
    default="",
    callback=_parse_reference,
    help="Where the money should go, for the ledger's operator; of a contract, an address, your own by default.",
)
@configured(ClientConfig, only=ACCOUNT)
@passphrase_option
@json_option
def withdraw(config: ClientConfig, amount: int, reference: str, passphrase_file: Path | None, as_json: bool) -> int:
    """Take free money, in $, out of the ledger; its operator owes it outside from then on.

    A contract pays it out itself, in its token.
    """
    key = unlocked(config, passphrase_file)
    done = f"withdrew ${money(amount)} from {checksum_address(key.address)}"
    return run_job(_move(config, key, lambda client: client.withdraw(amount, reference), done, as_json))[1]


def local_time(at: int) -> str:
    """Unix seconds as people read them."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _print_entry(done: str, entry: Moved, as_json: bool) -> None:
    if as_json:
        accounts = {checksum_address(address): account.free for address, account in entry.accounts.items()}
        print_json(MovedMoney(entry=entry.place, time=entry.time, free=accounts, earlier=entry.earlier))
    else:
        click.echo(f"{done} ({place_words(entry.place)}){earlier_words(entry)}")


def place_words(place: str) -> str:
    """Where a venue's books have something, for people."""
    return f"transaction {place}" if place.startswith("0x") else f"ledger entry {place}"


def earlier_words(moved: Moved) -> str:
    """That an earlier call had asked for the same, where one had."""
    if not moved.earlier:
        return ""
    return "\nAn earlier call, which ended before it told, had asked for this: it was done once. Call again for more."


async def _balance(config: ClientConfig, address: bytes) -> tuple[Account, list[OpenSession]]:
    from node.app.buying.client import open_client

    async with open_client(config, None, tell(config, err=True)) as client:
        return await client.balance(address), await client.open_sessions(address)


async def _reclaim(config: ClientConfig, key: SigningKey) -> int:
    from node.app.buying.client import open_client

    async with open_client(config, key, tell(config, err=True)) as client:
        return await client.reclaim()


async def _move(
    config: ClientConfig, key: SigningKey, ask: Callable[[Client], Awaitable[Moved]], done: str, as_json: bool
) -> None:
    from node.app.buying.client import open_client

    async with open_client(config, key, tell(config, err=True)) as client:
        moved = await ask(client)
        _print_entry(done, moved, as_json)
        client.told(moved)
