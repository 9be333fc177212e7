"""What a front end that does not write shows: it takes from the database what the writer has committed.

Entries say what they change (`protocol.settlement.operations.LogEntry`), so following costs as much as the entries are
long, not as much as there are accounts. It believes the database, as the writer does; only that a history goes on it
looks at itself: a database that was set back must not make this process contradict what it has shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from node.ledger.notices import Noted
from node.ledger.published import Published
from node.ledger.rows import AccountRow, Batch, ProviderRow
from node.ledger.shared_run import SharedRun
from node.ledger.store import Store
from node.ledger.working_copy import recover
from protocol.encoding.codec import decode
from protocol.errors import LocalError, MalformedError, PeerError
from protocol.identity.ids import Address, SessionId
from protocol.log.checkpoint import Checkpoint, open_checkpoint
from protocol.log.note import NoteKey
from protocol.settlement import account_of, announced
from protocol.settlement.operations import LogEntry, Notice

__all__ = ["Follower"]

_MOST_AT_ONCE = 16_384
"""Entries that are followed one by one; behind by more, all accounts are read."""
_PROVIDERS_S = 10.0
"""How old the list of who was paid may be: it is the ledger's word, and nothing else waits for it."""


class Follower:
    """Keeps `published` up with a database that another process writes.

    Args:
        key: the log's, which the writer signs with, too.
    """

    def __init__(self, store: Store, published: Published, key: NoteKey) -> None:
        self._store = store
        self._published = published
        self._key = key
        self._providers_at = 0.0
        self.catch_up = SharedRun(self._catch_up)
        """Shows what is in the database now. Raises UnreachableError; LocalError where it contradicts what was shown.
        """

    async def _catch_up(self) -> None:
        note = await self._store.checkpoint()
        shown = self._published.head
        if note == shown.note:
            return
        found = self._open(note)
        is_other = found.size == shown.checkpoint.size and found != shown.checkpoint
        if found.size < shown.checkpoint.size or is_other:
            raise _set_back(f"it shows {found}, after {shown.checkpoint}")
        if found == shown.checkpoint:
            return  # another note of the same: there is no entry to take a time from
        if found.size - shown.checkpoint.size > _MOST_AT_ONCE:
            await self._read_all()
        else:
            await self._read_new(shown.checkpoint, found, note or b"")

    def _open(self, note: bytes | None) -> Checkpoint:
        try:
            return open_checkpoint(note or b"", self._key.verifier)
        except PeerError as error:
            raise _set_back(f"its checkpoint is none by this ledger's key: {error.message}") from error

    async def _read_all(self) -> None:
        async with self._store.frozen() as view:
            recovered = await recover(view, self._key)
        if recovered is None:
            raise _set_back("it is empty")
        self._published.replace(recovered.durable)

    async def _read_new(self, shown: Checkpoint, found: Checkpoint, note: bytes) -> None:
        entries = await self._store.entries(shown.size, found.size)
        if len(entries) != found.size - shown.size:
            raise _set_back(f"it lacks entries before {found.size}")
        batch, changed = self._batch_of(entries, found, note, await self._providers())
        self._published.take_of_others(batch, changed)

    async def _providers(self) -> Sequence[ProviderRow]:
        now = asyncio.get_running_loop().time()
        if now - self._providers_at < _PROVIDERS_S:
            return ()
        self._providers_at = now
        return await self._store.all_providers()

    def _batch_of(
        self, entries: Sequence[bytes], found: Checkpoint, note: bytes, providers: Sequence[ProviderRow]
    ) -> tuple[Batch, set[SessionId]]:
        first, time = found.size - len(entries), 0
        accounts: dict[Address, AccountRow] = {}
        changed: set[SessionId] = set()
        notices = []
        rules = self._published.rules[0]
        for index, data in enumerate(entries, first):
            entry = _read(index, data)
            time, rules = entry.time, rules.at(entry.time)
            for effect in entry.accounts:
                address = Address(effect.account)
                known = accounts.get(address) or self._published.account(address)
                fauceted = 0 if known is None else known.fauceted  # the writer's to count, and shown to nobody
                accounts[address] = AccountRow(address, account_of(effect), fauceted, index)
            changed.update(SessionId(effect.session) for effect in entry.sessions)
            action = entry.op.read()
            if isinstance(action, Notice):
                notices.append(Noted(index, entry.time, action.effective))
                rules = announced(rules, action)
        batch = Batch(
            first=first,
            entries=entries,
            tiles={},
            accounts=list(accounts.values()),
            sessions=(),
            providers=providers,
            notices=notices,
            rules=rules,
            time=time,
            checkpoint=found,
            note=note,
        )
        return batch, changed


def _read(index: int, data: bytes) -> LogEntry:
    try:
        return decode(data, LogEntry)
    except MalformedError as error:
        raise _set_back(f"its entry {index} cannot be read: {error.message}") from error


def _set_back(what: str) -> LocalError:
    return LocalError(
        f"the ledger database was changed by somebody else: {what}",
        code="ledger-damaged",
        hint="joule ledger verify names the first bad entry; a database that was set back contradicts what was shown",
    )
