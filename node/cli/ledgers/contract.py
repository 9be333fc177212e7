"""`joule contract`: put the settlement contract on an EVM chain, look at one, check that it is what it should be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from node.cli.terminal.options import configured, examples, json_option, passphrase_option, unlocked
from node.cli.terminal.output import money, print_facts, print_json
from node.config import ClientConfig
from protocol.errors import ConfigurationError, InvalidError
from protocol.identity.ids import Address, checksum_address, parse_address

if TYPE_CHECKING:
    from node.settlement.deployment import ContractFacts
    from node.settlement.rpc import ChainRpc
    from node.venue_address import VenueAddress

T = TypeVar("T")
DAY_S = 86_400


def _parse_token(_ctx: click.Context, _parameter: click.Parameter, text: str) -> Address:
    return _read(parse_address, text)


def _parse_venue(_ctx: click.Context, _parameter: click.Parameter, text: str) -> VenueAddress:
    from node.venue_address import parse_venue

    return _read(parse_venue, text)


def _read(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except InvalidError as error:
        raise ConfigurationError(error.message, hint=error.hint) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """A settlement contract on a chain."""

    venue: str
    """``evm:CHAIN_ID:CONTRACT@URL``: chain, contract and the node that was asked."""
    token: bytes
    """The ERC-20 token that it counts in."""
    scale: int
    """Units of the token in a micro-unit."""
    grace_s: int
    """Seconds after a session's expiry in which vouchers are redeemed."""
    unbonding_s: int
    """Seconds that a stake waits before it is free."""
    burned: int
    """Micro-units that penalties took from everybody."""
    balance: int
    """Micro-units in tokens that lie in it."""
    block: int
    """Number of the block that this is read at."""
    verified: bool
    """Whether its code was compared with this version's, and is the same."""


@click.group(
    epilog=examples("joule contract verify evm:8453:0x5FbDB2315678afecb367f032d93F642f64180aa3@http://127.0.0.1:8545")
)
def contract() -> None:
    """The settlement contract, on an EVM chain."""


@contract.command(
    epilog=examples(
        "joule contract deploy --rpc http://127.0.0.1:8545 --token 0x5FbDB2315678afecb367f032d93F642f64180aa3"
    )
)
@click.option("--rpc", required=True, metavar="URL", help="Where a node of the chain answers JSON-RPC.")
@click.option(
    "--token",
    required=True,
    metavar="ADDRESS",
    callback=_parse_token,
    help="The ERC-20 token to count in, of 6 or 18 decimals.",
)
@click.option(
    "--grace",
    "grace_s",
    default=3 * DAY_S,
    show_default=True,
    type=click.IntRange(0, 10**9),
    help="Seconds after expiry in which vouchers are redeemed.",
)
@click.option(
    "--unbonding",
    "unbonding_s",
    default=7 * DAY_S,
    show_default=True,
    type=click.IntRange(0, 10**9),
    help="Seconds that a stake waits before it is free.",
)
@configured(ClientConfig, only=("confirmations", "max_gas_price", "key", "data_dir"))
@passphrase_option
@json_option
def deploy(
    config: ClientConfig,
    rpc: str,
    token: Address,
    grace_s: int,
    unbonding_s: int,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Put a settlement contract on a chain. Your key pays the gas; nothing about it can be changed later."""
    from node.settlement import deployment
    from node.settlement.sending import sender_for
    from node.venue_address import VenueAddress

    key = unlocked(config, passphrase_file)

    async def act(chain: ChainRpc) -> ContractFacts:
        folder, most = config.data_dir / "chains", config.max_gas_price_wei
        async with sender_for(chain, folder, confirmations=config.confirmations, most_gas_price=most) as sender:
            made = await deployment.deploy(chain, sender, key, token=token, grace_s=grace_s, unbonding_s=unbonding_s)
        return await deployment.verify(chain, made)

    said = _with_chain(rpc, act)
    _show(VenueAddress(said.contract, rpc), said, verified=True, as_json=as_json)


@contract.command(
    epilog=examples("joule contract status evm:8453:0x5FbDB2315678afecb367f032d93F642f64180aa3@http://127.0.0.1:8545")
)
@click.argument("venue", metavar="CONTRACT", callback=_parse_venue)
@json_option
def status(venue: VenueAddress, as_json: bool) -> None:
    """Show what a settlement contract fixed for good, and what it holds."""
    from node.settlement import deployment

    _show(
        venue,
        _with_chain(venue.url, lambda chain: deployment.facts(chain, venue.contract)),
        verified=False,
        as_json=as_json,
    )


@contract.command(
    epilog=examples("joule contract verify evm:8453:0x5FbDB2315678afecb367f032d93F642f64180aa3@http://127.0.0.1:8545")
)
@click.argument("venue", metavar="CONTRACT", callback=_parse_venue)
@json_option
def verify(venue: VenueAddress, as_json: bool) -> None:
    """Compare the code at an address with this version's contract, byte by byte."""
    from node.settlement import deployment

    _show(
        venue,
        _with_chain(venue.url, lambda chain: deployment.verify(chain, venue.contract)),
        verified=True,
        as_json=as_json,
    )


def _with_chain(url: str, act: Callable[[ChainRpc], Awaitable[T]]) -> T:
    from node.settlement.rpc import ChainRpc

    async def run() -> T:
        async with ChainRpc(url) as chain:
            return await act(chain)

    return asyncio.run(run())


def _show(venue: VenueAddress, said: ContractFacts, *, verified: bool, as_json: bool) -> None:
    shown = Contract(
        venue=str(venue),
        token=said.token,
        scale=said.scale,
        grace_s=said.grace_s,
        unbonding_s=said.unbonding_s,
        burned=said.burned,
        balance=said.balance,
        block=said.block,
        verified=verified,
    )
    if as_json:
        print_json(shown)
        return
    print_facts(
        {
            "contract": shown.venue,
            "token": f"{checksum_address(said.token)}, {said.scale} of its units in a micro-unit",
            "grace": f"{said.grace_s} s",
            "unbonding": f"{said.unbonding_s} s",
            "holds": f"${money(said.balance)}, of which ${money(said.burned)} nobody can have any more",
            "code": "is this version's, byte by byte" if verified else "not compared: joule contract verify",
            "at block": str(said.block),
        }
    )
