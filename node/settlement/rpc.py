"""An EVM node as others reach it: JSON-RPC over HTTP, bounded in time and size.

What it says is believed: whoever does not trust a node runs one. Only what it says of code is compared (`deployment`).
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from node.settlement.contract import ERRORS, settlement_contract
from node.settlement.transactions import Transaction
from protocol.errors import FundsError, InvalidError, MalformedError, RuleError, UnreachableError
from protocol.ids import Address, checksum_address, parse_address
from protocol.signing import SigningKey

__all__ = ["ChainRpc", "VenueAddress", "parse_venue"]

MAX_ANSWER_BYTES = 4 << 20
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class VenueAddress:
    """A settlement contract and the node through which it is reached."""

    chain_id: int
    contract: Address
    url: str

    def __str__(self) -> str:
        return f"evm:{self.chain_id}:{checksum_address(self.contract)}@{self.url}"


def parse_venue(text: str) -> VenueAddress:
    """Read ``evm:<chain id>:<contract>@<rpc url>``. Raises InvalidError."""
    place, at, url = text.partition("@")
    kind, _, rest = place.partition(":")
    chain, _, contract = rest.partition(":")
    known = url.startswith(("http://", "https://"))
    if kind != "evm" or not at or not chain.isascii() or not chain.isdecimal() or len(chain) > 18 or not known:
        raise InvalidError(
            f"{text!r} names no settlement contract",
            hint="write evm:CHAIN_ID:CONTRACT@URL, as `joule contract deploy` prints it",
        )
    return VenueAddress(int(chain), parse_address(contract), url)


class ChainRpc:
    """A node of a chain. Use as an async context manager."""

    def __init__(self, url: str, *, timeout_s: float = 20.0) -> None:
        self.url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(5, timeout_s))
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, method: str, *params: Any) -> Any:
        """The result of one call.

        Raises:
            UnreachableError: nobody answers in time.
            RuleError: the contract refuses; the code is that of its error.
            FundsError: the sender cannot pay the gas.
            MalformedError: the answer cannot be read, or is an error of another kind.
        """
        if self._session is None:
            raise RuntimeError("used outside of its context")
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            async with self._session.post(self.url, json=request) as response:
                content = await response.content.read(MAX_ANSWER_BYTES + 1)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UnreachableError(
                f"no answer from the chain's node at {self.url} ({type(error).__name__})",
                hint="check the address, and that the node runs",
            ) from None
        return _result(content)

    async def number(self, method: str, *params: Any) -> int:
        """A result that is a number."""
        result = await self.ask(method, *params)
        try:
            return int(result, 16)
        except (TypeError, ValueError):
            raise MalformedError(f"the chain's node answers {method} with no number") from None

    async def data(self, method: str, *params: Any) -> bytes:
        """A result that is bytes."""
        return _bytes(await self.ask(method, *params))

    async def send(self, key: SigningKey, to: bytes, data: bytes, *, wait_s: float = 180.0) -> dict[str, Any]:
        """Sign a transaction, submit it, and wait for its block; its receipt.

        Raises as `ask`, RuleError where it is in a block and was refused there, and UnreachableError where it is in no
        block in time.
        """
        sender = "0x" + key.address.hex()
        call = {"from": sender, "data": "0x" + data.hex(), **({"to": "0x" + to.hex()} if to else {})}
        gas = await self.number("eth_estimateGas", call)
        transaction = Transaction(
            chain_id=await self.number("eth_chainId"),
            nonce=await self.number("eth_getTransactionCount", sender, "pending"),
            tip=(tip := await self.number("eth_maxPriorityFeePerGas")),
            max_fee=2 * await self.number("eth_gasPrice") + tip,
            gas=gas + gas // 5,
            to=to,
            data=data,
        )
        name = await self.ask("eth_sendRawTransaction", "0x" + transaction.signed(key).hex())
        receipt = None
        for _ in range(int(wait_s / _POLL_S)):
            if receipt := await self.ask("eth_getTransactionReceipt", name):
                break
            await asyncio.sleep(_POLL_S)
        else:
            raise UnreachableError(f"transaction {name} is in no block after {wait_s:.0f} s")
        if not isinstance(receipt, dict):
            raise MalformedError("the chain's node shows no receipt")
        if receipt.get("status") != "0x1":
            raise RuleError(f"transaction {name} was refused in its block", code="reverted")
        return receipt


def _result(content: bytes) -> Any:
    try:
        answer = json.loads(content)
        if "error" not in answer:
            return answer["result"]
        error = answer["error"]
        message, data = str(error.get("message", ""))[:200], error.get("data")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MalformedError("the chain's node answers with what is no JSON-RPC") from None
    if isinstance(data, str) and (name := settlement_contract().abi.error(_bytes(data))):
        raise RuleError(f"the settlement contract refuses: {name}", code=ERRORS[name])
    if "insufficient funds" in message.lower():
        raise FundsError(f"the chain says: {message}", hint="send the account some of the chain's own coin, for gas")
    raise MalformedError(f"the chain's node says: {message}")


def _bytes(said: Any) -> bytes:
    try:
        return bytes.fromhex(said.removeprefix("0x"))
    except (AttributeError, ValueError, TypeError):
        raise MalformedError("the chain's node answers with no bytes") from None
