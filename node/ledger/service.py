"""The ledger as a service over HTTP: signed operations in; checkpoint, tiles and entries out (https://c2sp.org/tlog-tiles).

======  ==============================  =====================================================================
GET     /checkpoint                     newest signed note
GET     /tile/<L>/<N>[.p/<W>]           hash tile
GET     /tile/entries/<N>[.p/<W>]       entries
GET     /info                           who runs it, under which rules, and where its peers are
GET     /account/<0x address>           balance, and the entry that proves it
GET     /session/<hex id>               the entries that opened a session and last changed it
POST    /ops                            one signed operation; answers once a signed checkpoint covers it
POST    /faucet                         play money, where the ledger was begun with a faucet
======  ==============================  =====================================================================

What it says beside checkpoint, tiles and entries is a hint: clients verify (`client`). It can delay or refuse; what it
cannot do is forge an operation, or change the log unseen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from aiohttp import web

from node.ledger.sequencer import Appended, Sequencer
from node.ledger.store import Store
from node.ledger.wire import MAX_OP_BYTES, LedgerInfo, error_to_json, json_object, status_of
from protocol.codec import decode
from protocol.errors import JoulemeshError, MalformedError, RefusedError, peers_fault
from protocol.ids import Address, parse_address
from protocol.merkle import MAX_SIZE
from protocol.messages import SignedOp
from protocol.tiles import TILE_WIDTH, Tile, encode_bundle, parse_tile_path

__all__ = ["build_app"]

_REQUEST_SECONDS = 30
"""Longest that one request may take, its body and answer included; slow readers and writers are cut off."""

_IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable"}
_FRESH = {"Cache-Control": "no-store"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Routes:
    """The handlers, around the sequencer that takes operations and the store that everything else is read from."""

    def __init__(self, store: Store, sequencer: Sequencer, peers: Sequence[str]) -> None:
        self._store = store
        self._sequencer = sequencer
        self._peers = peers

    async def checkpoint(self, _request: web.Request) -> web.Response:
        note = await self._store.checkpoint()
        return web.Response(body=note, content_type="text/plain", charset="utf-8", headers=_FRESH)

    async def tile(self, request: web.Request) -> web.Response:
        tile = parse_tile_path(request.path.removeprefix("/"))
        body = await (self._bundle(tile) if tile.level is None else self._store.tile(tile))
        if body is None:
            raise RefusedError("the log does not reach that far", code="not-found")
        # A partial tile never changes either, but nobody needs it once it is full.
        headers = _IMMUTABLE if tile.width == TILE_WIDTH else _FRESH
        return web.Response(body=body, content_type="application/octet-stream", headers=headers)

    async def _bundle(self, tile: Tile) -> bytes | None:
        begin = tile.index * TILE_WIDTH
        entries = await self._store.entries(begin, begin + tile.width)
        return encode_bundle(entries) if len(entries) == tile.width else None

    async def info(self, _request: web.Request) -> web.Response:
        rules = self._sequencer.rules
        info = LedgerInfo(
            verifier_key=rules.verifier_key,
            operator=rules.operator,
            grace_s=rules.grace_s,
            faucet_limit=rules.faucet_limit,
            peers=tuple(self._peers),
            version=_version(),
        )
        return _json(info.to_json())

    async def account(self, request: web.Request) -> web.Response:
        row = await self._store.account(_parse_address(request.match_info["address"]))
        if row is None:
            return _json({"free": 0, "nonce": 0, "entry": None})
        return _json({"free": row.account.free, "nonce": row.account.nonce, "entry": row.entry})

    async def session(self, request: web.Request) -> web.Response:
        row = await self._store.session(_parse_session(request.match_info["session"]))
        if row is None:
            raise RefusedError("no such session on this ledger", code="unknown-session")
        return _json({"opened": row.opened, "latest": row.entry})

    async def submit(self, request: web.Request) -> web.Response:
        signed = decode(await request.read(), SignedOp, limit=MAX_OP_BYTES)
        return _appended(await self._sequencer.submit(signed))

    async def faucet(self, request: web.Request) -> web.Response:
        body = json_object(await request.read())
        if body.keys() != {"account", "amount"}:
            raise MalformedError("a faucet request has an account and an amount")
        account, amount = body["account"], body["amount"]
        if type(account) is not str or type(amount) is not int or not 0 < amount < MAX_SIZE:
            raise MalformedError("the account is text, the amount a whole number of micro-units above zero")
        return _appended(await self._sequencer.faucet(_parse_address(account), amount))


def build_app(store: Store, sequencer: Sequencer, peers: Sequence[str]) -> web.Application:
    """The HTTP application. `peers` is read at each request, so its owner may fill it after the start."""
    routes = _Routes(store, sequencer, peers)
    app = web.Application(middlewares=[_bounded], client_max_size=MAX_OP_BYTES)
    app.router.add_get("/checkpoint", routes.checkpoint)
    app.router.add_get("/tile/{path:.+}", routes.tile)
    app.router.add_get("/info", routes.info)
    app.router.add_get("/account/{address}", routes.account)
    app.router.add_get("/session/{session}", routes.session)
    app.router.add_post("/ops", routes.submit)
    if sequencer.rules.faucet_limit > 0:
        app.router.add_post("/faucet", routes.faucet)
    return app


@web.middleware
async def _bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer within a time, and answer errors as JSON."""
    try:
        async with asyncio.timeout(_REQUEST_SECONDS):
            response = await _answer(request, handler)
            # Sent here, not by the caller, so that the time covers a client that does not read.
            await response.prepare(request)
            await response.write_eof()
            return response
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except JoulemeshError as error:
        missing = error.code in ("not-found", "unknown-session")
        return _json(error_to_json(error), status=404 if missing else status_of(error))
    except web.HTTPException as error:
        refused = RefusedError(error.reason, code="http")
        return _json(error_to_json(refused), status=error.status)


def _json(body: dict[str, Any], *, status: int = 200) -> web.Response:
    return web.json_response(body, status=status, headers=_FRESH)


def _appended(appended: Appended) -> web.Response:
    return _json({"index": appended.index, "size": appended.size})


def _parse_address(text: str) -> Address:
    with peers_fault():
        return parse_address(text)


def _parse_session(text: str) -> bytes:
    try:
        session = bytes.fromhex(text)
    except ValueError:
        session = b""
    if len(session) != 32 or session.hex() != text:
        raise MalformedError("a session id is 64 lower-case hex digits")
    return session


def _version() -> str:
    try:
        return version("joulemesh")
    except PackageNotFoundError:
        return "unknown"
