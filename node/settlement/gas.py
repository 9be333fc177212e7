"""What gas costs, how much a call takes, and how much of it is allowed here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from node.settlement.rpc import ChainRpc, NodeError, number_of
from protocol.errors import LocalError, MalformedError
from protocol.units import ceil_div

__all__ = ["GWEI", "Gas", "Price"]

GWEI = 10**9
COIN = 10**18
"""Wei in one coin of the chain."""
MOST_GAS = 15_000_000
"""Of one transaction: more than any call that is made here, and than a node may talk somebody into."""
SETTLE_GAS = 150_000
"""That an operation takes, roughly: a settlement of one session, or of some."""
PRICE_S = 30.0
"""Seconds for which the price of gas is remembered where it is only weighed."""
_RAISE_PERCENT = 13
"""Nodes replace a transaction by one that pays an eighth more."""


@dataclass(frozen=True, slots=True)
class Price:
    """Wei for each gas."""

    tip: int
    """Of it, for the proposer."""
    max_fee: int
    """At most, tip included."""


class Gas:
    """Belongs to one event loop.

    Args:
        most: wei that a gas may cost.
        coin_micro: micro-units that one coin of the chain is worth; 0 where gas is not weighed.
    """

    def __init__(self, rpc: ChainRpc, *, most: int, coin_micro: int = 0) -> None:
        self._rpc = rpc
        self._most = most
        self._coin_micro = coin_micro
        self._weighed: tuple[float, int] | None = None

    async def price(self) -> Price:
        """To pay now. Raises LocalError, code ``gas-price``, where the chain asks for more than is allowed."""
        base, tip = await self._asked()
        if base + tip > self._most:
            raise LocalError(
                f"gas costs {(base + tip) / GWEI:.3g} gwei, more than is allowed here",
                code="gas-price",
                hint="wait, or raise max_gas_price",
            )
        return Price(tip, min(self._most, 2 * base + tip))

    async def raised(self, before: Price) -> Price:
        """More than was offered before, and enough for now. Raises LocalError as `price`."""
        base, tip = await self._asked()
        least = Price(_more(before.tip), _more(before.max_fee))
        tip = max(tip, least.tip)
        price = Price(tip, max(2 * base + tip, least.max_fee))
        if price.max_fee > self._most:
            price = Price(min(tip, self._most), self._most)
        if price.max_fee < least.max_fee or price.tip < least.tip:
            raise LocalError("gas costs more than is allowed here", code="gas-price", hint="raise max_gas_price")
        return price

    async def _asked(self) -> tuple[int, int]:
        block = await self._rpc.ask("eth_getBlockByNumber", "latest", False)
        if not isinstance(block, dict):
            raise MalformedError("the chain's node shows no newest block")
        base = number_of(block.get("baseFeePerGas", "0x0"), bits=128)
        try:
            tip = number_of(await self._rpc.ask("eth_maxPriorityFeePerGas"), bits=128)
        except NodeError:  # a node without that question
            tip = max(0, number_of(await self._rpc.ask("eth_gasPrice"), bits=128) - base)
        return base, tip

    async def limit(self, sender: bytes, to: bytes, data: bytes) -> int:
        """What a call takes, and a quarter more: the state may change before its block.

        Raises RuleError where the contract would refuse it, FundsError where the sender cannot pay.
        """
        call: dict[str, Any] = {"from": "0x" + sender.hex(), "data": "0x" + data.hex()}
        if to:
            call["to"] = "0x" + to.hex()
        gas = number_of(await self._rpc.ask("eth_estimateGas", call), bits=64)
        if gas > MOST_GAS:
            raise LocalError(f"the chain's node says that this takes {gas} gas, which cannot be", code="gas-limit")
        return gas + ceil_div(gas, 4)

    async def cost_micro(self) -> int:
        """Micro-units that an operation costs in gas, roughly; 0 where gas is not weighed."""
        if self._coin_micro == 0:
            return 0
        now = time.monotonic()
        if self._weighed is None or now - self._weighed[0] > PRICE_S:
            base, tip = await self._asked()
            self._weighed = now, base + tip
        return ceil_div(SETTLE_GAS * self._weighed[1] * self._coin_micro, COIN)


def _more(wei: int) -> int:
    return wei + ceil_div(wei * _RAISE_PERCENT, 100) + 1
