"""The live page over HTTP, for whoever sits at this machine, or knows the password.

======  ===========  ==========================================================
GET     /            the page; /page.css, /page.js, /receipt.js, /land.svg are its parts
GET     /verify/*    the receipt verifier; /vendor/* is what it computes with
GET     /state       all that it shows, as JSON (`view.PageState`)
======  ===========  ==========================================================

Names and reasons in it are other people's words: the page writes them as text, and its policy lets no script run but
its own, nor anything be loaded from elsewhere. A page of another origin that asks for the state is refused, as is one
that has its own name point here.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import Awaitable, Callable
from importlib import resources

from aiohttp import web

from node.json_values import plain
from node.page.view import PageState
from node.screen import json_text
from protocol.errors import ListenError
from protocol.market.reach import Reach, reach_of

__all__ = ["page_app", "serve_page"]

_PARTS = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/receipt.js": ("receipt.js", "text/javascript"),
    "/land.svg": ("land.svg", "image/svg+xml"),
}
_MODULES = ("verify", "vendor")
"""Folders of the receipt verifier: its own modules, and what they compute with."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_WRONG_S = 1.0
"""Before a wrong password is answered."""
_STOP_S = 2.0

State = Callable[[], Awaitable[PageState]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def page_app(state: State, *, host: str, password: str | None) -> web.Application:
    """The page.

    Args:
        state: what it shows now.
        host: where it listens, which is one of the names that it answers to.
        password: that everybody has to give, under any name; None for a page that only this machine sees.
    """
    guard = _Guard(host, password)
    app = web.Application(middlewares=[guard.guarded], client_max_size=1024)
    for path, (name, kind) in _PARTS.items():
        content = resources.files(__package__).joinpath("assets", name).read_bytes()
        app.router.add_get(path, _constant(content, kind))
    for folder in _MODULES:
        for each in resources.files(__package__).joinpath("assets", folder).iterdir():
            if each.name.endswith(".mjs"):
                app.router.add_get(f"/{folder}/{each.name}", _constant(each.read_bytes(), "text/javascript"))

    async def shown(_request: web.Request) -> web.Response:
        return web.Response(text=json_text(plain(await state())), content_type="application/json")

    app.router.add_get("/state", shown)
    return app


def _constant(content: bytes, kind: str) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=content, content_type=kind, charset="utf-8")

    return answer


class _Guard:
    """Who may see the page."""

    def __init__(self, host: str, password: str | None) -> None:
        self._names = {"localhost", "127.0.0.1", "[::1]", host, f"[{host}]"}
        self._password = None if password is None else password.encode()
        self._waiting: set[str] = set()
        """Addresses that gave a wrong one a moment ago: what else they say meanwhile is not looked at."""

    @web.middleware
    async def guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every answer has the page's policy, refusals too."""
        try:
            refused = await self._refused(request)
            answer = await handler(request) if refused is None else refused
        except web.HTTPException as error:
            answer = web.Response(status=error.status, text=error.reason)
        answer.headers.update(_HEADERS)
        return answer

    async def _refused(self, request: web.Request) -> web.Response | None:
        if self._password is None and _name_of(request.host) not in self._names:
            return web.Response(status=421, text="this page is not at that name: open it by the address it was given")
        if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            return web.Response(status=403, text="pages of other origins see nothing here")
        if self._password is None:
            return None
        asker = request.remote or ""
        if asker in self._waiting:
            return web.Response(status=429, text="a wrong password came from there: try again in a second")
        if _given(request, self._password):
            return None
        if "Authorization" in request.headers:
            self._waiting.add(asker)
            try:
                await asyncio.sleep(_WRONG_S)
            finally:
                self._waiting.discard(asker)
        asked = {"WWW-Authenticate": 'Basic realm="Joulemesh", charset="UTF-8"'}
        return web.Response(status=401, text="the page's password is needed", headers=asked)


def _name_of(host: str) -> str:
    """Of a Host header, without its port."""
    return host if host.endswith("]") or ":" not in host else host.rpartition(":")[0]


def _given(request: web.Request, password: bytes) -> bool:
    kind, _, said = request.headers.get("Authorization", "").partition(" ")
    try:
        given = base64.b64decode(said, validate=True).partition(b":")[2] if kind.lower() == "basic" else b""
    except ValueError:  # what is not ASCII, too
        given = b""
    return hmac.compare_digest(given, password)


async def serve_page(state: State, *, host: str, port: int, password: str | None, ready: Callable[[str], None]) -> None:
    """Serve until cancelled.

    Args:
        ready: told the URL once it answers.

    Raises ListenError: the address cannot be listened at, or others could read a page without a password.
    """
    if password is None and reach_of(host) is not Reach.MACHINE:
        raise ListenError(
            f"everybody who reaches {host} could read the page", hint="give --password-file, or listen on 127.0.0.1"
        )
    runner = web.AppRunner(page_app(state, host=host, password=password), shutdown_timeout=_STOP_S, access_log=None)
    await runner.setup()
    try:
        try:
            site = web.TCPSite(runner, host, port)
            await site.start()
        except OSError as error:
            raise ListenError(f"cannot serve the page at {host} port {port}: {error.strerror or error}") from None
        at = runner.addresses[0]
        name = f"[{at[0]}]" if ":" in at[0] else at[0]
        ready(f"http://{name}:{at[1]}/")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
