"""A running ledger: its folder, database, writer and HTTP service, started and stopped together.

The folder holds ``log.key`` (which signs checkpoints) and, unless a database URL says otherwise, ``ledger.sqlite3``.
Losing the key ends the ledger: its entries stay verifiable, but nobody can append.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.engine import URL

from node.events import Events, unheard
from node.ledger.cosigning import Cosigning, Pace, WitnessServer
from node.ledger.door import Door, connections_now
from node.ledger.http import listen, make_runner, url_of
from node.ledger.log_key import create_log_key, read_log_key
from node.ledger.offers import OfferPages, Shown
from node.ledger.pages import Pages
from node.ledger.rates import Rates
from node.ledger.schema import database_url, sqlite_url
from node.ledger.sequencer import WEEK_S, Sequencer
from node.ledger.service import build_app
from node.ledger.store import Store
from node.ports import Clock
from protocol.eip712 import Domain
from protocol.errors import ConfigurationError
from protocol.note import NoteKey
from protocol.signing import SigningKey

__all__ = ["DEFAULT_GRACE_S", "DEFAULT_PORT", "LedgerSettings", "RunningLedger", "run_ledger"]

DEFAULT_PORT = 8645
DEFAULT_GRACE_S = 48 * 3600

_CLOCK_LOOK_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """Where a ledger lives, and under which rules it begins."""

    folder: Path
    """Made if missing."""
    database: str | None = None
    """``postgresql://...`` or ``sqlite:///...``; a SQLite file in the folder by default."""
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    """0 takes any free port."""
    origin: str | None = None
    """The log's name, at most 40 bytes; follows from the operator's address by default. Fixed once the ledger began."""
    grace_s: int = DEFAULT_GRACE_S
    """Seconds after expiry in which vouchers are redeemed. Fixed once the ledger began."""
    faucet_limit: int = 0
    """Most micro-units of play money for one account; 0 for none. Fixed once the ledger began."""
    fee: int = 1
    """Micro-units that every operation costs its actor, at least 1. Fixed once the ledger began."""
    unbonding_s: int = WEEK_S
    """Seconds until stakes that are taken back are free. Fixed once the ledger began."""
    notice_s: int = WEEK_S
    """Seconds that a change of rules is announced before it takes effect. Fixed once the ledger began."""
    bond_multiple: int = 0
    """How many times its bond vouchers may pay a provider in one period; 0 for no bound."""
    rates: Rates = field(default_factory=Rates)
    """How often one asker may ask."""
    witnesses: Sequence[WitnessServer] = ()
    """Whom each new checkpoint is submitted to."""
    pace: Pace = field(default_factory=Pace)
    """How often."""
    connections: int | None = None
    """Most at once; by default what the process's limit of descriptors leaves room for."""

    @property
    def url(self) -> URL:
        """The database. Raises ConfigurationError."""
        return database_url(self.database) if self.database else sqlite_url(self.folder / "ledger.sqlite3")


@dataclass(frozen=True, slots=True)
class RunningLedger:
    """What others need to know of a ledger that serves."""

    url: str
    """Base of its HTTP interface."""
    verifier_key: str
    domain: Domain
    writer: asyncio.Task[None]
    """Ends with the LocalError that stopped the ledger, if something does."""

    async def wait(self) -> None:
        """Until the ledger stops. Raises LocalError when it had to."""
        await asyncio.shield(self.writer)


@asynccontextmanager
async def run_ledger(
    settings: LedgerSettings,
    operator: SigningKey,
    clock: Clock,
    *,
    peers: Sequence[str] = (),
    offers: Callable[[], Sequence[Shown]] | None = None,
    steady: Callable[[], float] | None = None,
    accept_clock: bool = False,
    events: Events = unheard,
) -> AsyncIterator[RunningLedger]:
    """Run a ledger for the length of the block; it is begun where the folder and the database are empty.

    On leaving, requests under way are answered, then the writer finishes, then the database closes.

    Args:
        operator: whose ledger it is; signs the genesis entry and the faucet's deposits.
        peers: multiaddrs that ``/info`` names; read at each request.
        offers: the offers in force, newest first, that ``/offers`` shows; without it there is no such path.
        steady: seconds that only rise, which the clock is held against; None where it need not be.
        accept_clock: the operator's word that the clock is right, after a rest that is longer than usual.

    Raises:
        ConfigurationError, KeystoreError: settings, key file or database belong to another ledger.
        ListenError: the address is in use, or is not one of this machine's.
        LocalError: another process writes this ledger, or its database is damaged.
        UnreachableError: the database does not answer.
    """
    _make_folder(settings.folder)
    async with AsyncExitStack() as stack:
        store = Store(settings.url)
        stack.push_async_callback(store.close)
        await store.become_writer()
        key = await _log_key(settings, store, operator)
        sequencer = await Sequencer.open(
            store,
            key,
            operator,
            clock,
            grace_s=settings.grace_s,
            faucet_limit=settings.faucet_limit,
            fee=settings.fee,
            unbonding_s=settings.unbonding_s,
            notice_s=settings.notice_s,
            bond_multiple=settings.bond_multiple,
            steady=steady,
            accept_clock=accept_clock,
            events=events,
        )
        writer = asyncio.create_task(sequencer.serve(), name="ledger writer")
        stack.push_async_callback(_finish, sequencer, writer)
        shown = OfferPages(offers) if offers is not None else None
        pages = Pages(settings.url, sequencer.published)
        stack.push_async_callback(pages.close)
        cosigning = Cosigning(sequencer.published, settings.witnesses, events, settings.pace)
        runner = make_runner(build_app(sequencer, peers, settings.rates, cosigning, pages, shown))
        asking = asyncio.create_task(cosigning.run(), name="witnesses")
        stack.push_async_callback(_cancelled, asking)
        watch = asyncio.create_task(_watch_clock(sequencer), name="ledger clock")
        stack.callback(watch.cancel)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        if runner.server is None:
            raise RuntimeError("a runner that was set up has a server")
        sockets = await listen(settings.host, settings.port)
        door = Door(sockets, runner.server, most=settings.connections or connections_now())
        stack.push_async_callback(door.close)
        yield RunningLedger(url_of(settings.host, sockets), str(key.verifier), sequencer.domain, writer)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigurationError(f"cannot make the ledger's folder {folder}: {error.strerror}") from error


async def _log_key(settings: LedgerSettings, store: Store, operator: SigningKey) -> NoteKey:
    path = settings.folder / "log.key"
    if not path.exists() and await store.checkpoint() is None:
        origin = settings.origin or f"joulemesh/{operator.address.hex()[:12]}"
        if len(origin.encode()) > 40:
            raise ConfigurationError(f"the origin {origin!r} has more than 40 bytes")
        return create_log_key(path, origin)
    key = read_log_key(path)
    if settings.origin not in (None, key.verifier.name):
        raise ConfigurationError(
            f"this ledger is called {key.verifier.name}, not {settings.origin}",
            hint="a ledger's name never changes: leave the setting out, or begin another in a new folder",
        )
    return key


async def _watch_clock(sequencer: Sequencer) -> None:
    while True:
        sequencer.look_at_clock()
        await asyncio.sleep(_CLOCK_LOOK_SECONDS)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _finish(sequencer: Sequencer, writer: asyncio.Task[None]) -> None:
    sequencer.stop()
    # Its failure, if any, is for `RunningLedger.wait` to raise, not for whoever closes up.
    await asyncio.wait([writer])
    if not writer.cancelled():
        writer.exception()
