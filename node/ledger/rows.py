"""What the ledger's database holds, row by row, and what one commit adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from node.ledger.notices import Noted
from protocol.identity.ids import Address, SessionId
from protocol.log.checkpoint import Checkpoint
from protocol.log.tiles import Tile
from protocol.settlement import Account, Rules, SessionRecord

__all__ = ["AccountRow", "Batch", "ProviderRow", "SessionRow"]


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account, and what the ledger keeps beside it."""

    address: Address
    account: Account
    fauceted: int
    """Micro-units that the faucet credited so far."""
    entry: int
    """Index of the last entry that changed it."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session, and where it stands in the log."""

    session: SessionId
    record: SessionRecord
    opened: int
    """Index of the entry that opened it."""
    entry: int
    """Index of the last entry that changed it."""
    forget_after: int | None
    """Where it is closed, the last second in which it is known."""


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """Somebody whom vouchers have paid."""

    address: Address
    sessions: int
    """In how many sessions."""
    since: int
    """Index of the entry that paid it first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one commit makes durable."""

    first: int
    """Index of the first entry."""
    entries: Sequence[bytes]
    tiles: dict[Tile, bytes]
    accounts: Sequence[AccountRow]
    sessions: Sequence[SessionRow]
    providers: Sequence[ProviderRow] = ()
    notices: Sequence[Noted] = ()
    rules: Rules
    """As of the last entry."""
    time: int
    """Of the last entry, Unix seconds: sessions that are forgotten by then leave the tables."""
    checkpoint: Checkpoint
    """What covers the batch."""
    note: bytes
    """The same, signed."""
