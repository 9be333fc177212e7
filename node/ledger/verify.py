"""Verify a whole ledger: every entry replayed under the rules, and held against tiles, checkpoint and stored state.

This is what nobody can fake for a reader: it needs the log and the verifier key, and believes neither the operator's
balances nor its tree. What it cannot tell is whether the operator shows somebody else another log; comparing
checkpoints does that (`client.LedgerClient.compare`).
"""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from node.ledger.log_source import HttpLog, LogSource, StoreLog
from node.ledger.paid import Paid, first_paid
from node.ledger.rows import SessionRow
from node.ledger.schema import url_of_database
from node.ledger.signers import SignersAhead
from node.ledger.store import Store
from node.ledger.witnessed import Witnessed
from node.ledger.working_copy import faucet_credit
from protocol.encoding.codec import decode
from protocol.errors import DishonestError, PeerError
from protocol.identity.ids import Address, SessionId, checksum_address
from protocol.log.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from protocol.log.merkle import HASH_BYTES, leaf_hash
from protocol.log.note import VerifierKey, parse_note
from protocol.log.tiles import TILE_WIDTH, Tile, TileAppender, bundle_of, tile_path
from protocol.settlement import Books, glance, ledger_domain, outcome_as_written, replay
from protocol.settlement.operations import Deposit, Genesis, LogEntry, SignedOp, Withdraw

__all__ = ["Fault", "Progress", "Replay", "Report", "verify_database", "verify_log", "verify_url"]

_AHEAD = 12
"""Bundles that are read before their turn: 3,072 entries, fewer than the operations that stay read
(`protocol.settlement.operations`)."""
ANY = Witnessed()
"""Cosignatures are not asked for."""
_LONG = 5_000
"""Entries of a log that is worth other processes: they take a second to start."""
_COLLECTED_AFTER = 200_000
"""Objects, until the youngest are looked through for cycles."""
_PORTION = 64
"""Entries whose signatures another process checks at a time."""

Progress = Callable[[int, int], None]
"""Called with the number of entries verified, and their total."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing found wrong."""

    index: int | None
    """The bad entry; None where no single entry is at fault."""
    reason: str

    def __str__(self) -> str:
        return self.reason if self.index is None else f"entry {self.index}: {self.reason}"


@dataclass(slots=True, kw_only=True)
class Report:
    """What a verification found. Sums are micro-units, over the entries before the fault where there is one."""

    checkpoint: Checkpoint | None = None
    verifier_key: str = ""
    entries: int = 0
    """Entries verified."""
    deposited: int = 0
    withdrawn: int = 0
    fees: int = 0
    """What operations have cost their actors; the operator has it."""
    fault: Fault | None = None
    """None when all holds."""

    # A state may have a million parts: who only names the report, as `asyncio.run` does at its end, shows none of them.
    books: Books = field(default_factory=Books, repr=False)
    """The state that the entries lead to; `burned` in it is what penalties took from everybody."""
    fauceted: dict[Address, int] = field(default_factory=dict, repr=False)
    changed: dict[bytes, int] = field(default_factory=dict, repr=False)
    """Index of the last entry that changed each account and session."""
    opened: dict[SessionId, int] = field(default_factory=dict, repr=False)
    paid: Paid = field(default_factory=Paid, repr=False)

    @property
    def held(self) -> int:
        """Free and reserved money in the ledger: what was deposited and not withdrawn."""
        return self.books.total()


async def verify_url(
    url: str,
    *,
    verifier_key: str | None = None,
    witnessed: Witnessed = ANY,
    progress: Progress | None = None,
    processes: int = 1,
) -> Report:
    """Verify the ledger that serves at `url`. Raises UnreachableError."""
    source = HttpLog(url)
    try:
        return await verify_log(
            source, verifier_key=verifier_key, witnessed=witnessed, progress=progress, processes=processes
        )
    finally:
        await source.close()


async def verify_database(
    database: str | Path,
    *,
    verifier_key: str | None = None,
    progress: Progress | None = None,
    processes: int = 1,
) -> Report:
    """Verify a ledger in a SQLite file or at a database URL, its stored balances and sessions too.

    Raises:
        ConfigurationError: no such file, or not a database URL.
        UnreachableError: the database does not answer, or is no ledger.
        LocalError: its tables are of another version.
    """
    store = Store(url_of_database(database))
    try:
        await store.check_version()
        log = StoreLog(store)
        report = await verify_log(log, verifier_key=verifier_key, progress=progress, processes=processes)
        if report.fault is None:
            report.fault = await _check_state(store, report)
        return report
    finally:
        await store.close()


