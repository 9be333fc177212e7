"""The gateway over HTTP, as OpenAI's clients speak it.

======  =========================  ========================================================================
GET     /v1/models                 what can be asked for now, with price, joules, places and licence
POST    /v1/chat/completions       an answer to a conversation, whole or streamed
POST    /v1/completions            a text that goes on, likewise
POST    /v1/files                  a file of requests; GET lists them, and shows, hands out or (DELETE) forgets one
POST    /v1/batches                answers to a file of requests, later; GET lists and shows, POST .../cancel ends one
GET     /v1/receipts/<id>          the receipt of an answer, as `joule receipt verify` reads it
======  =========================  ========================================================================

Errors have OpenAI's shape, and name the parameter that they are about. Every answer says in ``x-joule-made`` where each
of its choices was made, and names their receipts in ``x-joule-receipt``. Trust: whoever holds this process spends its
client's money, and reads what is asked through it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from node.events import Events, GatewayReady, RequestRefused
from node.gateway.answering import Market
from node.gateway.answers import MADE, READ_S, RECEIPT, Answers
from node.gateway.batches import Batches
from node.gateway.desk import Desk
from node.gateway.entrance import CALLER, Entrance, read_body
from node.gateway.guests import HEAD_S, Guest, Guests
from node.gateway.keys import Keys
from node.gateway.limits import Limits
from node.gateway.moderation import moderation
from node.gateway.refusals import ApiError, refusal_of
from node.gateway.replies import model_list
from node.gateway.shelf import Shelf
from node.gateway.wanted import read_chat, read_completion
from node.ports import Clock
from node.tasks import Tasks
from protocol.errors import JoulemeshError, ListenError

__all__ = ["Service", "ServiceSettings", "serving"]

_IDLE_S = 75.0
_MAX_HEAD_LINE_BYTES = 8 * 1024
_MAX_HEADERS = 96
_RECEIPT_ID = re.compile("([0-9a-f]{32})(-[A-Za-z0-9_-]{1,64})?", re.ASCII)
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
_REQUEST: web.RequestKey[str] = web.RequestKey("request", str)
"""The id of a request, for whoever asks why it was refused."""
_REQUEST_ID = "x-request-id"
_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """How a gateway serves."""

    folder: Path
    """Where callers' files are kept."""
    host: str = "127.0.0.1"
    port: int = 0
    names: tuple[str, ...] = ()
    """Host names under which it may be asked, besides its own."""
    origins: tuple[str, ...] = ()
    """Origins of web pages that may ask."""
    most_body: int = 8 * 1024 * 1024
    """Bytes of one request."""
    most_connections: int = 1024
    head_s: float = HEAD_S
    """Seconds for the head of a request."""
    read_s: float = READ_S
    """Seconds in which a reader has to make room for what comes next."""
    moderation: str | None = None
    """Who says which requests may be answered: a URL, or a command; None for nobody."""
    bounds: Limits = field(default_factory=Limits)
    """What holds for every request, whoever asks."""


