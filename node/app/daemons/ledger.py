"""The ledger process: a front end of the embedded ledger over HTTP, and a libp2p host that newcomers bootstrap from.

Of a ledger with several front ends each has a host of its own; they join each other, so that there is one network.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from node.app.network.membership import Network, open_network
from node.app.process.clock import clock
from node.app.process.measured import open_metrics
from node.app.process.services import shown_here
from node.app.settlement.venue import refuse_contract
from node.app.settlement.witnessed import witnessed_by
from node.config import LedgerConfig
from node.durable import create_file
from node.events import Events, LedgerReady
from node.file_limit import raise_file_limit
from node.ledger import (
    LedgerClient,
    LedgerSettings,
    Peers,
    Progress,
    Report,
    Shown,
    WitnessServer,
    verify_database,
    verify_folder,
    verify_url,
)
from node.ledger import run_ledger as run_embedded_ledger
from node.ledger.signers import processes_here
from node.ledger.timekeeper import steady_seconds
from node.market import OfferBook
from node.metrics import Metrics
from node.p2p.gossip import Announcer
from node.settings.witnesses import key_and_url
from protocol.errors import ConfigurationError, InvalidError, KeystoreError, UnreachableError
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import Operator
from protocol.log.post_quantum import parse_cosigner
from protocol.names import CHECKPOINTS_TOPIC

__all__ = ["run_ledger", "settings_of", "verify_ledger"]

CHECKPOINT_EVERY_S = 10.0
CHECKPOINT_TTL_S = 60.0
MEET_S = 3.0


async def run_ledger(config: LedgerConfig, key: SigningKey, on_event: Events, *, accept_clock: bool = False) -> None:
    """Run a ledger until cancelled.

    Args:
        accept_clock: the operator's word that the machine's clock is right.

    Raises:
        ListenError, ConfigurationError, LocalError: it cannot start, or had to stop.
    """
    with shown_here(config.data_dir, "ledger", on_event) as shown:
        async with open_metrics(config, shown) as metrics:
            await _run_ledger(config, key, metrics, accept_clock=accept_clock)


async def _run_ledger(config: LedgerConfig, key: SigningKey, on_event: Metrics, *, accept_clock: bool) -> None:
    raise_file_limit()
    host = _host_key(config.data_dir / "ledger" / "peer.key")
    async with open_network(host, config.listen, on_event, announce=config.announce) as network:
        peers = network.host.addresses
        shown = partial(_shown, network.book)
        async with run_embedded_ledger(
            settings_of(config),
            key,
            clock,
            peers=peers,
            offers=shown,
            steady=steady_seconds,
            accept_clock=accept_clock,
            events=on_event,
        ) as ledger:
            log = ledger.front.published
            on_event.watch("ledger_entries", "Entries under the newest checkpoint.", lambda: log.head.checkpoint.size)
            on_event(
                LedgerReady(
                    url=ledger.url,
                    peer=peers[0],
                    operator=key.address,
                    verifier_key=ledger.verifier_key,
                    faucet=config.faucet_limit_micro > 0,
                )
            )
            network.checkpoints.relay_those_of(ledger.verifier_key, Operator(ledger.domain, key.address))
            await network.join(config.peers)
            announcer = Announcer(network.host, CHECKPOINTS_TOPIC, interval_s=CHECKPOINT_EVERY_S)
            async with LedgerClient(ledger.url, verifier_key=ledger.verifier_key) as own, asyncio.TaskGroup() as group:
                network.merits.ask = own.providers
                group.create_task(ledger.wait(), name="ledger writer")
                group.create_task(network.follow_merits(), name="merits")
                group.create_task(announcer.run(), name="checkpoint gossip")
                group.create_task(network.watch(), name="network")
                group.create_task(_announce_checkpoints(own, announcer), name="checkpoints")
                group.create_task(_join_others(network, ledger.front.peers), name="other front ends")


def _host_key(path: Path) -> SigningKey:
    """The key of a front end's host, made where it is missing: the operator's belongs to several. Raises LocalError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        create_file(path, f"{secrets.token_hex(32)}\n".encode())
        return SigningKey(bytes.fromhex(path.read_text().strip()))
    except OSError as error:
        raise ConfigurationError(f"cannot keep the key of this host in {path}: {error.strerror}") from error
    except (ValueError, InvalidError) as error:
        hint = "remove it: the next start makes another, and peers that name this one by its id have to be told"
        raise KeystoreError(f"{path} is not a host's key", hint=hint) from error


