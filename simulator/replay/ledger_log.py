"""Reads a ledger's exported log: every paid session, once the whole log has been held against the rules.

`joule ledger export` writes the folder. Nothing of it is believed: the checkpoint is signed by the key that the first
entry registers, each entry is what the rules of `protocol.settlement` give, and all of them together have its root.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from protocol.encoding.codec import decode
from protocol.errors import ConfigurationError, DishonestError, PeerError
from protocol.log.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from protocol.log.merkle import Frontier, leaf_hash
from protocol.log.note import MAX_NOTE_BYTES, VerifierKey, parse_note
from protocol.log.tiles import TILE_WIDTH, Tile, decode_bundle, tile_path
from protocol.session.messages import session_id
from protocol.settlement import Books, ledger_domain, replay
from protocol.settlement.operations import Genesis, LogEntry, Open, Settle

__all__ = ["LoggedSession", "PaidLog", "read_log"]

MOST_ENTRIES = 5_000_000
_MAX_ENTRY_BYTES = 2 + 0xFFFF


@dataclasses.dataclass(slots=True)
class LoggedSession:
    """A session as its ledger knows it."""

    identity: bytes
    opened_at: int
    """Unix seconds by the ledger's clock."""
    providers: tuple[bytes, ...]
    """Addresses, by leg; standbys come last."""
    paid: tuple[int, ...]
    """Micro-units that each leg has been paid by the end of the log."""
    tokens_in: int = 0
    """Prompt tokens that its last voucher pays for."""
    tokens_out: int = 0
    """Generated tokens, likewise."""
    last_at: int = 0
    """When it was last paid, Unix seconds."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PaidLog:
    """All sessions of a log, in the order in which they were opened."""

    verifier_key: str
    """Of the ledger."""
    entries: int
    sessions: tuple[LoggedSession, ...]


def read_log(folder: Path) -> PaidLog:
    """The sessions of an exported log.

    Raises:
        ConfigurationError: the folder is no such log, or breaks a rule; the hint says what to do.
    """
    try:
        return _read(folder)
    except PeerError as error:
        raise ConfigurationError(
            f"{folder} is not a sound copy of a ledger's log: {error.message}",
            hint="`joule ledger export` writes one, `joule ledger verify` names the first bad entry",
        ) from error


def _read(folder: Path) -> PaidLog:
    note = _bytes(folder / "checkpoint", MAX_NOTE_BYTES)
    claimed = parse_checkpoint(parse_note(note).text)
    if not 1 <= claimed.size <= MOST_ENTRIES:
        raise DishonestError(f"it has {claimed.size} entries, where 1 to {MOST_ENTRIES:,} are read")
    entries = _entries(folder, claimed)
    first = decode(next(entries), LogEntry)
    begun = first.op.read()
    if not isinstance(begun, Genesis):
        raise DishonestError("its first entry does not begin a ledger")
    open_checkpoint(note, VerifierKey.parse(begun.verifier_key))
    domain, books, frontier = ledger_domain(begun.verifier_key), Books(), Frontier()
    found: dict[bytes, LoggedSession] = {}
    for data in _entries(folder, claimed):
        entry = decode(data, LogEntry)
        replay(books, domain, entry)
        frontier.append(leaf_hash(data))
        _note(found, entry)
    if frontier.root != claimed.root:
        raise DishonestError("its entries do not have the root that its checkpoint signs")
    return PaidLog(verifier_key=begun.verifier_key, entries=claimed.size, sessions=tuple(found.values()))


def _entries(folder: Path, checkpoint: Checkpoint) -> Iterator[bytes]:
    for index in range(-(-checkpoint.size // TILE_WIDTH)):
        tile = Tile(None, index, min(TILE_WIDTH, checkpoint.size - index * TILE_WIDTH))
        yield from decode_bundle(_bytes(folder / tile_path(tile), _MAX_ENTRY_BYTES * tile.width), tile.width)


def _bytes(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise DishonestError(f"{path.name} cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise DishonestError(f"{path.name} is longer than any such file")
    return content


def _note(found: dict[bytes, LoggedSession], entry: LogEntry) -> None:
    """Add what an entry that follows the rules says of sessions."""
    action = entry.op.read()
    if isinstance(action, Open):
        legs = action.session.legs
        identity = session_id(action.session)
        providers = tuple(leg.provider for leg in legs)
        found[identity] = LoggedSession(identity, entry.time, providers, (0,) * len(legs))
    if isinstance(action, Settle):
        for signed in action.vouchers:
            session, voucher = found[signed.voucher.session], signed.voucher
            if voucher.tokens_in + voucher.tokens_out >= session.tokens_in + session.tokens_out:
                session.tokens_in, session.tokens_out = voucher.tokens_in, voucher.tokens_out
            session.last_at = entry.time
        for effect in entry.sessions:
            found[effect.session].paid = effect.settled
