"""A witness over HTTP (https://c2sp.org/tlog-witness).

======  ==========================================  ==========================================================
POST    /add-checkpoint                             cosign a checkpoint that continues the last one
GET     /<sha256 of the origin>/checkpoint          the newest one of a log that was cosigned here
======  ==========================================  ==========================================================
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from node.events import Events, LogNotPulled, unheard
from node.ip_group import origin_of
from node.ledger.door import MAX_REQUEST_BYTES, Door, Guest, connections_now
from node.ledger.http import listen, make_runner, url_of
from node.ledger.log_key import create_note_key, read_note_key
from node.ledger.log_source import HttpLog
from node.ledger.rates import Buckets, Rate, TooOftenError
from node.ledger.replayed import Replayed
from node.ledger.witness import Witness, WitnessedLog
from node.ledger.witness_state import WitnessState
from node.ports import Clock
from protocol.errors import (
    ConfigurationError,
    DishonestError,
    ForkedError,
    JoulemeshError,
    LocalError,
    MalformedError,
    RefusedError,
    SignatureError,
    StaleError,
)
from protocol.log.cosignature import CosigningKey, parse_add_checkpoint
from protocol.log.note import VerifierKey
from protocol.log.post_quantum import PostQuantumCosigningKey

__all__ = ["RunningWitness", "WitnessSettings", "run_witness", "second_key", "witness_key"]

_REQUEST_SECONDS = 30
_RATE = Rate(100, 10)
"""Requests from one address. A log asks once a second at most; many logs may share an address."""
_SIZE_TYPE = "text/x.tlog.size"

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessSettings:
    """Who a witness is, and whom it watches."""

    folder: Path
    """Made if missing: the key, and what was cosigned."""
    name: str | None = None
    """The witness's, in its cosignatures; needed the first time, and fixed from then on."""
    logs: Sequence[tuple[VerifierKey, str | None]] = ()
    """Each log's key, and where its entries are."""
    host: str = "127.0.0.1"
    port: int = 0
    """0 takes any free port."""
    validate: bool = False
    """Whether every entry is replayed before its checkpoint is cosigned."""
    pull_s: float = 0
    """Seconds between two looks at each log that has an address; 0 waits to be asked."""


@dataclass(frozen=True, slots=True)
class RunningWitness:
    """A witness that serves."""

    url: str
    """Both prefixes of C2SP's interface."""
    verifier_key: str


def witness_key(folder: Path, name: str | None) -> CosigningKey:
    """The witness's key, made where there is none yet. Raises ConfigurationError, KeystoreError."""
    path = folder / "witness.key"
    if not path.exists():
        if name is None:
            raise ConfigurationError(
                "this witness has no name yet", hint="give it one with --name, such as witness.example.org"
            )
        _make_folder(folder)
        return create_note_key(path, name, CosigningKey)
    key = read_note_key(path, CosigningKey)
    if name not in (None, key.verifier.name):
        raise ConfigurationError(
            f"this witness is called {key.verifier.name}, not {name}",
            hint="a witness's name never changes: leave the setting out, or begin another in a new folder",
        )
    return key


def second_key(folder: Path, name: str, *, make: bool = False) -> PostQuantumCosigningKey | None:
    """The witness's ML-DSA-44 key; None where it has none and none is to be made. Raises KeystoreError."""
    path = folder / "witness.ml-dsa.key"
    if path.exists():
        return read_note_key(path, PostQuantumCosigningKey)
    return create_note_key(path, name, PostQuantumCosigningKey) if make else None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigurationError(f"cannot make the witness's folder {folder}: {error.strerror}") from error


@asynccontextmanager
async def run_witness(
    settings: WitnessSettings, clock: Clock, *, events: Events = unheard
) -> AsyncIterator[RunningWitness]:
    """Run a witness for the length of the block.

    Raises:
        ConfigurationError, KeystoreError: the settings, or the key file, make no sense.
        ListenError: the address is in use, or is not one of this machine's.
        LocalError: another process is this witness, or what it has cosigned cannot be read.
    """
    if not settings.logs:
        raise ConfigurationError("this witness watches no log", hint="name one with --log VKEY@URL")
    key = witness_key(settings.folder, settings.name)
    async with AsyncExitStack() as stack:
        state = WitnessState(settings.folder, key)
        stack.callback(state.close)
        logs = [_log_of(verifier, url, settings.validate, stack) for verifier, url in settings.logs]
        if len({log.verifier.name for log in logs}) != len(logs):
            raise ConfigurationError("two of this witness's logs have one name")
        second = second_key(settings.folder, key.verifier.name)
        witness = Witness(key, logs, state, clock, events, second=second)
        runner = make_runner(_build_app(witness))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        if runner.server is None:
            raise RuntimeError("a runner that was set up has a server")
        sockets = await listen(settings.host, settings.port)
        door = Door(sockets, runner.server, most=connections_now())
        stack.push_async_callback(door.close)
        for log in logs if settings.pull_s else ():
            task = asyncio.create_task(_pull(witness, log, settings.pull_s, events), name="witness pulls")
            stack.callback(task.cancel)
        yield RunningWitness(url_of(settings.host, sockets), str(key.verifier))


