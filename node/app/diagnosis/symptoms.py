"""What can be found out about the nodes that run here: from their locks, what they told, and from outside."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from node.app.diagnosis.activity import Told, read_activity
from node.app.diagnosis.diagnosis import Symptoms
from node.app.network.shunned import address_of
from node.config import ClientConfig
from node.events import unheard
from node.keystore import Keystore
from node.p2p.address import check_peer_address
from node.p2p.direct import DataPlane
from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime
from protocol.errors import InvalidError, JoulemeshError, SignatureError
from protocol.identity.ids import Address, checksum_address, parse_address
from protocol.identity.peer_id import public_key_of
from protocol.market.offer import Offer
from protocol.reputation.standing import DAY_S

__all__ = ["Running", "clock_off", "running_nodes", "symptoms_of"]

DIAL_S = 3.0
"""For a port of this machine to answer."""
LEDGER_S = 5.0
READY = "node ready"


@dataclass(frozen=True, slots=True)
class Running:
    """A node whose lock is held."""

    address: Address
    process: int | None


def running_nodes(data_dir: Path) -> list[Running]:
    """The nodes that run with this data directory."""
    folder = data_dir / "locks"
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return list(_running(files))


def _running(files: list[Path]) -> Iterator[Running]:
    for path in files:
        try:
            address = parse_address(path.name)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (InvalidError, OSError):
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            written = os.pread(descriptor, 32, 0).decode("ascii", errors="replace").strip()
            yield Running(address, int(written) if written.isdigit() else None)
        finally:
            os.close(descriptor)


async def symptoms_of(config: ClientConfig, node: Running, wait_s: float) -> Symptoms:
    """All that can be found out about one node; what cannot be is None. Raises LocalError: its journal is damaged."""
    now = int(time.time())
    ready = _ready(await asyncio.to_thread(read_activity, config.data_dir, node.address, 0))
    at = replace(config, ledger=str(ready["ledger"])) if ready is not None and "ledger" in ready else config
    book, error, free, bond = await _outside(at, node.address, wait_s)
    # Only now: what it told a moment ago is written by now.
    told = await asyncio.to_thread(read_activity, config.data_dir, node.address, 0)
    ready = _ready(told)
    today = [each for each in told if each.day == now // DAY_S]
    known = ready is not None and any(each.event == READY for each in _since_start(told))
    own = max(
        (each for each in book or () if address_of(each.public_key) == node.address),
        key=lambda each: each.sequence,
        default=None,
    )
    return Symptoms(
        name=checksum_address(node.address),
        process=node.process,
        told=today,
        ready=ready if known else None,
        has_key=_has_key(config.data_dir, node.address),
        book=book,
        own=own,
        clock_off_s=await clock_off(at.ledger),
        ledger_error=error,
        free=free,
        bond=bond,
        dialled={} if ready is None else await _reached(str(ready["peer"]), str(ready["data"])),
    )


def _ready(told: list[Told]) -> dict[str, Any] | None:
    """What a node said when it was ready last."""
    return next((each.last for each in reversed(told) if each.event == READY), None)


def _since_start(told: list[Told]) -> list[Told]:
    """What was told after the node began to ask for its ledger last: an earlier run may have been ready, too."""
    begun = max((each.last_at for each in told if each.event == "starting"), default=0)
    return [each for each in told if each.last_at >= begun]


def _has_key(data_dir: Path, address: Address) -> bool:
    try:
        return any(each.address == address for each in Keystore(data_dir / "keys").list())
    except JoulemeshError:
        return False


async def _outside(
    config: ClientConfig, address: Address, wait_s: float
) -> tuple[list[Offer] | None, str, int | None, int | None]:
    """What a stranger sees: the book, why the ledger cannot be read, and the node's money and stake."""
    from node.app.buying.client import open_client

    try:
        async with open_client(config, None, unheard) as client:
            try:
                async with asyncio.timeout(LEDGER_S):
                    account: Any = await client.ledger.account(address)
            except TimeoutError:
                return None, f"no answer from {config.ledger} within {LEDGER_S:g} s", None, None
            book = await client.offers(wait_s, enough=lambda found: _has(found, address))
            return list(book), "", account.free, account.bond
    except JoulemeshError as error:
        return None, error.message, None, None


def _has(offers: Any, address: Address) -> bool:
    return any(address_of(offer.public_key) == address for offer in offers)


async def clock_off(url: str) -> float | None:
    """Seconds by which this clock is ahead of what a ledger's HTTP answers say; they count whole seconds."""
    import aiohttp

    try:
        timeout = aiohttp.ClientTimeout(total=LEDGER_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.head(url, allow_redirects=False) as answer,
        ):
            said = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (aiohttp.ClientError, TimeoutError, KeyError, ValueError, TypeError):
        return None
    return time.time() - said - 0.5


async def _reached(peer: str, data: str) -> dict[str, str]:
    """By each address that a node announces why it cannot be reached there; empty where this very node answers."""
    public_key = public_key_of(check_peer_address(peer))
    passing = secrets.token_bytes(32)
    async with TrioRuntime.open() as runtime, P2PHost.open(runtime, passing) as host, DataPlane(passing) as plane:
        return {
            peer: await _why_not(host.connect(peer, timeout_s=DIAL_S)),
            data: await _why_not(plane.connect(data, public_key)),
        }


async def _why_not(dial: Awaitable[object]) -> str:
    try:
        async with asyncio.timeout(DIAL_S):
            await dial
    except SignatureError as error:
        return f"{error.message}: another program, or another node, has this port"
    except (OSError, TimeoutError, JoulemeshError) as error:
        return str(error) or "no answer in time"
    return ""