class Service:
    """The handlers."""

    def __init__(
        self,
        market: Market,
        keys: Keys,
        entrance: Entrance,
        answers: Answers,
        desk: Desk,
        events: Events,
    ) -> None:
        self._desk = desk
        self._market = market
        self._keys = keys
        self._entrance = entrance
        self._answers = answers
        self._events = events

    def app(self, most_body: int) -> web.Application:
        """The HTTP application."""
        app = web.Application(middlewares=[self._edge], client_max_size=most_body)
        app.on_response_prepare.append(self._complete)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/v1/models/{name:.+}", self.model)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/completions", self.completion)
        app.router.add_get("/v1/receipts/{id}", self.receipt)
        self._desk.add_to(app.router)
        return app

    async def models(self, _request: web.Request) -> web.Response:
        return web.json_response(model_list(await self._market.models()))

    async def model(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        for each in model_list(await self._market.models())["data"]:
            if name in (each["id"], each["joule"]["root"]):
                return web.json_response(each)
        raise ApiError(
            404, f"nobody offers {name[:64]!r} now", kind="invalid_request_error", code="model_not_found", param="model"
        )

    async def chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answers.give(request, read_chat(await read_body(request), request.headers), request[CALLER])

    async def completion(self, request: web.Request) -> web.StreamResponse:
        wanted = read_completion(await read_body(request), request.headers)
        return await self._answers.give(request, wanted, request[CALLER])

    async def receipt(self, request: web.Request) -> web.StreamResponse:
        identity = request.match_info["id"]
        unknown = ApiError(
            404, "there is no such receipt of this key", kind="invalid_request_error", code="unknown_receipt"
        )
        if (found := _RECEIPT_ID.fullmatch(identity)) is None:
            raise unknown
        answer = found[1]
        await self._answers.settled(answer)
        file = self._market.receipt(identity)
        if not await self._keys.owns(request[CALLER].key, answer) or not await asyncio.to_thread(file.is_file):
            raise unknown
        parts = await asyncio.to_thread(_parts, file.parent, answer)
        return web.FileResponse(file, headers={hdrs.CONTENT_TYPE: "application/json", RECEIPT: ", ".join(parts)})

    # The edge of a request

    @web.middleware
    async def _edge(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let in whom may ask, and put what fails in OpenAI's shape."""
        guest = None if request.transport is None else request.transport.get_protocol()
        if isinstance(guest, Guest):
            guest.heard()
        request[_REQUEST] = f"req-{secrets.token_hex(12)}"
        try:
            return await self._admitted(request, handler)
        except ApiError as error:
            refused = RequestRefused(
                request=request[_REQUEST], code=error.code, reason=error.message, status=error.status
            )
            self._events(refused)
            return _refused(request, error)
        finally:
            if isinstance(guest, Guest):
                guest.answered()

    async def _complete(self, request: web.Request, response: web.StreamResponse) -> None:
        """What every answer says in its head, streams and files, too."""
        response.headers.update(_HEADERS)
        if _REQUEST in request:  # it came as far as the edge
            response.headers[_REQUEST_ID] = request[_REQUEST]
        response.headers.update(_allowed(request, self._entrance.origins))

    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._entrance.require_place(request)
            if request.method == hdrs.METH_OPTIONS and hdrs.ORIGIN in request.headers:
                return _preflight()
            request[CALLER] = await self._entrance.admit(request)
            return await handler(request)
        except JoulemeshError as error:
            raise refusal_of(error) from None
        except web.HTTPException as error:
            raise _of_aiohttp(request, error) from None
        except RequestPayloadError:
            raise ApiError(400, "the body is not whole", kind="invalid_request_error", code="invalid_body") from None
        except ConnectionError:
            raise ApiError(400, "the caller has gone", kind="invalid_request_error", code="gone") from None
        except (ApiError, asyncio.CancelledError):
            raise
        except Exception:  # noqa: BLE001 - the edge of a request: whatever fails must not fail others
            _log.exception("a request made the gateway fail")
            raise ApiError(500, "the gateway could not answer", kind="server_error", code="internal") from None


def _refused(request: web.Request, error: ApiError) -> web.Response:
    response = web.json_response(error.to_json(), status=error.status, headers=error.headers)
    if request.can_read_body and not request.content.at_eof():
        response.force_close()  # what nobody asked for is not read to its end
    return response


def _allowed(request: web.Request, origins: frozenset[str]) -> dict[str, str]:
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None or origin not in origins:
        return {}
    return {
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: origin,
        hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: f"{RECEIPT}, {MADE}, {_REQUEST_ID}, {hdrs.RETRY_AFTER}, x-should-retry",
        hdrs.VARY: "Origin",
    }


def _preflight() -> web.Response:
    """A web page that may ask wants to know what it may send."""
    return web.Response(
        status=204,
        headers={
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST, DELETE",
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "*, Authorization",
        },
    )


def _of_aiohttp(request: web.Request, error: web.HTTPException) -> ApiError:
    what, kind = f"{request.method} {request.path[:64]}", "invalid_request_error"
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{what} cannot be asked for; {allowed} can"
        return ApiError(405, message, kind=kind, code="method_not_allowed", allow=allowed)
    if isinstance(error, web.HTTPNotFound):
        return ApiError(404, f"there is no {what} here", kind=kind, code="unknown_url")
    code = "body_too_large" if error.status == 413 else "invalid_request"
    return ApiError(error.status, error.reason, kind=kind, code=code)


@asynccontextmanager
async def serving(
    market: Market, keys: Keys, settings: ServiceSettings, *, tasks: Tasks, clock: Clock, events: Events
) -> AsyncIterator[str]:
    """Serve until the block is left, then wait for what was begun; the URL that applications are given.

    Raises ListenError.
    """
    entrance = Entrance(keys, host=settings.host, names=settings.names, origins=settings.origins)
    answers = Answers(
        market,
        keys,
        entrance,
        bounds=settings.bounds,
        moderate=moderation(settings.moderation),
        tasks=tasks,
        clock=clock,
        events=events,
        read_s=settings.read_s,
    )
    shelf = Shelf(settings.folder)
    batches = Batches(shelf, answers, entrance, keys, tasks=tasks, clock=clock)
    service = Service(market, keys, entrance, answers, Desk(shelf, batches, clock), events)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(answers.end)
        port = await _listen(service.app(settings.most_body), settings, stack)
        url = _url_of(settings.host, port)
        events(GatewayReady(url=url, key_needed=await entrance.needs_key()))
        await batches.begin()
        stack.push_async_callback(batches.end)
        yield url


def _parts(folder: Path, answer: str) -> list[str]:
    """Names of all receipts of an answer: of one that another session or market went on with there are several."""
    return [answer, *sorted(file.stem for file in folder.glob(f"{answer}-*.json"))]


async def _listen(app: web.Application, settings: ServiceSettings, stack: AsyncExitStack) -> int:
    """Serve an application until the stack is left; the port. Raises ListenError."""
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=_IDLE_S,
        lingering_time=0,
        handler_cancellation=True,  # a caller that has gone wants no more
        max_line_size=_MAX_HEAD_LINE_BYTES,
        max_field_size=_MAX_HEAD_LINE_BYTES,
        max_headers=_MAX_HEADERS,
        shutdown_timeout=0.1,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    if runner.server is None:
        raise RuntimeError("a runner that was set up has a server")
    guests = Guests(runner.server, most=settings.most_connections, head_s=settings.head_s)
    try:
        server = await asyncio.get_running_loop().create_server(guests, settings.host, settings.port)
    except OSError as error:
        raise ListenError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}",
            hint="is another one running there? choose another --port",
        ) from error
    stack.callback(server.close)
    port: int = server.sockets[0].getsockname()[1]
    return port


def _url_of(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
