"""One question to a server: bounded in bytes and time, and sent on nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

import aiohttp

from node.tariff.documents import MAX_FILE_BYTES
from protocol.errors import MalformedError, UnreachableError

__all__ = ["ANSWER_S", "fetch"]

ANSWER_S = 30.0
"""Seconds for a whole answer."""


async def fetch(
    session: aiohttp.ClientSession,
    url: str,
    *,
    parameters: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    answer_s: float = ANSWER_S,
) -> bytes:
    """The body of an answer; empty for 204. No error names the query or the headers: a token may be in them.

    Raises:
        UnreachableError: nobody answers in time, or the server says that it cannot.
        MalformedError: it sends on to elsewhere, or more than `MAX_FILE_BYTES`.
    """
    host = urlsplit(url).netloc.rpartition("@")[2]
    try:
        async with asyncio.timeout(answer_s):
            async with session.get(url, params=parameters, headers=headers, allow_redirects=False) as answer:
                if 300 <= answer.status < 400:
                    to = urlsplit(urljoin(url, answer.headers.get("Location", ""))).hostname
                    raise MalformedError(
                        f"{host} sends this on to {to}, which nobody named", hint="put the new address into the tariff"
                    )
                if answer.status >= 400:
                    hint = "is the token right?" if answer.status in (401, 403) else None
                    raise UnreachableError(f"{host} answers with status {answer.status}", hint=hint)
                return await _body(answer, host)
    except TimeoutError:
        raise UnreachableError(f"{host} does not answer within {answer_s:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise UnreachableError(f"{host} does not answer: {type(error).__name__}") from None


async def _body(answer: aiohttp.ClientResponse, host: str) -> bytes:
    if (answer.content_length or 0) > MAX_FILE_BYTES:
        raise MalformedError(f"{host} sends {answer.content_length} bytes, and {MAX_FILE_BYTES} are allowed")
    read = bytearray()
    async for piece in answer.content.iter_chunked(64 * 1024):
        read += piece
        if len(read) > MAX_FILE_BYTES:
            raise MalformedError(f"{host} sends more than the {MAX_FILE_BYTES} bytes that are allowed")
    return bytes(read)
