"""The ledger as a service over HTTP: signed operations in; checkpoint, tiles and entries out (https://c2sp.org/tlog-tiles).

======  ==============================  =====================================================================
GET     /checkpoint                     newest signed note
GET     /tile/<L>/<N>[.p/<W>]           hash tile
GET     /tile/entries/<N>[.p/<W>]       entries
GET     /info                           who runs it, under which rules, where its peers are; proves the genesis entry
GET     /account/<0x address>           balance, and the entry that proves it
GET     /session/<hex id>               amounts, and the entries that opened a session and last changed it
GET     /entry/<index>                  an entry
GET     /offers                         offers that the ledger's own peer has heard, as peers hand them out (`offers`)
GET     /providers                      who was paid here in the most sessions, by the ledger's word
GET     /accounts, /sessions            all of them, a page at a time (`pages`)
GET     /consistency                    nothing more than every answer holds
POST    /ops                            one signed operation; answers with its entry, once that is durable
POST    /faucet                         play money, where the ledger was begun with a faucet
======  ==============================  =====================================================================

Each answer in JSON ends in a checkpoint, and proves that this continues those of the sizes that ``?known=`` names: one
request tells a reader all that it has to verify (`client`). With ``?witnesses=N&by=ID`` it is one that N of these
witnesses have cosigned, where there is one in time (`cosigning`). The ledger can delay or refuse; what it cannot do is
forge an operation, or change the log unseen. Operations, and answers with cosignatures, are the writer's: a front end
that stands by refuses them (`front`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from node.ip_group import origin_of
from node.ledger.cosigning import Cosigning, wanted_of
from node.ledger.door import Guest
from node.ledger.front import Front
from node.ledger.offers import OfferPages
from node.ledger.pages import Pages, page_of
from node.ledger.published import Head, Published
from node.ledger.rates import Buckets, Rates, TooOftenError
from node.ledger.wire import (
    MAX_KNOWN,
    MAX_OP_BYTES,
    Answer,
    LedgerInfo,
    Place,
    account_to_json,
    error_to_json,
    providers_to_json,
    read_object,
    status_of,
)
from protocol.encoding.codec import decode
from protocol.encoding.strict_json import exact_keys, int_text
from protocol.errors import JoulemeshError, LocalError, MalformedError, RefusedError, SignatureError, peers_fault
from protocol.identity.ids import Address, parse_address
from protocol.log.tiles import Tile, encode_bundle, parse_tile_path
from protocol.settlement import Account
from protocol.settlement.operations import SignedOp

__all__ = ["build_app"]

_REQUEST_SECONDS = 30
"""Longest that an answer may take; slow readers and writers are cut off sooner (`door`)."""
_DEAR = ("/tile/entries/", "/offers")
_PAGES = ("/accounts", "/sessions")
_FIRST_REQUESTS = 5
"""Of a connection: what a newcomer asks before it is served."""
_FIRST_DELAY_S, _DELAY_S = 0.1, 0.5
"""A request waits so long at an address that asks too often."""
_BUNDLE_COUNTS = 8
"""Requests that one for a bundle of entries, or a page of anything, counts as: it costs as much."""
_FAUCETS_AT_ONCE = 64
"""Requests for play money that the writer is handed at once, so that operations find room beside them."""
_MAX_FAUCET_BYTES = 1024

_IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable"}
"""Tiles never change: one that has grown has another path."""
_FRESH = {"Cache-Control": "no-store"}

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Routes:
    """The handlers, around the front end that takes operations, and shows what has become of them."""

    def __init__(self, front: Front, rates: Rates, cosigning: Cosigning, pages: Pages) -> None:
        self._cosigning = cosigning
        self._pages = pages
        self._front = front
        self._published: Published = front.published
        self._by_address = Buckets(rates.address, time.monotonic)
        self._by_key = Buckets(rates.key, time.monotonic)
        self._by_guest = Buckets(rates.guest, time.monotonic)
        self._by_proven = Buckets(rates.proven, time.monotonic)
        self._faucets = Buckets(rates.faucet, time.monotonic)
        self._faucet = asyncio.Semaphore(_FAUCETS_AT_ONCE)

    @web.middleware
    async def limited(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Delay, then refuse, whoever asks too often; who has paid for an operation is counted alone."""
        guest = guest_of(request)
        if guest.proven:
            self._by_proven.take(guest.number)
            return await handler(request)
        try:
            self._by_address.take(origin_of(request.remote or ""), _weight(request))
        except TooOftenError:
            with guest.being_delayed():
                await asyncio.sleep(_FIRST_DELAY_S if guest.served < _FIRST_REQUESTS else _DELAY_S)
            self._by_guest.take(guest.number)
        return await handler(request)

    # Static files of the log

    async def checkpoint(self, _request: web.Request) -> web.Response:
        note = self._cosigning.newest.note
        return web.Response(body=note, content_type="text/plain", charset="utf-8", headers=_FRESH)

    async def tile(self, request: web.Request) -> web.Response:
        try:
            tile = parse_tile_path(request.path.removeprefix("/"))
        except MalformedError as error:
            raise RefusedError(error.message, code="not-found") from None
        body = await (self._bundle(tile) if tile.level is None else self._published.tile(tile))
        if body is None:
            raise RefusedError("the log does not reach that far", code="not-found")
        response = web.Response(body=body, content_type="application/octet-stream", headers=_IMMUTABLE)
        if tile.level is None:
            response.headers["Vary"] = "Accept-Encoding"
            if _takes_gzip(request.headers.get("Accept-Encoding", "")):
                response.enable_compression(web.ContentCoding.gzip)
        return response

    async def _bundle(self, tile: Tile) -> bytes | None:
        entries = await self._published.bundle(tile)
        return None if entries is None else encode_bundle(entries)

    # Answers that prove what they say

    async def info(self, request: web.Request) -> web.Response:
        rules, (in_force, coming) = self._published.rules
        info = LedgerInfo(
            verifier_key=rules.verifier_key,
            operator=rules.operator,
            grace_s=rules.grace_s,
            faucet_limit=rules.faucet_limit,
            fee=rules.fee,
            unbonding_s=rules.unbonding_s,
            notice_s=rules.notice_s,
            bond_multiple=rules.bond_multiple,
            coming=rules.coming,
            peers=tuple(self._front.peers),
            version=_version(),
        )
        places = {"genesis": 0, "rules": in_force, "notice": coming}
        return await self._answer(request, info.to_json(), places)

    async def account(self, request: web.Request) -> web.Response:
        row = self._published.account(_parse_address(request.match_info["address"]))
        account, entry = (Account(), None) if row is None else (row.account, row.entry)
        return await self._answer(request, account_to_json(account), {"entry": entry})

    async def session(self, request: web.Request) -> web.Response:
        row = await self._published.session(_parse_session(request.match_info["session"]))
        if row is None:
            raise RefusedError("no such session on this ledger", code="unknown-session")
        said = {
            "settled": [str(amount) for amount in row.record.settled],
            "ceilings": [str(amount) for amount in row.record.ceilings],
        }
        return await self._answer(request, said, {"opened": row.opened, "latest": row.entry})

    async def entry(self, request: web.Request) -> web.Response:
        return await self._answer(request, {}, {"entry": int_text(request.match_info["index"])})

    async def consistency(self, request: web.Request) -> web.Response:
        return await self._answer(request, {}, {})

    async def providers(self, request: web.Request) -> web.Response:
        rows = self._published.most_paid()
        return await self._answer(request, {"providers": providers_to_json(rows)}, {})

    async def accounts(self, request: web.Request) -> web.Response:
        return await self._answer(request, {"accounts": await self._pages.accounts(page_of(request.query))}, {})

    async def sessions(self, request: web.Request) -> web.Response:
        return await self._answer(request, {"sessions": await self._pages.sessions(page_of(request.query))}, {})

    async def submit(self, request: web.Request) -> web.Response:
        self._front.require_writer()
        known = _known(request)
        signed = decode(await request.read(), SignedOp, limit=MAX_OP_BYTES)
        actor = signed.read().actor
        self._by_key.check(actor)
        try:
            index = await self._front.submit(signed)
        except JoulemeshError as error:
            # Whoever has not signed it must not use up the key's share.
            if not isinstance(error, SignatureError):
                self._by_key.take(actor)
            raise
        self._by_key.take(actor)
        guest_of(request).proven = True
        return await self._answer(request, {}, {"entry": index}, known)

    async def faucet(self, request: web.Request) -> web.Response:
        self._faucets.take(origin_of(request.remote or ""))
        known = _known(request)
        body = exact_keys(read_object(await request.read(), limit=_MAX_FAUCET_BYTES), "account", "amount")
        amount = int_text(body["amount"])
        if type(body["account"]) is not str or amount == 0:
            raise MalformedError("the account is text, the amount the text of a number of micro-units above zero")
        async with self._faucet:
            index = await self._front.faucet(_parse_address(body["account"]), amount)
        return await self._answer(request, {}, {"entry": index}, known)

    async def _answer(
        self,
        request: web.Request,
        said: Mapping[str, Any],
        places: Mapping[str, int | None],
        known: Sequence[int] | None = None,
    ) -> web.Response:
        """All under one checkpoint: what is said, the entries at `places`, the way from what the reader knows."""
        known = _known(request) if known is None else known
        await self._front.reach(max(known, default=0))
        size = self._published.head.checkpoint.size
        needed = [1 + index for index in places.values() if index is not None and index < size]
        reach = max([*needed, *(each for each in known if each <= size)], default=0)
        wanted = wanted_of(request.query.get("witnesses"), request.query.getall("by", []))
        if wanted is not None:
            self._front.require_writer()  # which alone asks witnesses
        head = await self._cosigning.head_for(wanted, reach)
        proven = {name: await self._place(index, head) for name, index in places.items()}
        continues = {
            size: await self._published.prove_continues(size, head) for size in known if size <= head.checkpoint.size
        }
        return _json(Answer(head.note, continues, {**said, **proven}).to_json())

    async def _place(self, index: int | None, head: Head) -> dict[str, Any] | None:
        if index is None:
            return None
        shown = await self._published.prove(index, head)
        return Place(shown.index, shown.entry, shown.proof).to_json()


