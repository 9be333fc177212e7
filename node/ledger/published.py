"""What a ledger shows: the state that is durable and signed for, what is new of it in memory.

The writer's working copy may be ahead of the database by a batch; this follows it, whole batches at a time. Accounts,
the edge of the tree, and the newest sessions and entries stay here; older tiles, entries and sessions are read when
somebody asks for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node.ledger.notices import Noted, places_of
from node.ledger.paid import most_paid
from node.ledger.recent import Recent
from node.ledger.rows import AccountRow, Batch, ProviderRow, SessionRow
from node.ledger.store import Store
from node.ledger.tree import ShownTree, lacks
from protocol.errors import RefusedError
from protocol.identity.ids import Address, SessionId
from protocol.log.checkpoint import Checkpoint
from protocol.log.merkle import consistency_proof, inclusion_proof
from protocol.log.tiles import TILE_WIDTH, Tile
from protocol.settlement import Rules

__all__ = ["Head", "Published", "Shown"]

_ENTRIES = 4_096
"""Of some 600 bytes each; the longest have 30 KiB."""
_PROOFS = 64
_SESSIONS = 8_192
"""Of some 1.5 KiB each."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An entry, and the proof that it stands in the log that the note commits to."""

    index: int
    entry: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint, as it is and as it is signed."""

    checkpoint: Checkpoint
    note: bytes


class Published:
    """The newest durable state. Only the task that writes, or follows who does, changes it; everybody else reads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._head: Head | None = None
        self._accounts: dict[Address, AccountRow] = {}
        self._notices: list[Noted] = []
        self._rules: Rules | None = None
        self._time = 0
        self._sessions: Recent[SessionId, SessionRow] = Recent(_SESSIONS)
        """Those that were changed last; what a database shows of the others is as new."""
        self._moved_on = asyncio.Event()
        self._providers: dict[Address, ProviderRow] = {}
        self._most_paid: Sequence[ProviderRow] | None = None
        """Made anew where somebody asks after a change."""
        self._tree = ShownTree(store)
        self._entries: Recent[int, bytes] = Recent(_ENTRIES)
        self._consistency: Recent[tuple[int, int], tuple[bytes, ...]] = Recent(_PROOFS)

    def take(self, batch: Batch) -> None:
        """Show a batch that has become durable."""
        self._tree.grow(batch.checkpoint.size, batch.tiles)
        for index, entry in enumerate(batch.entries, batch.first):
            self._entries.put(index, entry)
        self._accounts.update((row.address, row) for row in batch.accounts)
        for row in batch.sessions:
            self._sessions.put(row.session, row)
        self._notices += batch.notices
        self._rules, self._time = batch.rules, batch.time
        if batch.providers:
            self._providers.update((row.address, row) for row in batch.providers)
            self._most_paid = None
        self._head = Head(batch.checkpoint, batch.note)
        self._moved_on.set()
        self._moved_on = asyncio.Event()

    def replace(self, whole: Batch) -> None:
        """Show what a database holds, whatever was shown before: all accounts, notices and providers."""
        self._accounts.clear()
        self._notices.clear()
        self._providers.clear()
        self._sessions.clear()
        self.take(whole)

    def take_of_others(self, batch: Batch, changed: Iterable[SessionId]) -> None:
        """Show what another process has made durable; the sessions that it has changed are in the database."""
        for session in changed:
            self._sessions.pop(session)
        self.take(batch)

    @property
    def head(self) -> Head:
        """The newest checkpoint. An answer takes it once, so that all in it is under one checkpoint."""
        if self._head is None:
            raise RuntimeError("nothing is published yet")
        return self._head

    async def moved_on(self) -> None:
        """Until the next batch is shown."""
        await self._moved_on.wait()

    # State

    def account(self, address: bytes) -> AccountRow | None:
        """An account; None where no entry ever touched it."""
        return self._accounts.get(Address(address))

    @property
    def rules(self) -> tuple[Rules, tuple[int, int | None]]:
        """Those of the newest entry; the entry that the ones in force stand in, and the notice of others to come."""
        if self._rules is None:
            raise RuntimeError("nothing is published yet")
        return self._rules, places_of(self._notices, self._time)

    async def session(self, session: bytes) -> SessionRow | None:
        """A session; None where it was never opened, or is forgotten."""
        row = await self._find_session(session)
        forgotten = row is not None and row.forget_after is not None and row.forget_after < self._time
        return None if forgotten else row

    async def _find_session(self, session: bytes) -> SessionRow | None:
        identity = SessionId(session)
        row = self._sessions.get(identity)
        if row is not None:
            return row
        rows = await self._store.sessions([identity])
        row = self._sessions.get(identity) or next(iter(rows), None)
        # The database has a batch before it is shown here.
        while row is not None and row.entry >= self.head.checkpoint.size:
            await self._moved_on.wait()
        return row

    def most_paid(self) -> Sequence[ProviderRow]:
        """Who was paid in the most sessions: a bounded list."""
        if self._most_paid is None:
            self._most_paid = most_paid(self._providers.values())
        return self._most_paid

    # Log

    async def tile(self, tile: Tile) -> bytes | None:
        """The hashes of a tile; None where the log does not reach that far."""
        return await self._tree.tile(tile)

    async def bundle(self, tile: Tile) -> Sequence[bytes] | None:
        """The entries of a bundle; None where the log does not reach that far."""
        begin = tile.index * TILE_WIDTH
        if begin + tile.width > self.head.checkpoint.size:
            return None
        places = range(begin, begin + tile.width)
        held = [entry for entry in map(self._entries.get, places) if entry is not None]
        return held if len(held) == tile.width else await self._read_entries(begin, tile.width)

    async def prove(self, index: int, head: Head) -> Shown:
        """An entry with its inclusion proof. Raises RefusedError where the log does not have it."""
        size = head.checkpoint.size
        if not 0 <= index < size:
            raise RefusedError(f"the log has {size} entries, so none at {index}", code="not-found")
        entry = self._entries.get(index) or (await self._read_entries(index, 1))[0]
        return Shown(index, entry, await self.inclusion(index, size))

    async def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """The proof that the log of its first `size` entries has entry `index`. Raises MalformedError."""
        return await self._tree.prove(lambda hash_at: inclusion_proof(index, size, hash_at))

    async def prove_continues(self, old: int, head: Head) -> tuple[bytes, ...]:
        """The proof that the log continues its first `old` entries, of which there is at least one."""
        new = head.checkpoint.size
        proof = self._consistency.get((old, new))
        if proof is None:
            proof = await self._tree.prove(lambda hash_at: consistency_proof(old, new, hash_at))
            self._consistency.put((old, new), proof)
        return proof

    async def _read_entries(self, begin: int, count: int) -> Sequence[bytes]:
        entries = await self._store.entries(begin, begin + count)
        if len(entries) != count:
            raise lacks(f"one of its entries {begin} to {begin + count - 1}")
        return entries
