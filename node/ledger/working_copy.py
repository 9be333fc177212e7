"""The writer's working copy of a ledger: balances, recent sessions and the tree's edge, recovered from the database.

Only the writer's task touches it. It may run ahead of the database by the batch that is being committed, never by more;
when that commit fails the copy is thrown away with its process. Sessions are many and most of them over, so only those
that were changed or named last are held; the others are fetched before an operation that names them is applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from node.ledger.notices import Noted
from node.ledger.paid import Paid, first_paid
from node.ledger.rows import AccountRow, Batch, SessionRow
from node.ledger.store import Store
from protocol.encoding.codec import decode, encode
from protocol.errors import ConfigurationError, LocalError, MalformedError, PeerError
from protocol.identity.ids import Address, SessionId
from protocol.log.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from protocol.log.merkle import leaf_hash
from protocol.log.note import NoteKey
from protocol.log.tiles import Tile, TileAppender, bundle_of
from protocol.session.messages import session_id
from protocol.settlement import Books, Outcome, Rules, announced, rules_of
from protocol.settlement.operations import (
    Action,
    Close,
    Deposit,
    Genesis,
    LogEntry,
    Notice,
    Open,
    Release,
    Settle,
    SignedOp,
    Slash,
)

__all__ = ["FAUCET_REFERENCE", "Recovered", "WorkingCopy", "faucet_credit", "recover", "sessions_of"]

_SESSIONS = 8_192
"""Sessions in memory, of some 1.5 KiB each; more than a batch can name."""

FAUCET_REFERENCE = "faucet"
"""Reference of the deposits that the faucet makes."""


def faucet_credit(signed: SignedOp) -> Deposit | None:
    """The deposit in an accepted operation, if the faucet made it."""
    action = signed.read()
    return action if isinstance(action, Deposit) and action.reference == FAUCET_REFERENCE else None


def sessions_of(signed: SignedOp) -> list[SessionId]:
    """The sessions that an operation names, which its rule will look for. Raises MalformedError."""
    match signed.read():
        case Open(session=session):
            return [session_id(session)]
        case Settle(vouchers=vouchers):
            return [SessionId(each.voucher.session) for each in vouchers]
        case Release(discharges=discharges):
            return [SessionId(each.discharge.session) for each in discharges]
        case Close(session=identity):
            return [SessionId(identity)]
        case Slash(first=first):
            return [SessionId(first.receipt.session)]
    return []


@dataclass(slots=True)
class WorkingCopy:
    """Books and tree, and what the ledger keeps beside them."""

    books: Books = field(default_factory=Books)
    appender: TileAppender = field(default_factory=TileAppender)
    fauceted: dict[Address, int] = field(default_factory=dict)
    """Micro-units that the faucet credited to each account."""
    opened: dict[SessionId, int] = field(default_factory=dict)
    """Index of the entry that opened each session that is held."""
    last_time: int = 0
    """Time of the last entry."""
    begun: Rules | None = None
    """What the genesis entry says."""
    paid: Paid = field(default_factory=Paid)
    _recorded: int = 0
    """Entries in the books that are not in the tree yet."""

    @property
    def rules(self) -> Rules:
        """Those of the last entry, with what was announced."""
        if self.books.rules is None:
            raise RuntimeError("the ledger has no genesis entry yet")
        return self.books.rules

    def lacks(self, wanted: Iterable[SessionId]) -> set[SessionId]:
        """Those that are not held, and may be in the database."""
        return {identity for identity in wanted if identity not in self.books.sessions}

    def hold(self, rows: Iterable[SessionRow]) -> None:
        """Take in sessions from the database, which must not lag behind the books."""
        for row in rows:
            self.books.sessions[row.session] = row.record
            self.opened[row.session] = row.opened

    def forget(self) -> None:
        """Let go of the sessions that were held longest, beyond a bound. All that was recorded must be durable."""
        sessions = self.books.sessions
        for identity in list(islice(sessions, max(0, len(sessions) - _SESSIONS))):
            del sessions[identity]
        if len(self.opened) > len(sessions):  # those that the rules have forgotten, too
            for identity in self.opened.keys() - sessions.keys():
                del self.opened[identity]

    def record(self, outcome: Outcome) -> None:
        """Take an accepted operation into the books."""
        self.paid.take(first_paid(self.books, outcome.entry), self.appender.size + self._recorded)
        self._recorded += 1
        self.books.record(outcome)
        deposit = faucet_credit(outcome.entry.op)
        if deposit is not None:
            account = Address(deposit.account)
            self.fauceted[account] = self.fauceted.get(account, 0) + deposit.amount

    def append(self, outcomes: Sequence[Outcome], key: NoteKey) -> Batch:
        """Append recorded outcomes to the tree, and sign for it; returns all that has to become durable."""
        first = self.appender.size
        self._recorded = 0
        entries = [encode(outcome.entry) for outcome in outcomes]
        tiles = self.appender.append([leaf_hash(entry) for entry in entries])
        accounts: dict[Address, AccountRow] = {}
        sessions: dict[SessionId, SessionRow] = {}
        notices = []
        for index, outcome in enumerate(outcomes, first):
            for address, account in outcome.accounts.items():
                accounts[address] = AccountRow(address, account, self.fauceted.get(address, 0), index)
            for identity, record in outcome.sessions.items():
                opened = self.opened.setdefault(identity, index)
                last = record.session.expiry + self.rules.grace_s if record.closed else None
                sessions[identity] = SessionRow(identity, record, opened, index, last)
            action = outcome.entry.op.read()
            if isinstance(action, Notice):
                notices.append(Noted(index, outcome.entry.time, action.effective))
        checkpoint = Checkpoint(key.verifier.name, self.appender.size, self.appender.root)
        return Batch(
            first=first,
            entries=entries,
            tiles=tiles,
            accounts=list(accounts.values()),
            sessions=list(sessions.values()),
            providers=self.paid.changes(),
            notices=notices,
            rules=self.rules,
            time=outcomes[-1].entry.time,
            checkpoint=checkpoint,
            note=sign_checkpoint(checkpoint, key),
        )


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a database holds, twice: to go on from, and to show."""

    copy: WorkingCopy
    durable: Batch
    """All accounts and providers, the edge of the tree, and the newest entries."""


