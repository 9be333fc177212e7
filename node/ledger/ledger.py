"""A running ledger: its folder, database, front end and HTTP service, started and stopped together.

The folder holds ``log.key`` (which signs checkpoints) and, unless a database URL says otherwise, ``ledger.sqlite3``.
Losing the key ends the ledger: its entries stay verifiable, but nobody can append. Of a PostgreSQL ledger there may be
several front ends, each with a copy of the key: the first one writes, the others stand by.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.engine import URL

from node.events import Events, unheard
from node.ledger.cosigning import Cosigning, Pace, WitnessServer
from node.ledger.door import Door, connections_now
from node.ledger.following import Follower
from node.ledger.front import Front, Watch
from node.ledger.fronts import Fronts, Peers
from node.ledger.http import listen, make_runner, url_of
from node.ledger.log_key import create_log_key, read_log_key
from node.ledger.offers import OfferPages, Shown
from node.ledger.pages import Pages
from node.ledger.published import Published
from node.ledger.rates import Rates
from node.ledger.schema import database_url, sqlite_url
from node.ledger.sequencer import WEEK_S, Sequencer, check_rules
from node.ledger.service import build_app
from node.ledger.store import Store
from node.ledger.working_copy import recover
from node.ledger.writer_lock import second_writer
from node.ports import Clock
from protocol.errors import ConfigurationError, LocalError, UnreachableError
from protocol.identity.eip712 import Domain
from protocol.identity.signing import SigningKey
from protocol.log.note import NoteKey
from protocol.settlement import Rules, ledger_domain

__all__ = ["DEFAULT_GRACE_S", "DEFAULT_PORT", "LedgerSettings", "RunningLedger", "run_ledger"]

DEFAULT_PORT = 8645
DEFAULT_GRACE_S = 48 * 3600

_ATTEMPTS, _AGAIN_S = 150, 0.2
"""How often, and how many seconds apart, a ledger is looked for that another process is about to begin."""


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
    watch: Watch = field(default_factory=Watch)
    """How front ends of one database watch each other."""
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
    front: Front
    serving: asyncio.Task[None]
    """Ends with the LocalError that stopped the ledger, if something does."""

    async def wait(self) -> None:
        """Until the ledger stops. Raises LocalError when it had to."""
        await asyncio.shield(self.serving)


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
        LocalError: another process writes this SQLite ledger, or its database is damaged.
        UnreachableError: the database does not answer.
    """
    _make_folder(settings.folder)
    async with AsyncExitStack() as stack:
        store = Store(settings.url)
        stack.push_async_callback(store.close)
        writes = await _become_writer(store)
        key = await _log_key(settings, store, operator)
        published = Published(store)

        async def recovered() -> Sequencer:
            return await _open(settings, store, key, operator, published, clock, steady, accept_clock, events)

        sequencer = await recovered() if writes else None
        if sequencer is None:
            await _show(settings, store, key, operator, published)
        fronts = None
        if store.has_standbys:
            fronts = Fronts(settings.url)
            stack.push_async_callback(fronts.close)
        cosigning = Cosigning(published, settings.witnesses, events, settings.pace)
        front = Front(
            store,
            published,
            Follower(store, published, key),
            recover=recovered,
            duties=(cosigning.run,),
            fronts=fronts,
            peers=Peers(peers),
            events=events,
            watch=settings.watch,
        )
        stack.push_async_callback(front.finish)
        shown = OfferPages(offers) if offers is not None else None
        pages = Pages(settings.url, published)
        stack.push_async_callback(pages.close)
        runner = make_runner(build_app(front, settings.rates, cosigning, pages, shown))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        if runner.server is None:
            raise RuntimeError("a runner that was set up has a server")
        sockets = await listen(settings.host, settings.port)
        door = Door(sockets, runner.server, most=settings.connections or connections_now())
        stack.push_async_callback(door.close)
        url = url_of(settings.host, sockets)
        if sequencer is not None:
            await store.begin_to_write()
        serving = front.start(_name_of(url), sequencer)
        yield RunningLedger(url, str(key.verifier), ledger_domain(str(key.verifier)), front, serving)


async def _become_writer(store: Store) -> bool:
    """Whether this process writes; where it does not, another one has begun the ledger when this returns."""
    if not store.has_standbys:
        await store.become_writer()
        return True
    for _ in range(_ATTEMPTS):
        if await store.try_become_writer():
            return True
        with contextlib.suppress(UnreachableError):  # its tables are not there yet
            await store.check_version()
            if await store.checkpoint() is not None:
                return False
        await asyncio.sleep(_AGAIN_S)
    raise second_writer()


async def _open(
    settings: LedgerSettings,
    store: Store,
    key: NoteKey,
    operator: SigningKey,
    published: Published,
    clock: Clock,
    steady: Callable[[], float] | None,
    accept_clock: bool,
    events: Events,
) -> Sequencer:
    return await Sequencer.open(
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
        published=published,
    )


async def _show(
    settings: LedgerSettings, store: Store, key: NoteKey, operator: SigningKey, published: Published
) -> None:
    """Show the ledger that another process writes. Raises as `Sequencer.open`, so that nobody learns it later."""
    async with store.frozen() as view:
        found = await recover(view, key)
    if found is None:
        raise LocalError("the ledger was removed while this started", code="ledger-damaged", hint="start it again")
    wanted = Rules(
        operator=operator.address,
        verifier_key=str(key.verifier),
        grace_s=settings.grace_s,
        unbonding_s=settings.unbonding_s,
        notice_s=settings.notice_s,
        faucet_limit=settings.faucet_limit,
        fee=settings.fee,
        bond_multiple=settings.bond_multiple,
    )
    check_rules(wanted, found.durable.rules, found.copy.begun or found.durable.rules)
    published.replace(found.durable)


def _name_of(url: str) -> str:
    """How other front ends, and people, call this one: an address that means every machine is none."""
    for everywhere in ("//0.0.0.0:", "//[::]:"):
        url = url.replace(everywhere, f"//{socket.gethostname()}:")
    return url


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
