"""What runs on this machine and what its keys have: from the files here, and from the ledger where it answers.

Nothing is changed, and nobody is waited for longer than a moment: what does not answer is a warning.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from node.app.diagnosis.activity import read_activity
from node.app.diagnosis.finding import Finding
from node.app.diagnosis.troubles import troubles_of
from node.app.process.services import Service, services_here
from node.app.settlement.venue import Venue, open_venue, shown_venue
from node.config import ClientConfig
from node.keystore import KeyFile, Keystore
from node.pipeline.vouchers import StoredVoucher, VoucherStore
from node.ports import Worker
from node.settings import declared
from node.worker import ThreadWorker
from protocol.errors import InvalidError, JoulemeshError, LocalError
from protocol.identity.ids import Address, checksum_address, parse_address
from protocol.reputation.standing import DAY_S

__all__ = ["HereSession", "KeyHere", "Status", "status_of"]

ASK_S = 3.0
"""For the ledger to answer, with all that is asked of it."""
MOST_KEYS, MOST_SESSIONS = 50, 500
"""That the ledger is asked about."""
LITTLE_DISK = 1024**3
"""Bytes: below that vouchers and receipts may soon not be kept."""
REDEEM_SOON_S = 6 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class HereSession:
    """A session that this machine keeps something of."""

    session: bytes
    """Its id on the ledger, 32 bytes."""
    address: bytes
    """Of the key here."""
    side: str
    """``bought``, or ``served``."""
    expires_at: int
    """Unix seconds."""
    held: int | None
    """Micro-units that the ledger still holds for it: of a served one, for this machine's leg. Null where it was not
    asked, or does not know it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHere:
    """A key in the keystore, and what its account has."""

    name: str
    """Of its file."""
    address: bytes | None
    """Null where the file does not give it."""
    free: int | None
    """Micro-units that it can spend; null where the ledger did not answer."""
    bond: int | None
    """Micro-units at stake; null where the ledger did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is here."""

    data_dir: str
    """Where keys and state are kept."""
    ledger: str
    """That was asked: the one of the settings, else that of a service here."""
    answers: bool
    """Whether it did."""
    services: tuple[Service, ...]
    """That run with this data directory, those first that were started first."""
    keys: tuple[KeyHere, ...]
    """In the keystore, by name."""
    sessions: tuple[HereSession, ...]
    """That are not done with, those first that expire first."""
    receipts: int
    """Files among the receipts; `joule receipt list` verifies them."""
    warnings: tuple[Finding, ...]
    """What needs somebody's attention."""


async def status_of(config: ClientConfig, *, ask_s: float = ASK_S) -> Status:
    """All of it. Raises KeystoreError where the keystore cannot be read."""
    services = services_here(config.data_dir)
    config = replace(config, ledger=_meant_ledger(config, services))
    keys = Keystore(config.data_dir / "keys").list()
    worker = ThreadWorker("status")
    warnings: list[Finding] = []
    found = [each async for each in _stored(config.data_dir, worker)]
    accounts, held = dict[bytes, tuple[int, int]](), dict[bytes, int]()
    answers = True
    try:
        async with asyncio.timeout(ask_s), open_venue(config, ending=True) as venue:
            await venue.connect()
            await _ask(venue, keys, found, accounts, held)
    except (JoulemeshError, TimeoutError) as error:
        answers = False
        reason = error.message if isinstance(error, JoulemeshError) else f"no answer within {ask_s:g} s"
        fix = "name the right one with --ledger, or start one: joule ledger run"
        warnings.append(Finding("note", "ledger", f"{shown_venue(config.ledger)}: {reason}", fix))
    sessions = _sessions(found, held, asked=answers)
    now = int(time.time())
    warnings += [
        *_ledger_warnings(config.data_dir),
        *_session_warnings(sessions, services, now),
        *_node_warnings(config.data_dir, services, now),
        *_disk_warnings(config.data_dir),
    ]
    return Status(
        data_dir=str(config.data_dir),
        ledger=shown_venue(config.ledger),
        answers=answers,
        services=tuple(replace(each, ledger=_shown(each.ledger)) for each in services),
        keys=tuple(_key(each, accounts) for each in keys),
        sessions=sessions,
        receipts=sum(1 for _ in (config.data_dir / "receipts").glob("*.json")),
        warnings=tuple(warnings),
    )


def _meant_ledger(config: ClientConfig, services: Sequence[Service]) -> str:
    """The one of the settings; where they say nothing, that of the first service here that has one."""
    (setting,) = [each for each in declared(ClientConfig) if each.name == "ledger"]
    if config.ledger != setting.default:
        return config.ledger
    for each in services:
        if each.service == "ledger" and each.ready is not None:
            return str(each.ready.get("url", config.ledger))
    return next((each.ledger for each in services if each.ledger), config.ledger)