async def recover(store: Store, key: NoteKey) -> Recovered | None:
    """The ledger that `store` holds; None when it holds none.

    Raises:
        ConfigurationError: its checkpoint is not signed by `key`.
        LocalError: the database contradicts itself or its checkpoint. That every entry follows from the ones before it,
            and the state from them, takes a whole replay: `verify` does that.
    """
    note = await store.checkpoint()
    if note is None:
        if await store.size():
            raise _damaged("it has entries but no checkpoint")
        return None
    # (1) The checkpoint is ours.
    checkpoint = _open_own(note, key)
    # (2) The log is as long as it says.
    if await store.size() != checkpoint.size:
        raise _damaged(f"it does not have the {checkpoint.size} entries that its checkpoint counts")
    # (3) The tree's edge leads to the signed root.
    edge, appender = await _recover_tree(store, checkpoint)
    # (4) The last entries are those in the tree.
    first, tail = await _read_tail(store, checkpoint.size)
    # (5) The rules are those of the genesis entry and of the notices since.
    notices, time = await store.notices(), _decode_entry(tail[-1]).time
    begun, rules = await _recover_rules(store, notices)
    # (6) The state is taken as it stands.
    durable = Batch(
        first=first,
        entries=tail,
        tiles=edge,
        accounts=await store.all_accounts(),
        sessions=(),
        providers=await store.all_providers(),
        notices=notices,
        rules=rules.at(time),
        time=time,
        checkpoint=checkpoint,
        note=note,
    )
    copy = WorkingCopy(appender=appender, last_time=time, begun=begun, paid=Paid(durable.providers))
    copy.books.rules = durable.rules
    for account in durable.accounts:
        copy.books.accounts[account.address] = account.account
        copy.fauceted[account.address] = account.fauceted
    return Recovered(copy, durable)


def _open_own(note: bytes, key: NoteKey) -> Checkpoint:
    try:
        return open_checkpoint(note, key.verifier)
    except PeerError as error:
        raise ConfigurationError(
            f"the ledger's checkpoint is not signed by this log key: {error.message}",
            code="ledger-key",
            hint="put back the log key that was made together with this ledger",
        ) from error


async def _recover_tree(store: Store, checkpoint: Checkpoint) -> tuple[dict[Tile, bytes], TileAppender]:
    edge = {}
    for tile in TileAppender.edge_tiles(checkpoint.size):
        hashes = await store.tile(tile)
        if hashes is None:
            raise _damaged("it lacks a tile at the edge of its tree")
        edge[tile] = hashes
    appender = TileAppender(checkpoint.size, edge)
    if appender.root != checkpoint.root:
        raise _damaged("its tiles do not lead to the root in its checkpoint")
    return edge, appender


async def _read_tail(store: Store, size: int) -> tuple[int, list[bytes]]:
    bundle = bundle_of(size - 1, size)
    first = size - bundle.width
    tail = await store.entries(first, size)
    hashes = await store.tile(Tile(0, bundle.index, bundle.width))
    if b"".join(map(leaf_hash, tail)) != hashes:
        raise _damaged(f"one of its entries {first} to {size - 1} is not the one in its tile")
    return first, tail


async def _recover_rules(store: Store, notices: Sequence[Noted]) -> tuple[Rules, Rules]:
    """The rules that the ledger was begun under, and those after the last notice."""
    genesis = await _read_action(store, 0)
    if not isinstance(genesis, Genesis):
        raise _damaged("its first entry is not its genesis")
    begun = rules = rules_of(genesis)
    for noted in notices:
        action = await _read_action(store, noted.index)
        if not isinstance(action, Notice):
            raise _damaged(f"its entry {noted.index} announces no rules")
        rules = announced(rules.at(noted.time), action)
    return begun, rules


async def _read_action(store: Store, index: int) -> Action:
    return _decode_entry(b"".join(await store.entries(index, index + 1))).op.read()


def _decode_entry(data: bytes) -> LogEntry:
    try:
        return decode(data, LogEntry)
    except MalformedError as error:
        raise _damaged(f"an entry cannot be read: {error.message}") from error


def _damaged(what: str) -> LocalError:
    return LocalError(
        f"the ledger database is damaged: {what}",
        code="ledger-damaged",
        hint="joule ledger verify names the first bad entry; restore the database from a backup",
    )
