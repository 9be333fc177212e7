"""`joule stake`, `unstake` and `unbond`: money on the ledger that answers for what one signs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.accounts.money import ACCOUNT, earlier_words, local_time, parse_amount, place_words
from node.cli.terminal.options import configured, examples, json_option, passphrase_option, unlocked
from node.cli.terminal.output import money, print_json, tell
from node.cli.terminal.running import run_job
from node.config import ClientConfig
from protocol.identity.ids import checksum_address

if TYPE_CHECKING:
    from node.app.buying.client import Client
    from node.app.settlement.venue import Moved
    from protocol.identity.signing import SigningKey
    from protocol.settlement import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Staked:
    """What an account has after its stake has changed."""

    entry: str
    """Where the ledger says so: the index of its entry; of a contract, the transaction's hash."""
    time: int
    """Of that, Unix seconds."""
    address: bytes
    """Whose it is."""
    free: int
    """Micro-units that it can spend."""
    bond: int
    """Micro-units at stake."""
    unbonding: int
    """Micro-units on their way out of the stake."""
    unlock_at: int | None
    """Unix seconds from which those can be freed; null where there are none."""
    earlier: bool
    """Whether an earlier call, which ended before it told, had asked for this: both together count once."""


@click.command(epilog=examples("joule stake 5"))
@click.argument("amount", metavar="AMOUNT", callback=parse_amount)
@configured(ClientConfig, only=ACCOUNT)
@passphrase_option
@json_option
def stake(config: ClientConfig, amount: int, passphrase_file: Path | None, as_json: bool) -> int:
    """Put free money, in $, at stake: whoever proves that you signed a lie takes it from you.

    Clients with a `min_stake` do business only with providers that have as much at stake.
    """
    key = unlocked(config, passphrase_file)

    def words(mine: Account) -> str:
        return f"staked ${money(amount)}; ${money(mine.bond)} is at stake"

    return run_job(_act(config, key, lambda client: client.stake(amount), words, as_json))[1]


@click.command(epilog=examples("joule unstake 2.50"))
@click.argument("amount", metavar="AMOUNT", callback=parse_amount)
@configured(ClientConfig, only=ACCOUNT)
@passphrase_option
@json_option
def unstake(config: ClientConfig, amount: int, passphrase_file: Path | None, as_json: bool) -> int:
    """Begin to take money, in $, out of the stake. It is free after the ledger's wait, by `joule unbond`.

    All that is on its way waits anew.
    """
    key = unlocked(config, passphrase_file)

    def words(mine: Account) -> str:
        when = local_time(mine.unlock_at)
        return f"${money(mine.unbonding)} leaves the stake; from {when} on it can be freed: joule unbond"

    return run_job(_act(config, key, lambda client: client.unstake(amount), words, as_json))[1]


@click.command(epilog=examples("joule unbond"))
@configured(ClientConfig, only=ACCOUNT)
@passphrase_option
@json_option
def unbond(config: ClientConfig, passphrase_file: Path | None, as_json: bool) -> int:
    """Free what has left the stake, once the wait is over."""
    key = unlocked(config, passphrase_file)

    def words(mine: Account) -> str:
        return f"what left the stake is free; ${money(mine.free)} is free now"

    return run_job(_act(config, key, lambda client: client.unbond(), words, as_json))[1]


def _show(done: str, entry: Moved, key: SigningKey, as_json: bool) -> None:
    mine = entry.accounts[key.address]
    if as_json:
        print_json(
            Staked(
                entry=entry.place,
                time=entry.time,
                address=key.address,
                free=mine.free,
                bond=mine.bond,
                unbonding=mine.unbonding,
                unlock_at=mine.unlock_at if mine.unbonding else None,
                earlier=entry.earlier,
            )
        )
    else:
        click.echo(f"{checksum_address(key.address)}: {done} ({place_words(entry.place)}){earlier_words(entry)}")


async def _act(
    config: ClientConfig,
    key: SigningKey,
    change: Callable[[Client], Awaitable[Moved]],
    words: Callable[[Account], str],
    as_json: bool,
) -> None:
    from node.app.buying.client import open_client

    async with open_client(config, key, tell(config, err=True)) as client:
        moved = await change(client)
        _show(words(moved.accounts[key.address]), moved, key, as_json)
        client.told(moved)
