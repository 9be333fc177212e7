"""Who may ask: from where, with which key, how often, how much at once."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import hdrs, web
from multidict import MultiDictProxy

from node.gateway.keys import Key, Keys
from node.gateway.refusals import ApiError, invalid

T = TypeVar("T")

__all__ = ["BODY_S", "CALLER", "Caller", "Entrance", "is_loopback", "read_body", "read_form"]

BODY_S = 30.0
"""Seconds for a whole body."""
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_KEY_NEEDED = ApiError(
    401,
    "an API key is needed: send `Authorization: Bearer KEY`; `joule gateway key new` makes one",
    kind="invalid_request_error",
    code="invalid_api_key",
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who was let in."""

    key: Key | None
    """None where none is needed."""

    @property
    def owner(self) -> str:
        """Whose answers theirs are."""
        return "" if self.key is None else self.key.id


CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)
"""Who asks, in a request that was let in."""


class Entrance:
    """Belongs to one event loop.

    Args:
        host: where the gateway listens.
        names: under which it may be asked, besides; where there are none and it listens beyond this machine, any.
        origins: of web pages that may ask.
    """

    def __init__(self, keys: Keys, *, host: str, names: tuple[str, ...], origins: tuple[str, ...]) -> None:
        self._keys = keys
        self._is_local = is_loopback(host)
        self._names = frozenset(name.lower() for name in (*names, *((*LOCAL_NAMES, host) if self._is_local else ())))
        self.origins = frozenset(origins)
        self._buckets: dict[str, tuple[float, float]] = {}
        """By key: requests left, and as of when."""
        self._running: dict[str, int] = {}
        """Answers by key that run now."""

    def require_place(self, request: web.Request) -> None:
        """Refuse web pages from elsewhere, and names that are not this gateway's (a page may have them point here).

        Raises ApiError.
        """
        host = _name_of(request.headers.get(hdrs.HOST, ""))
        if self._names and host not in self._names:
            raise _forbidden("host_not_allowed", "this gateway is not asked under that name; see --name")
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and origin not in self.origins:
            raise _forbidden("origin_not_allowed", "web pages from there may not ask this gateway; see --web-origin")

    async def needs_key(self) -> bool:
        """Whether nobody is let in without a key."""
        return not self._is_local or await self._keys.any()

    async def admit(self, request: web.Request) -> Caller:
        """Who asks. Raises ApiError for nobody whom this gateway knows, and whoever asks too often."""
        said = request.headers.getall(hdrs.AUTHORIZATION, [])
        if not await self.needs_key():
            return Caller(None)
        scheme, _, text = (said[0] if len(said) == 1 else "").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise _KEY_NEEDED
        caller = Caller(await self._keys.find(text.strip()))
        self.count(caller)
        return caller

    def count(self, caller: Caller) -> None:
        """Count a request: a bucket that holds a minute's, and fills up steadily. Raises ApiError where it is empty."""
        key = caller.key
        if key is None or (rate := key.terms.rate) is None:
            return
        now = time.monotonic()
        left, seen = self._buckets.get(key.id, (float(rate), now))
        left = min(rate, left + (now - seen) * rate / 60)
        if left < 1:
            self._buckets[key.id] = (left, now)
            wait_s = max(1, round((1 - left) * 60 / rate + 0.5))
            raise _too_many(f"this API key may ask {rate} times in a minute", wait_s)
        self._buckets[key.id] = (left - 1, now)

    @contextmanager
    def running(self, caller: Caller, answers: int) -> Iterator[None]:
        """While answers are given. Raises ApiError where the key has too many already, or may never have so many."""
        most, now = None if caller.key is None else caller.key.terms.at_once, self._running.get(caller.owner, 0)
        if most is not None and answers > most:
            raise invalid("n", f"this API key may have {most} answers at once")
        if most is not None and now + answers > most:
            raise _too_many(f"this API key may have {most} answers at once", 1)
        self._running[caller.owner] = now + answers
        try:
            yield
        finally:
            self._running[caller.owner] -= answers
            if not self._running[caller.owner]:
                del self._running[caller.owner]


async def read_body(request: web.Request) -> bytes:
    """The body of a request, of JSON. Raises ApiError for one that is too large, too slow, or something else."""
    if request.content_type != "application/json":
        raise ApiError(
            415, "send JSON, as application/json", kind="invalid_request_error", code="unsupported_media_type"
        )
    return await _bounded(request.read())


async def read_form(request: web.Request) -> MultiDictProxy[str | bytes | bytearray | web.FileField]:
    """The fields of a form with a file. Raises ApiError as `read_body`."""
    if request.content_type != "multipart/form-data":
        raise ApiError(415, "send a form", kind="invalid_request_error", code="unsupported_media_type")
    try:
        return await _bounded(request.post())
    except ValueError:
        raise ApiError(400, "the form is not whole", kind="invalid_request_error", code="invalid_body") from None


async def _bounded(reading: Coroutine[Any, Any, T]) -> T:
    try:
        async with asyncio.timeout(BODY_S):
            return await reading
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(
            413, "the body is larger than this gateway takes", kind="invalid_request_error", code="body_too_large"
        ) from None
    except TimeoutError:
        raise ApiError(
            408, f"the body took longer than {BODY_S:.0f} s", kind="invalid_request_error", code="body_too_slow"
        ) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _name_of(host: str) -> str:
    """Of a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _forbidden(code: str, message: str) -> ApiError:
    return ApiError(403, message, kind="invalid_request_error", code=code)


def _too_many(message: str, wait_s: int) -> ApiError:
    return ApiError(429, message, kind="rate_limit_exceeded", code="rate_limit_exceeded", retry_s=wait_s)
