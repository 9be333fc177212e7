"""What contradicts itself and is signed: kept as a file where it was seen, and brought to the venue for the stake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from node.durable import replace_file
from node.events import Events, SignedTwice
from node.ledger import LedgerClient
from node.pipeline.buying.job import JobResult
from protocol.errors import ConfigurationError
from protocol.identity.ids import Address, checksum_address
from protocol.log.fork import ForkProof, load_fork
from protocol.receipts.double_receipt import (
    MAX_DOUBLE_BYTES,
    DoubleReceipt,
    check_double,
    dump_double,
    is_double,
    load_double,
)
from protocol.settlement.accusing import accuse_leg, accuse_operator_of, operator_in

if TYPE_CHECKING:
    from node.app.buying.client import Client

__all__ = ["Conviction", "accuse", "keep_double", "read_proof"]

_SHOWN = 16
"""Digits of a session's id in a file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conviction:
    """What a penalty has moved."""

    place: str
    """Where the venue's books have it."""
    accused: Address
    """Who has lost all that it had at stake."""
    reward: int
    """Micro-units that whoever brought it was given."""
    burned: int
    """Micro-units that nobody has any more."""


def keep_double(result: JobResult, *, venue: str, folder: Path, events: Events) -> None:
    """Keep what a leg of a job has signed twice, if one has, and say so."""
    if result.twice is None:
        return
    first, second = result.twice
    session, receipt = result.deal.session, first.receipt
    name = f"{receipt.session.hex()[:_SHOWN]}-leg{receipt.leg}-window{receipt.window}.double.json"
    path: Path | None = folder / name
    double = DoubleReceipt(venue=venue, session=session, first=first, second=second)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(folder / name, dump_double(double).encode())
    except OSError:
        path = None
    events(
        SignedTwice(
            session=receipt.session,
            provider=checksum_address(session.legs[receipt.leg].provider),
            leg=receipt.leg,
            proof=str(path) if path else "",
        )
    )


def read_proof(path: Path) -> ForkProof | DoubleReceipt:
    """The proof in a file, unverified. Raises ConfigurationError where the file cannot be read, MalformedError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_DOUBLE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    return load_double(data) if is_double(data) else load_fork(data)


async def accuse(client: Client, proof: ForkProof | DoubleReceipt) -> Conviction:
    """Have the stake of whoever has signed both halves of a proof: half is the client's, half nobody's.

    Raises:
        ConfigurationError: the proof is for another venue.
        PeerError: it proves nothing.
        RuleError: the venue refuses; ``nothing-staked`` where there is nothing to take.
    """
    if isinstance(proof, ForkProof):
        return await _accuse_operator(client, proof)
    return await _accuse_leg(client, proof)


async def _accuse_leg(client: Client, double: DoubleReceipt) -> Conviction:
    venue = client.ledger
    await venue.connect()
    _require_venue(double.venue, venue.verifier_key, "it counts in another venue")
    accused = Address(check_double(double, venue.domain))
    staked = await client.balance(accused)
    penalty = staked.bond + staked.unbonding
    action = accuse_leg(double.first, double.second)
    if isinstance(venue, LedgerClient):
        entry = await venue.submit(action, client.key)
        return Conviction(place=str(entry.index), accused=accused, reward=penalty // 2, burned=entry.entry.burned)
    moved = await venue.slash(double.session, action, client.key)
    return Conviction(place=moved.place, accused=accused, reward=penalty // 2, burned=penalty - penalty // 2)


async def _accuse_operator(client: Client, proof: ForkProof) -> Conviction:
    # Wherever he has a stake: of all ledgers, his own is the one where he decides what is taken.
    venue, operator = client.ledger, operator_in(proof)
    await venue.connect()
    action = accuse_operator_of(proof, operator)
    staked = await client.balance(operator.address)
    penalty = staked.bond + staked.unbonding
    if isinstance(venue, LedgerClient):
        place = str((await venue.submit(action, client.key)).index)
    else:
        place = (await venue.equivocation(action, client.key)).place
    reward = penalty // 2
    return Conviction(place=place, accused=operator.address, reward=reward, burned=penalty - reward)


def _require_venue(named: str, here: str, what: str) -> None:
    if named != here:
        raise ConfigurationError(f"this proof does not go here: {what}", hint=f"name it with --ledger; it is {named}")