def build_app(
    front: Front,
    rates: Rates,
    cosigning: Cosigning,
    pages: Pages,
    offers: OfferPages | None = None,
) -> web.Application:
    """The HTTP application."""
    routes = _Routes(front, rates, cosigning, pages)
    app = web.Application(middlewares=[_bounded, routes.limited], client_max_size=MAX_OP_BYTES)
    app.router.add_get("/checkpoint", routes.checkpoint)
    app.router.add_get("/tile/{path:.+}", routes.tile)
    app.router.add_get("/info", routes.info)
    app.router.add_get("/account/{address}", routes.account)
    app.router.add_get("/session/{session}", routes.session)
    app.router.add_get("/entry/{index}", routes.entry)
    app.router.add_get("/providers", routes.providers)
    app.router.add_get("/accounts", routes.accounts)
    app.router.add_get("/sessions", routes.sessions)
    app.router.add_get("/consistency", routes.consistency)
    app.router.add_post("/ops", routes.submit)
    if offers is not None:
        app.router.add_get("/offers", offers.answer)
    if front.published.rules[0].faucet_limit > 0:
        app.router.add_post("/faucet", routes.faucet)
    return app


@web.middleware
async def _bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer within a time, and answer errors as JSON."""
    try:
        guest = guest_of(request)
        if guest.is_ahead:
            guest.leave()  # no honest client asks again before it is answered
        await request.read()  # up to `client_max_size`; until then it counts as no request
    except web.HTTPException as error:
        return _refusal(error)
    except (ConnectionError, RequestPayloadError):
        return web.Response(status=400)  # it has gone, or sent what is no body
    with guest.being_served():
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                response = await _answer(request, handler)
                # Sent here, not by the caller, so that the time covers a client that does not read.
                await response.prepare(request)
                await response.write_eof()
                return response
        except (TimeoutError, ConnectionError):
            guest.leave()
            return web.Response(status=503)


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except JoulemeshError as error:
        response = _json(error_to_json(error), status=status_of(error))
        if isinstance(error, TooOftenError):
            response.headers["Retry-After"] = str(error.wait_s)
        return response
    except web.HTTPException as error:
        return _refusal(error)
    except (TimeoutError, ConnectionError):
        raise
    except Exception:  # noqa: BLE001 - the edge of a request: whatever fails here must not fail the others
        _log.exception("a request made the ledger fail")
        return _json(error_to_json(LocalError("the ledger could not answer", code="internal")), status=500)


def _refusal(error: web.HTTPException) -> web.Response:
    return _json(error_to_json(RefusedError(error.reason, code="http")), status=error.status)


def _weight(request: web.Request) -> int:
    return _BUNDLE_COUNTS if request.path.startswith(_DEAR) or request.path in _PAGES else 1


def guest_of(request: web.Request) -> Guest:
    """The connection that a request came through. Raises ConnectionError where it has ended."""
    guest = None if request.transport is None else request.transport.get_protocol()
    if not isinstance(guest, Guest):
        raise ConnectionResetError("the asker has gone")
    return guest


def _json(body: dict[str, Any], *, status: int = 200) -> web.Response:
    return web.json_response(body, status=status, headers=_FRESH)


def _known(request: web.Request) -> tuple[int, ...]:
    """The sizes that the reader knows checkpoints of."""
    said = request.query.getall("known", [])
    if len(said) > MAX_KNOWN:
        raise MalformedError(f"more than {MAX_KNOWN} sizes known")
    sizes = tuple(map(int_text, said))
    if 0 in sizes:
        raise MalformedError("nothing can be proven of the empty log")
    return sizes


def _takes_gzip(header: str) -> bool:
    """Whether ``Accept-Encoding`` names gzip, and not to refuse it."""
    for part in header.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


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