def _shown(ledger: str) -> str:
    return shown_venue(ledger) if ledger else ""


# Sessions


@dataclass(frozen=True, slots=True)
class _Found:
    """A session on disk."""

    session: bytes
    key: Address
    stored: StoredVoucher


async def _stored(data_dir: Path, worker: Worker) -> AsyncIterator[_Found]:
    for folder in (data_dir / "sessions", data_dir / "vouchers"):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            try:
                address = parse_address(path.name)
                stored = await VoucherStore(path, worker).all()
            except (InvalidError, LocalError, OSError):
                continue
            for session, each in stored.items():
                yield _Found(session, address, each)


async def _ask(
    venue: Venue,
    keys: Sequence[KeyFile],
    found: Sequence[_Found],
    accounts: dict[bytes, tuple[int, int]],
    held: dict[bytes, int],
) -> None:
    """Put down what the venue says of accounts and sessions, as far as it comes."""
    for key in keys[:MOST_KEYS]:
        if key.address is not None:
            account = await venue.account(key.address)
            accounts[key.address] = account.free, account.bond
    for each in found[:MOST_SESSIONS]:
        record = await venue.session(each.session)
        leg = each.stored.leg
        if record is None:
            continue
        held[each.session] = record.reserved if leg is None else record.ceilings[leg] - record.settled[leg]


def _sessions(found: Sequence[_Found], held: dict[bytes, int], *, asked: bool) -> tuple[HereSession, ...]:
    """Without those that nothing is held for: they leave the journal with the next job."""
    shown = [
        HereSession(
            session=each.session,
            address=each.key,
            side="bought" if each.stored.leg is None else "served",
            expires_at=each.stored.session.expiry,
            held=held.get(each.session),
        )
        for each in found
        if not asked or held.get(each.session, 0) > 0 or len(found) > MOST_SESSIONS
    ]
    return tuple(sorted(shown, key=lambda each: (each.expires_at, each.session)))


def _key(key: KeyFile, accounts: dict[bytes, tuple[int, int]]) -> KeyHere:
    free, bond = (None, None) if key.address is None else accounts.get(key.address, (None, None))
    return KeyHere(name=key.name, address=key.address, free=free, bond=bond)


# Warnings


def _ledger_warnings(data_dir: Path) -> Iterator[Finding]:
    for path in sorted((data_dir / "ledgers").glob("*.fork.json")):
        fix = f"nothing new is begun there; look into it: joule ledger verify-fork {path}"
        yield Finding("fail", "ledger forked", f"there is a proof that a ledger signed two histories: {path.name}", fix)


def _session_warnings(sessions: Sequence[HereSession], services: Sequence[Service], now: int) -> Iterator[Finding]:
    bought = [each for each in sessions if each.side == "bought" and each.held and each.expires_at < now]
    if bought:
        held = sum(each.held or 0 for each in bought)
        said = f"${held / 1e6:.6f} is held by {len(bought)} sessions that have expired"
        yield Finding("note", "sessions", said, "have it back: joule reclaim, once the ledger's grace is over")
    served = [each for each in sessions if each.side == "served" and each.held]
    idle = [each for each in served if not _serves(each.address, services) and each.expires_at < now + REDEEM_SOON_S]
    for key in sorted({each.address for each in idle}):
        count = sum(each.address == key for each in idle)
        said = f"{count} vouchers of {checksum_address(key)} await their pay, and its node does not run"
        yield Finding("fail", "vouchers", said, "redeem them before the grace ends: joule settle")


def _serves(key: bytes, services: Sequence[Service]) -> bool:
    """Whether a node with this key runs here, or one that is still starting."""
    name = checksum_address(key)
    nodes = [each for each in services if each.service == "node"]
    return any(each.ready is None or each.ready.get("provider") == name for each in nodes)


def _node_warnings(data_dir: Path, services: Sequence[Service], now: int) -> Iterator[Finding]:
    """What nodes that run here told today and that was not mended."""
    for service in services:
        provider = "" if service.ready is None else str(service.ready.get("provider", ""))
        if service.service != "node" or not provider:
            continue
        try:
            told = read_activity(data_dir, parse_address(provider), now - now % DAY_S)
        except JoulemeshError as error:
            yield Finding("fail", "node", error.message, error.hint)
            continue
        for each in troubles_of(told):
            if each.level != "ok":
                yield replace(each, detail=f"node {provider[:10]}: {each.detail}")


def _disk_warnings(data_dir: Path) -> Iterator[Finding]:
    try:
        free = shutil.disk_usage(data_dir).free
    except OSError:
        return  # it is made when it is first needed
    if free < LITTLE_DISK:
        said = f"{free / 1024**2:.0f} MiB left where {data_dir} is"
        yield Finding("fail", "disk", said, "make room: without it vouchers and receipts are not kept")