def _log_of(verifier: VerifierKey, url: str | None, validate: bool, stack: AsyncExitStack) -> WitnessedLog:
    replayed = None
    if validate:
        if url is None:
            raise ConfigurationError(
                f"{verifier.name} has no address to replay its entries from", hint="write it as VKEY@URL"
            )
        source = HttpLog(url)
        stack.push_async_callback(source.close)
        replayed = Replayed(source, verifier)
    return WitnessedLog(verifier, url, replayed)


async def _pull(witness: Witness, log: WitnessedLog, every_s: float, events: Events) -> None:
    while log.url is not None:
        try:
            await witness.pull(log)
        except JoulemeshError as error:
            events(LogNotPulled(origin=log.verifier.name, reason=error.message))
        await asyncio.sleep(every_s)


class _Routes:
    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._by_address = Buckets(_RATE, time.monotonic)

    async def add(self, request: web.Request) -> web.Response:
        self._by_address.take(origin_of(request.remote or ""))
        asked = parse_add_checkpoint(await request.read())
        try:
            lines = await self._witness.add(asked)
        except (StaleError, ForkedError):
            latest = self._witness.latest(asked)
            return web.Response(status=409, body=f"{latest}\n".encode(), headers={"Content-Type": _SIZE_TYPE})
        return web.Response(text="".join(map(str, lines)), content_type="text/plain", charset="utf-8")

    async def checkpoint(self, request: web.Request) -> web.Response:
        self._by_address.take(origin_of(request.remote or ""))
        log = self._witness.logs.get(request.match_info["log"])
        if log is None or log.note is None:
            raise RefusedError("nothing of that log was cosigned here", code="not-found")
        headers = {"Cache-Control": "no-store"}
        return web.Response(body=log.note, content_type="text/plain", charset="utf-8", headers=headers)


def _build_app(witness: Witness) -> web.Application:
    routes = _Routes(witness)
    app = web.Application(middlewares=[_bounded], client_max_size=MAX_REQUEST_BYTES)
    app.router.add_post("/add-checkpoint", routes.add)
    app.router.add_get("/{log:[0-9a-f]{64}}/checkpoint", routes.checkpoint)
    return app


@web.middleware
async def _bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer within a time, and errors with the status that C2SP has for them."""
    guest = None if request.transport is None else request.transport.get_protocol()
    if not isinstance(guest, Guest):
        return web.Response(status=400)  # it has gone
    try:
        await request.read()
    except web.HTTPException as error:
        return web.Response(status=error.status, text=f"{error.reason}\n")
    except (ConnectionError, RequestPayloadError):
        return web.Response(status=400)
    with guest.being_served():
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                return await handler(request)
        except JoulemeshError as error:
            return _refusal(error)
        except web.HTTPException as error:
            return web.Response(status=error.status, text=f"{error.reason}\n")
        except (TimeoutError, ConnectionError):
            return web.Response(status=503)
        except Exception:  # noqa: BLE001 - the edge of a request: whatever fails here must not fail the others
            _log.exception("a request made the witness fail")
            return web.Response(status=500)


def _refusal(error: JoulemeshError) -> web.Response:
    headers = {"Retry-After": str(error.wait_s)} if isinstance(error, TooOftenError) else None
    return web.Response(status=_status_of(error), text=f"{error.message}\n", headers=headers)


def _status_of(error: JoulemeshError) -> int:
    match error:
        case TooOftenError():
            return 429
        case RefusedError():
            return 404
        case SignatureError():
            return 403
        case DishonestError():
            return 422
        case MalformedError():
            return 400
        case LocalError():
            return 503
    return 500
