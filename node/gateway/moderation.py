"""Asking somebody else whether a request may be answered: a command, or a URL. Where nobody says, it is not answered.

Either is told ``{"model": ..., "input": [TEXT, ...]}`` in JSON and says ``{"flagged": true or false, "reason": TEXT}``,
or what OpenAI's moderation endpoint says. A command reads and writes its standard streams, and sees none of our
environment but where programs are.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from node.gateway.refusals import ApiError
from node.gateway.wanted import Wanted
from protocol.encoding.strict_json import require_shallow
from protocol.errors import MalformedError

__all__ = ["Moderate", "moderation", "verdict_of"]

PATIENCE_S = 10.0
MOST_SAID = 64 * 1024
MOST_DEPTH = 24
"""Brackets that are open at once in a verdict."""
AT_ONCE = 16
"""Commands that run together."""

Moderate = Callable[[Wanted], Awaitable[None]]
"""Raises ApiError for a request that may not be answered."""


def moderation(by: str | None) -> Moderate:
    """What a setting says: a URL, a command with its arguments, or nobody."""
    if by is None:
        return _nobody
    if by.startswith(("http://", "https://")):
        return _Asker(lambda question: _url(by, question))
    command, places = shlex.split(by), asyncio.Semaphore(AT_ONCE)

    async def run(question: bytes) -> bytes:
        async with places:
            return await _command(command, question)

    return _Asker(run)


async def _nobody(_wanted: Wanted) -> None:
    return


class _Asker:
    """Puts the question, and reads what is said."""

    def __init__(self, ask: Callable[[bytes], Awaitable[bytes]]) -> None:
        self._ask = ask

    async def __call__(self, wanted: Wanted) -> None:
        texts = [turn.content for turn in wanted.messages] if wanted.raw is None else [wanted.raw]
        question = json.dumps({"model": wanted.model, "input": texts}, ensure_ascii=False).encode()
        try:
            async with asyncio.timeout(PATIENCE_S):
                flagged, reason = verdict_of(await self._ask(question))
        except (TimeoutError, OSError, ValueError, aiohttp.ClientError):
            raise ApiError(
                503,
                "whoever says what may be asked here does not answer",
                kind="server_error",
                code="moderation_unavailable",
                retry_s=5,
            ) from None
        if flagged:
            raise ApiError(
                400,
                reason or "this may not be asked here",
                kind="invalid_request_error",
                code="content_policy_violation",
                param="messages" if wanted.is_chat else "prompt",
            )


def verdict_of(answer: bytes) -> tuple[bool, str]:
    """Whether it is flagged, and why. Raises ValueError."""
    try:
        require_shallow(answer, MOST_DEPTH)
    except MalformedError as error:
        raise ValueError(error.message) from None
    match json.loads(answer):
        case {"flagged": bool(flagged), "reason": str(reason)}:
            return flagged, reason.encode(errors="replace").decode()[:500]
        case {"flagged": bool(flagged)}:
            return flagged, ""
        case {"results": [*results]} if results:
            return any(_flagged(each) for each in results), ""
    raise ValueError("it does not say whether")


def _flagged(said: Any) -> bool:
    match said:
        case {"flagged": bool(flagged)}:
            return flagged
    raise ValueError("it does not say whether")


async def _url(url: str, question: bytes) -> bytes:
    async with (
        aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as http,
        http.post(url, data=question, allow_redirects=False) as response,
    ):
        if response.status != 200:
            raise ValueError(f"status {response.status}")
        return await response.content.read(MOST_SAID)


async def _command(command: list[str], question: bytes) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", os.defpath)},
    )
    try:
        said, _ = await process.communicate(question)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise ValueError(f"status {process.returncode}")
    return said
