"""The settlement venue that a setting names: an embedded ledger, or a contract on a chain. Others do not know which.

A ledger has more to it than a venue needs: a log that can be compared, replayed and cosigned, a faucet, an operator.
What asks for that asks `log_of`, and says so where there is none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

from node.app.process.clock import clock
from node.app.settlement.witnessed import witnessed_of
from node.config import ClientConfig, NodeConfig
from node.ledger import LedgerClient, Proven, TooLongAgoError
from node.ledger_address import remembered_at
from node.settlement.evm import ChainSettings, EvmVenue
from node.settlement.evm import Moved as ChainMoved
from node.venue_address import is_venue, parse_venue, shown_url
from protocol.errors import ConfigurationError, UnreachableError
from protocol.identity.signing import SigningKey
from protocol.settlement import Account, account_of
from protocol.settlement.operations import Action, Stake, Unbond, Unstake, Withdraw

__all__ = [
    "Moved",
    "Venue",
    "chain_settings_of",
    "deposit",
    "log_of",
    "of_entry",
    "open_venue",
    "peers_of",
    "refuse_contract",
    "require_log",
    "settling_patience_s",
    "shown_venue",
    "stake",
    "told",
    "unbond",
    "unstake",
    "whole",
    "withdraw",
]

AGAIN = "then give the same command again: it finds out whether this one was taken, and both together count once"
LEDGER_PATIENCE_S = 5.0
CHAIN_PATIENCE_S = 60.0

Venue: TypeAlias = LedgerClient | EvmVenue


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Money that went into or out of a venue, or a stake, by an operation that was taken."""

    place: str
    """Where the venue's books have it: a ledger's entry, or a transaction's hash."""
    time: int
    """Of that, Unix seconds."""
    accounts: Mapping[bytes, Account]
    """Every account that it is known to have changed, as it left them, by address."""
    earlier: bool = False
    """Whether an earlier call had asked for it, whose end was not told: both together count once."""
    wish: bytes = b""
    """Names what was asked of a ledger, for `told`."""


@asynccontextmanager
async def open_venue(config: ClientConfig | NodeConfig, *, ending: bool = False) -> AsyncIterator[Venue]:
    """The venue of a configuration; nobody is asked yet.

    Args:
        ending: for what only ends things, which waits for no witness.

    Raises ConfigurationError: it asks of a chain what only a ledger has.
    """
    venue = _venue(config, ending)
    try:
        yield venue
    finally:
        await venue.disconnect()


def _venue(config: ClientConfig | NodeConfig, ending: bool) -> Venue:
    if is_venue(config.ledger):
        if config.min_witnesses:
            raise ConfigurationError(
                "min_witnesses: a contract on a chain has no witnesses", hint="leave it out; see confirmations"
            )
        folder, settings = config.data_dir / "chains", chain_settings_of(config)
        return EvmVenue(parse_venue(config.ledger), folder=folder, clock=clock, settings=settings)
    remembered = remembered_at(config.data_dir, config.ledger)
    return LedgerClient(config.ledger, remembered=remembered, witnessed=None if ending else witnessed_of(config))


def chain_settings_of(config: ClientConfig | NodeConfig) -> ChainSettings:
    """How a configuration deals with a chain."""
    return ChainSettings(
        confirmations=config.confirmations,
        most_gas_price=config.max_gas_price_wei,
        coin_micro=config.coin_price_micro,
    )


def log_of(venue: Venue) -> LedgerClient | None:
    """The ledger with its log; None for a contract."""
    return venue if isinstance(venue, LedgerClient) else None


def require_log(venue: Venue, what: str) -> LedgerClient:
    """The ledger with its log. Raises ConfigurationError for a contract, which has no such thing."""
    if isinstance(venue, LedgerClient):
        return venue
    raise ConfigurationError(
        f"{what}: a contract on a chain has no such thing", code="no-twin", hint="name an embedded ledger with --ledger"
    )


def refuse_contract(target: str, what: str) -> None:
    """Raises ConfigurationError where something that only a ledger has is asked of a contract."""
    if is_venue(target):
        raise ConfigurationError(
            f"{what}: a contract on a chain has no such log", code="no-twin", hint="name an embedded ledger"
        )


