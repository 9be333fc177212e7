"""`joule ledger notice`: announce other rules for a ledger that one operates."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.accounts.money import ACCOUNT, local_time
from node.cli.terminal.options import configured, examples, json_option, passphrase_option, unlocked
from node.cli.terminal.output import print_json, tell
from node.cli.terminal.running import run_job
from node.config import ClientConfig
from node.settings.kinds import Fixed
from protocol.errors import ConfigurationError

if TYPE_CHECKING:
    from protocol.identity.signing import SigningKey
    from protocol.settlement.operations import Notice

MARGIN_S = 60
"""Beyond the ledger's notice, for clocks that differ."""
_FEE = Fixed("$ per operation", 6, "0.000001", "1")
_FAUCET_LIMIT = Fixed("$ of play money per account", 6, "0", "1000000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """Rules that will hold."""

    entry: int
    """The ledger entry that announces them."""
    effective: int
    """Unix seconds from which they hold."""
    fee: int
    """Micro-units that every operation will cost."""
    faucet_limit: int
    """Micro-units of play money for one account."""
    bond_multiple: int
    """How many times its bond vouchers may pay a provider in one period; 0 for no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What is to change; None stays."""

    fee: int | None
    faucet_limit: int | None
    bond_multiple: int | None
    days: int


def _parse(kind: Fixed, option: str, text: str | None) -> int | None:
    try:
        return None if text is None else kind.parse(text)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}", hint="write a number like 0.001") from None


@click.command(
    epilog=examples("joule ledger notice --key operator --fee 0.00001", "joule ledger notice --fee 0.00001 --days 30")
)
@click.option("--fee", metavar="NUMBER", help="$ that every operation costs.")
@click.option("--faucet-limit", metavar="NUMBER", help="$ of play money per account.")
@click.option("--bond-multiple", type=click.IntRange(0, 1_000_000), help="Times its bond that a provider is paid.")
@click.option("--days", type=click.IntRange(0, 3650), default=0, help="Announce it for longer than the ledger asks.")
@configured(ClientConfig, only=ACCOUNT)
@passphrase_option
@json_option
def notice(
    config: ClientConfig,
    fee: str | None,
    faucet_limit: str | None,
    bond_multiple: int | None,
    days: int,
    passphrase_file: Path | None,
    as_json: bool,
) -> int:
    """Announce other rules for a ledger that you operate. What is not named stays.

    They hold after the notice that the ledger was begun with, so that everyone may leave before. A newer announcement
    replaces one that does not hold yet.
    """
    wish = _Wish(
        fee=_parse(_FEE, "--fee", fee),
        faucet_limit=_parse(_FAUCET_LIMIT, "--faucet-limit", faucet_limit),
        bond_multiple=bond_multiple,
        days=days,
    )
    if (wish.fee, wish.faucet_limit, wish.bond_multiple) == (None, None, None):
        raise ConfigurationError("nothing is to change", hint="name --fee, --faucet-limit or --bond-multiple")
    key = unlocked(config, passphrase_file)
    (index, action), status = run_job(_announce(config, key, wish))
    if as_json:
        print_json(
            Announced(
                entry=index,
                effective=action.effective,
                fee=action.fee,
                faucet_limit=action.faucet_limit,
                bond_multiple=action.bond_multiple,
            )
        )
    else:
        click.echo(f"announced; it holds from {local_time(action.effective)} on (ledger entry {index})")
    return status


async def _announce(config: ClientConfig, key: SigningKey, wish: _Wish) -> tuple[int, Notice]:
    from node.app.buying.client import open_client
    from protocol.settlement.operations import Notice

    async with open_client(config, key, tell(config, err=True)) as client:
        now = int(time.time())
        log = client.log("notice")
        rules = (await log.info()).rules.at(now)
        action = Notice(
            actor=key.address,
            nonce=0,
            effective=now + max(rules.notice_s, wish.days * 24 * 3600) + MARGIN_S,
            faucet_limit=rules.faucet_limit if wish.faucet_limit is None else wish.faucet_limit,
            fee=rules.fee if wish.fee is None else wish.fee,
            bond_multiple=rules.bond_multiple if wish.bond_multiple is None else wish.bond_multiple,
        )
        return (await log.submit(action, key)).index, action
