"""A ledger's log, copied to a folder, or followed as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from node.app.settlement.venue import refuse_contract
from node.ledger import LedgerClient, Progress, export_database, export_url
from protocol.log.checkpoint import Checkpoint
from protocol.settlement.operations import AccountEffect, SessionEffect

__all__ = ["TailedEntry", "export_ledger", "tail_ledger"]

LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TailedEntry:
    """One entry of a ledger's log."""

    entry: int
    """Its index."""
    time: int
    """When it was taken, Unix seconds by the ledger's clock."""
    operation: str
    """What was done, such as ``settle``."""
    actor: bytes
    """Whose operation it was."""
    nonce: int
    """The actor's, with this operation."""
    accounts: tuple[AccountEffect, ...]
    """Every account that it changed, as it left it."""
    sessions: tuple[SessionEffect, ...]
    """Every session that it changed, as it left it."""


async def export_ledger(
    target: str, folder: Path, *, verifier_key: str | None, progress: Progress | None
) -> Checkpoint:
    """Copy a ledger's log into a folder: its URL, its SQLite file or its database URL.

    Raises:
        UnreachableError: nothing answers there.
        ConfigurationError, LocalError: no database, one of another version, or a folder that cannot be used.
    """
    refuse_contract(target, "exporting a log")
    if target.startswith(("http://", "https://")):
        return await export_url(target, folder, verifier_key=verifier_key, progress=progress)
    database = target if "://" in target else Path(target)
    return await export_database(database, folder, verifier_key=verifier_key, progress=progress)


async def tail_ledger(
    url: str,
    show: Callable[[TailedEntry], None],
    *,
    begin: int | None,
    last: int,
    follow: bool,
    verifier_key: str | None,
) -> None:
    """Show entries of a ledger in order, each proven to be in its log; with `follow` those that come, too.

    Args:
        begin: the first index; None for the `last` ones.

    Raises UnreachableError, DishonestError.
    """
    refuse_contract(url, "following a log")
    async with LedgerClient(url, verifier_key=verifier_key) as ledger:
        size = (await ledger.checkpoint()).size
        index = max(0, size - last) if begin is None else begin
        while True:
            while index < size:
                show(await _entry(ledger, index))
                index += 1
            if not follow:
                return
            await asyncio.sleep(LOOK_EVERY_S)
            size = (await ledger.checkpoint()).size


async def _entry(ledger: LedgerClient, index: int) -> TailedEntry:
    entry = (await ledger.entry(index)).entry
    action = entry.op.read()
    return TailedEntry(
        entry=index,
        time=entry.time,
        operation=action.kind.partition("/")[0],
        actor=action.actor,
        nonce=action.nonce,
        accounts=entry.accounts,
        sessions=entry.sessions,
    )