def shown_venue(ledger: str) -> str:
    """A setting's venue for people: without what may be secret in the URL of a chain's node."""
    if not is_venue(ledger):
        return ledger
    venue = parse_venue(ledger)
    return f"{venue.contract}@{shown_url(venue.url)}"


async def peers_of(venue: Venue) -> tuple[str, ...]:
    """Multiaddrs of the peers that a venue names to begin with; none for a contract. Raises UnreachableError."""
    return (await venue.info()).peers if isinstance(venue, LedgerClient) else await venue.peers()


async def whole(venue: Venue, evidence: bytes | None) -> bytes | None:
    """Evidence as a receipt keeps it: of a chain, with what shows that its block holds it."""
    return evidence if evidence is None or isinstance(venue, LedgerClient) else await venue.whole(evidence)


async def settling_patience_s(venue: Venue) -> float:
    """Seconds that a node leaves a client to settle before it does so itself: on a chain that takes some blocks, and
    whoever comes second has paid gas for nothing. Raises UnreachableError.
    """
    if isinstance(venue, LedgerClient):
        return LEDGER_PATIENCE_S
    grace_s = (await venue.rules()).grace_s
    return max(LEDGER_PATIENCE_S, min(CHAIN_PATIENCE_S, grace_s / 20))


async def deposit(venue: Venue, amount_micro: int, key: SigningKey) -> Moved:
    """Pay a key's tokens into a contract. Raises ConfigurationError for a ledger, where its operator does that."""
    if isinstance(venue, LedgerClient):
        raise ConfigurationError(
            "a ledger's operator pays in, not its accounts",
            code="no-twin",
            hint="on a local network: joule faucet; to pay tokens in, name a contract with --ledger evm:...",
        )
    return _of_chain(await venue.deposit(amount_micro, key, once=True), key)


async def withdraw(venue: Venue, amount_micro: int, to: str, key: SigningKey) -> Moved:
    """Take free money out: of a ledger with a line for its operator, of a contract to an address."""
    if isinstance(venue, LedgerClient):
        action = Withdraw(actor=key.address, nonce=0, amount=amount_micro, reference=to)
        return await _once(venue, action, key)
    return _of_chain(await venue.withdrawn(amount_micro, to, key, once=True), key)


async def stake(venue: Venue, amount_micro: int, key: SigningKey) -> Moved:
    """Put free money at stake."""
    if isinstance(venue, LedgerClient):
        return await _once(venue, Stake(actor=key.address, nonce=0, amount=amount_micro), key)
    return _of_chain(await venue.stake(amount_micro, key, once=True), key)


async def unstake(venue: Venue, amount_micro: int, key: SigningKey) -> Moved:
    """Begin to take money out of the stake."""
    if isinstance(venue, LedgerClient):
        return await _once(venue, Unstake(actor=key.address, nonce=0, amount=amount_micro), key)
    return _of_chain(await venue.unstake(amount_micro, key, once=True), key)


async def unbond(venue: Venue, key: SigningKey) -> Moved:
    """Free what has left the stake."""
    if isinstance(venue, LedgerClient):
        return await _once(venue, Unbond(actor=key.address, nonce=0), key)
    return _of_chain(await venue.unbond(key, once=True), key)


async def _once(ledger: LedgerClient, action: Action, key: SigningKey) -> Moved:
    """Raises UnreachableError with what a person can do about it."""
    try:
        return of_entry(await ledger.submit_once(action, key))
    except TooLongAgoError:
        raise
    except UnreachableError as error:
        error.hint = f"{error.hint}; {AGAIN}" if error.hint else AGAIN
        raise


def told(venue: Venue, moved: Moved, key: SigningKey) -> None:
    """The person knows what became of what was asked for: asking again asks for more. Raises LocalError."""
    if isinstance(venue, LedgerClient):
        venue.told(moved.wish)
    else:
        venue.told(moved.place, key)


def of_entry(proven: Proven) -> Moved:
    """What an entry of a ledger says."""
    accounts = {effect.account: account_of(effect) for effect in proven.entry.accounts}
    return Moved(
        place=str(proven.index),
        time=proven.entry.time,
        accounts=accounts,
        earlier=proven.earlier,
        wish=proven.wish,
    )


def _of_chain(done: ChainMoved, key: SigningKey) -> Moved:
    return Moved(place=done.place, time=done.time, accounts={key.address: done.account}, earlier=done.earlier)
