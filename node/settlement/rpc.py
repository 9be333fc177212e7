"""An EVM node as others reach it: JSON-RPC over HTTP, bounded in time and size, asked again where it does not answer.

What it says is believed: whoever does not trust a node runs one. What can be compared is compared: code (`deployment`),
hashes of transactions, and the marks of sessions (`reader`).
"""

from __future__ import annotations

import asyncio
import json
import re
from types import TracebackType
from typing import Any, Self

import aiohttp

from node.settlement.contract import ERRORS, settlement_contract
from node.venue_address import shown_url
from protocol.encoding.strict_json import require_shallow
from protocol.errors import FundsError, MalformedError, RuleError, UnreachableError

__all__ = ["ChainRpc", "NodeError", "data_of", "number_of", "result_of"]

MAX_ANSWER_BYTES = 4 << 20
MAX_DEPTH = 12
"""Of brackets in an answer."""
PAUSES_S = (0.2, 1.0)
"""Before a question is asked again that found no answer."""
_NUMBER = re.compile("0x[0-9a-fA-F]{1,64}")
_DATA = re.compile("0x(?:[0-9a-fA-F]{2})*")
_REVERTED = 3
"""Code of the error for a call that the contract refuses."""


class NodeError(MalformedError):
    """A node's error that says nothing about the contract."""

    def __init__(self, said: str) -> None:
        super().__init__(f"the chain's node says: {said}")
        self.said = said.lower()


class ChainRpc:
    """A node of a chain. Use as an async context manager, or call `close`."""

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        self.url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(5, timeout_s))
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, for good."""
        self._is_closed = True
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def ask(self, method: str, *params: Any) -> Any:
        """The result of one call.

        Raises:
            UnreachableError: nobody answers in time, however often it is asked.
            RuleError: the contract refuses; the code is that of its error.
            FundsError: the sender cannot pay the gas.
            NodeError: the node answers with an error of another kind.
            MalformedError: the answer cannot be read.
        """
        for pause in PAUSES_S:
            try:
                return await self._ask(method, *params)
            except UnreachableError:
                await asyncio.sleep(pause)
        return await self._ask(method, *params)

    async def _ask(self, method: str, *params: Any) -> Any:
        if self._is_closed:
            raise UnreachableError("the connection to the chain's node was closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            async with self._session.post(self.url, json=request, allow_redirects=False) as response:
                if response.status == 429 or response.status >= 500:
                    raise UnreachableError(f"the chain's node at {shown_url(self.url)} is busy ({response.status})")
                content = await _read(response.content)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UnreachableError(
                f"no answer from the chain's node at {shown_url(self.url)} ({type(error).__name__})",
                hint="check the address, and that the node runs",
            ) from None
        return result_of(content)

    async def number(self, method: str, *params: Any) -> int:
        """A result that is a number, below 2^63."""
        return number_of(await self.ask(method, *params), bits=63)

    async def data(self, method: str, *params: Any) -> bytes:
        """A result that is bytes."""
        return data_of(await self.ask(method, *params))


async def _read(stream: aiohttp.StreamReader) -> bytes:
    content = bytearray()
    async for part in stream.iter_any():
        content += part
        if len(content) > MAX_ANSWER_BYTES:
            raise MalformedError(f"the chain's node answers with more than {MAX_ANSWER_BYTES} bytes")
    return bytes(content)


def result_of(content: bytes) -> Any:
    """What an answer says. Raises as `ChainRpc.ask`, but for UnreachableError."""
    require_shallow(content, MAX_DEPTH)
    try:
        answer = json.loads(content)
        if answer.get("error") is None:
            return answer["result"]
        error = answer["error"]
        message, code, data = str(error.get("message", ""))[:200], error.get("code"), error.get("data")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MalformedError("the chain's node answers with what is no JSON-RPC") from None
    if isinstance(data, str) and _DATA.fullmatch(data) and (name := settlement_contract().abi.error(data_of(data))):
        raise RuleError(f"the settlement contract refuses: {name}", code=ERRORS[name])
    if "insufficient funds" in message.lower():
        raise FundsError(f"the chain says: {message}", hint="send the account some of the chain's own coin, for gas")
    if code == _REVERTED or "revert" in message.lower():
        raise RuleError(f"a contract refuses: {message}", code="reverted")
    raise NodeError(message)


def number_of(said: Any, *, bits: int = 256) -> int:
    """A number as JSON-RPC writes it. Raises MalformedError."""
    if not isinstance(said, str) or not _NUMBER.fullmatch(said) or (number := int(said, 16)) >> bits:
        raise MalformedError("the chain's node answers with something else than a number")
    return number


def data_of(said: Any, *, length: int | None = None) -> bytes:
    """Bytes as JSON-RPC writes them. Raises MalformedError, also for another length."""
    if not isinstance(said, str) or not _DATA.fullmatch(said) or length not in (None, len(said) // 2 - 1):
        raise MalformedError("the chain's node answers with other bytes than were asked for")
    return bytes.fromhex(said[2:])