async def verify_log(
    source: LogSource,
    *,
    verifier_key: str | None = None,
    witnessed: Witnessed = ANY,
    progress: Progress | None = None,
    processes: int = 1,
) -> Report:
    """Replay a log from its first entry; the report names the first bad one.

    Args:
        verifier_key: the ledger's key; by default the one that its genesis entry registers.
        witnessed: which cosignatures its checkpoint must have.
        processes: how many check signatures; this one, which applies the rules in order, is counted.
    """
    report = Report()
    try:
        note = await source.checkpoint()
        key = VerifierKey.parse(verifier_key or await _registered_key(source, note))
        report.verifier_key = str(key)
        report.checkpoint = open_checkpoint(note, key)
        witnessed.check(note)
    except PeerError as error:
        report.fault = Fault(None, f"the checkpoint: {error.message}")
        return report
    worth = processes if report.checkpoint.size >= _LONG else 1
    with _seldom_collected():
        async with SignersAhead(report.verifier_key, worth, portion=_PORTION) as signers:
            await Replay(source, report, report.checkpoint, signers).run(progress)
    return report


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """A replay makes dozens of objects for each entry, keeps many, and makes no cycles of them: to look for some after
    every few entries takes a quarter of the time of the process that applies the rules.
    """
    before = gc.get_threshold()
    gc.set_threshold(_COLLECTED_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


async def _registered_key(source: LogSource, note: bytes) -> str:
    size = parse_checkpoint(parse_note(note).text).size
    # Of the width that it has there: files that were exported have no other.
    entries = await source.bundle(bundle_of(0, size)) if size else []
    if not entries:
        raise DishonestError("there is no entry 0 that would register its key")
    action = decode(entries[0], LogEntry).op.read()
    if not isinstance(action, Genesis):
        raise DishonestError("entry 0 registers no key")
    return action.verifier_key


@dataclass(frozen=True, slots=True)
class _Bundle:
    """What a log says to be its entries from `begin` on."""

    begin: int
    data: Sequence[bytes]
    glances: Sequence[tuple[int, SignedOp] | None]
    """What each of these says of itself."""
    hashes: bytes
    """Of their tile."""
    fault: str = ""
    """Why there are no more."""


class Replay:
    """One pass over a log; without a checkpoint `check_entry` alone may be used."""

    def __init__(
        self, source: LogSource, report: Report, checkpoint: Checkpoint | None, signers: SignersAhead | None = None
    ) -> None:
        self._source = source
        self._signers = SignersAhead(report.verifier_key, 1, portion=_PORTION) if signers is None else signers
        self._report = report
        self._checkpoint = checkpoint
        self._domain = ledger_domain(report.verifier_key)
        self._appender = TileAppender()
        self._upper: dict[Tile, bytes] = {}
        """Tiles above the first level, at their last width, as the entries give them."""
        self._misplaced: int | None = None
        """First entry whose hash is not the one in its tile: either of the two was changed."""
        self._time = 0

    async def run(self, progress: Progress | None) -> None:
        """Replay all of it, and hold it against tiles and checkpoint; what is found stands in the report."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            raise RuntimeError("a pass over a whole log ends at a checkpoint")
        size = checkpoint.size
        async with aclosing(self._bundles(size)) as bundles:
            async for bundle in bundles:
                self._report.fault = await self._check_bundle(bundle)
                if self._report.fault is not None:
                    return
                if progress is not None:
                    progress(self._report.entries, size)
        self._report.fault = await self._check_tree(checkpoint)

    async def _bundles(self, size: int) -> AsyncGenerator[_Bundle, None]:
        """All of them, each some time after it was read: others look for its signers meanwhile."""
        reading: deque[asyncio.Task[_Bundle]] = deque()
        try:
            for begin in range(0, size, TILE_WIDTH):
                reading.append(asyncio.create_task(self._read(bundle_of(begin, size), begin)))
                if len(reading) == _AHEAD:
                    yield await reading.popleft()
            while reading:
                yield await reading.popleft()
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    async def _read(self, bundle: Tile, begin: int) -> _Bundle:
        read = await self._read_entries(bundle, begin)
        self._signers.expect(each[1] for each in read.glances if each is not None)
        return read

    async def _read_entries(self, bundle: Tile, begin: int) -> _Bundle:
        try:
            data = await self._source.bundle(bundle)
            hashes = await self._source.tile(Tile(0, bundle.index, bundle.width))
        except PeerError as error:
            return _Bundle(begin, (), (), b"", f"cannot be read: {error.message}")
        return _Bundle(
            begin, data, list(map(glance, data)), hashes, "" if len(data) == bundle.width else "it is missing"
        )

    async def _check_bundle(self, bundle: _Bundle) -> Fault | None:
        leaves = [leaf_hash(data) for data in bundle.data]
        if self._misplaced is None and b"".join(leaves) != bundle.hashes:
            self._misplaced = _first_other(bundle.begin, leaves, bundle.hashes)
        for index, (data, glanced) in enumerate(zip(bundle.data, bundle.glances, strict=True), bundle.begin):
            if glanced is not None:
                await self._signers.need(glanced[1])
            try:
                self._check(index, data, glanced)
            except PeerError as error:
                return self._blame(index, error.message)
        if bundle.fault:
            return self._blame(bundle.begin + len(bundle.data), bundle.fault)
        self._note_upper(self._appender.append(leaves))
        return None

    def _note_upper(self, changed: dict[Tile, bytes]) -> None:
        for tile, content in changed.items():
            if tile.level:
                self._upper.pop(Tile(tile.level, tile.index, max(1, tile.width - 1)), None)
                self._upper[tile] = content

    def _blame(self, index: int, reason: str) -> Fault:
        if self._misplaced is not None and self._misplaced < index:
            return Fault(self._misplaced, "it is not the entry that its tile commits to")
        return Fault(index, reason)

    def check_entry(self, index: int, data: bytes) -> None:
        """Check one entry under the rules (docs/spec/ledger.md, clause E1). Raises a PeerError."""
        self._check(index, data, glance(data))

    def _check(self, index: int, data: bytes, glanced: tuple[int, SignedOp] | None) -> None:
        report, recover = self._report, self._signers.recover
        outcome = outcome_as_written(report.books, self._domain, data, glanced, recover)
        # (1) canonical
        entry = decode(data, LogEntry) if outcome is None else outcome.entry
        # (2) time never falls
        if entry.time < self._time:
            raise DishonestError("its time is before the time of the entry before it")
        self._time = entry.time
        # (3) signed, allowed, and with the effects that the rules give
        paid = first_paid(report.books, entry)
        if outcome is None:
            replay(report.books, self._domain, entry, recover)
        else:
            report.books.record(outcome)
        report.paid.take(paid, index)
        # (4) within what the faucet may give
        self._count_money(entry)
        for account in entry.accounts:
            report.changed[account.account] = index
        for session in entry.sessions:
            report.changed[session.session] = index
            report.opened.setdefault(SessionId(session.session), index)
        report.entries = index + 1

    def _count_money(self, entry: LogEntry) -> None:
        report, action = self._report, entry.op.read()
        if isinstance(action, Deposit):
            report.deposited += action.amount
        elif isinstance(action, Withdraw):
            report.withdrawn += action.amount
        if report.books.rules is not None and action.actor != report.books.rules.operator:
            report.fees += report.books.rules.fee
        credit = faucet_credit(entry.op)
        if credit is not None and report.books.rules is not None:
            account = Address(credit.account)
            report.fauceted[account] = report.fauceted.get(account, 0) + credit.amount
            if report.fauceted[account] > report.books.rules.faucet_limit:
                raise DishonestError("the faucet gave more than the rules allow")

    async def _check_tree(self, checkpoint: Checkpoint) -> Fault | None:
        rooted = self._appender.root == checkpoint.root
        if self._misplaced is not None:
            wrong = "its hash in its tile is wrong" if rooted else "it is not the entry that its tile commits to"
            return Fault(self._misplaced, wrong)
        if not rooted:
            return Fault(None, "the entries do not lead to the root in the checkpoint")
        for tile, content in self._upper.items():
            try:
                served = await self._source.tile(tile)
            except PeerError as error:
                return Fault(None, f"{tile_path(tile)}: {error.message}")
            if served != content:
                return Fault(None, f"{tile_path(tile)} does not follow from the entries")
        return None


def _first_other(begin: int, leaves: Sequence[bytes], hashes: bytes) -> int | None:
    """The first entry whose hash is not the one in its tile."""
    for number, leaf in enumerate(leaves):
        if leaf != hashes[number * HASH_BYTES : (number + 1) * HASH_BYTES]:
            return begin + number
    return None


def _sessions_of(report: Report) -> Iterator[SessionRow]:
    """As a ledger stores those that the log leads to."""
    grace_s = 0 if report.books.rules is None else report.books.rules.grace_s
    for session, record in report.books.sessions.items():
        last = record.session.expiry + grace_s if record.closed else None
        yield SessionRow(session, record, report.opened[session], report.changed[session], last)


async def _check_state(store: Store, report: Report) -> Fault | None:
    """Hold the stored balances and sessions against those that the log leads to."""
    faults = []
    accounts = {row.address: row for row in await store.all_accounts()}
    for address in sorted(accounts.keys() | report.books.accounts.keys()):
        row, known = accounts.get(address), report.books.accounts.get(address)
        expected = (known, report.fauceted.get(address, 0), report.changed.get(address))
        if row is None or (row.account, row.fauceted, row.entry) != expected:
            changed = report.changed.get(address)
            faults.append(Fault(changed, f"account {checksum_address(address)} is not stored as it leaves it"))
    for session in await store.other_sessions(_sessions_of(report)):
        faults.append(Fault(report.changed.get(session), f"session {session.hex()} is not stored as it leaves it"))
    stored_providers = {row.address: row for row in await store.all_providers()}
    for address in sorted(stored_providers.keys() | report.paid.rows.keys()):
        if stored_providers.get(address) != report.paid.rows.get(address):
            since = report.paid.rows[address].since if address in report.paid.rows else None
            faults.append(Fault(since, f"who was paid how often is not stored as it leaves it: {address.hex()}"))
    return min(faults, key=lambda fault: -1 if fault.index is None else fault.index, default=None)