async def _join_others(network: Network, peers: Peers) -> None:
    """Stay connected with the hosts of the other front ends, until cancelled."""
    while True:
        connected = await network.host.peers()
        await network.join([each for each in peers.others if each.rpartition("/p2p/")[2] not in connected])
        await asyncio.sleep(MEET_S)


def settings_of(config: LedgerConfig) -> LedgerSettings:
    """What the settings say of a ledger and the rules that it begins under."""
    return LedgerSettings(
        folder=config.data_dir / "ledger",
        database=config.database,
        host=config.host,
        port=config.port,
        origin=config.name,
        grace_s=config.grace_s,
        faucet_limit=config.faucet_limit_micro,
        fee=config.fee_micro,
        unbonding_s=config.unbonding_s,
        notice_s=config.notice_s,
        bond_multiple=config.bond_multiple,
        witnesses=_servers_of(config),
    )


def _servers_of(config: LedgerConfig) -> tuple[WitnessServer, ...]:
    """Whom a ledger asks for cosignatures."""
    found = (key_and_url(each, parse_cosigner) for each in config.witnessed_by)
    return tuple(WitnessServer(key, url) for key, url in found if url is not None)


def _shown(book: OfferBook) -> list[Shown]:
    """The offers of a book, newest first."""
    newest_first = sorted(book.verified(), key=lambda each: each.offer.issued_at, reverse=True)
    return [Shown(each.offer.model, each.offer.public_key, each.sealed) for each in newest_first]


async def _announce_checkpoints(ledger: LedgerClient, announcer: Announcer) -> None:
    """Gossip the newest checkpoint, so that a ledger which shows different people different logs is caught."""
    while True:
        with contextlib.suppress(UnreachableError):  # its database is away; another front end has it, or nobody
            await ledger.checkpoint()
        if ledger.note is not None:
            announcer.announce(b"checkpoint", ledger.note, ttl_s=CHECKPOINT_TTL_S)
        await asyncio.sleep(CHECKPOINT_EVERY_S)


async def verify_ledger(
    target: str,
    *,
    verifier_key: str | None,
    progress: Progress | None,
    witnesses: Sequence[str] = (),
    processes: int | None = None,
) -> Report:
    """Replay a whole ledger: its URL, its SQLite file, its database URL, or a folder that it was exported to.

    Args:
        witnesses: keys of those that must have cosigned the checkpoint that is shown at a URL.
        processes: how many check signatures, this one counted; by default as there are cores.

    Raises:
        UnreachableError: nothing answers there.
        ConfigurationError, LocalError: no database, or one of another version.
    """
    count = processes_here() if processes is None else processes
    refuse_contract(target, "verifying a log")
    if target.startswith(("http://", "https://")):
        return await verify_url(
            target,
            verifier_key=verifier_key,
            witnessed=witnessed_by(witnesses),
            progress=progress,
            processes=count,
        )
    if witnesses:
        raise ConfigurationError("cosignatures are shown at a ledger's URL alone", hint="name that, or no --witness")
    if _is_folder(target):
        return await verify_folder(Path(target), verifier_key=verifier_key, progress=progress, processes=count)
    database = target if "://" in target else Path(target)
    return await verify_database(database, verifier_key=verifier_key, progress=progress, processes=count)


def _is_folder(target: str) -> bool:
    return "://" not in target and Path(target).is_dir()
