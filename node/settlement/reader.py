"""What a settlement contract's chain says of it: state at a block, events, transactions. Strictly read, and compared.

A node can lie about what its chain holds; it cannot make up a party's signature, nor marks that a session does not
have: those are the preimage of what the contract stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from node.settlement.contract import settlement_contract
from node.settlement.rpc import ChainRpc, NodeError, data_of, number_of
from protocol.chain.chain_evidence import ChainProof
from protocol.chain.contract import Contract
from protocol.chain.transaction import Transaction, transaction_hash
from protocol.errors import DishonestError, MalformedError
from protocol.identity.ids import Address
from protocol.settlement import MAX_MONEY, Account

__all__ = ["Block", "ChainReader", "SessionEvent", "Submitted"]

FIRST_RANGE = 2_000
"""Blocks that are looked through in the first question for events; twice as many in each further one."""
LEAST_RANGE, MOST_RANGE = 50, 64_000
MOST_QUESTIONS = 400
"""Of that kind, for one event."""
_EVENTS = ("Opened", "Marked", "Closed")


@dataclass(frozen=True, slots=True)
class Block:
    """A block's header, as far as it matters here."""

    number: int
    hash: bytes
    time: int
    """Unix seconds."""
    base_fee: int
    """Wei for each gas; 0 where the chain has none."""


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """What the contract said of a session in a transaction."""

    name: str
    marks: bytes
    """With ``Marked``."""
    transaction: bytes
    """Its hash."""
    block: int


@dataclass(frozen=True, slots=True)
class Submitted:
    """A transaction that a block holds."""

    sender: Address
    signed: bytes | None
    """As it was signed; None for another kind than is made here, or one that the node does not show whole."""


class ChainReader:
    """Reads one contract through one node. Every method raises UnreachableError and MalformedError."""

    def __init__(self, rpc: ChainRpc, contract: Contract) -> None:
        self._rpc = rpc
        self._contract = contract
        self._place = "0x" + contract.address.hex()
        self._range = FIRST_RANGE

    async def head(self) -> int:
        """Number of the newest block."""
        return await self._rpc.number("eth_blockNumber")

    async def block(self, which: int | bytes | str) -> Block:
        """A block by number, hash or name. DishonestError where the node shows another one."""
        if isinstance(which, bytes):
            said = await self._rpc.ask("eth_getBlockByHash", "0x" + which.hex(), False)
        else:
            name = which if isinstance(which, str) else hex(which)
            said = await self._rpc.ask("eth_getBlockByNumber", name, False)
        body = _object(said)
        base_fee = body.get("baseFeePerGas")
        block = Block(
            number_of(body.get("number"), bits=64),
            data_of(body.get("hash"), length=32),
            number_of(body.get("timestamp"), bits=40),
            0 if base_fee is None else number_of(base_fee, bits=128),
        )
        if not isinstance(which, str) and which not in (block.number, block.hash):
            raise DishonestError("the chain's node shows another block than was asked for")
        return block

    async def count(self, address: bytes, when: str) -> int:
        """How many transactions an account has sent, as of ``latest`` or ``pending``."""
        return await self._rpc.number("eth_getTransactionCount", "0x" + address.hex(), when)

    async def call(self, name: str, *values: Any, block: int | str = "latest") -> tuple[Any, ...]:
        """What a function of the contract answers."""
        abi = settlement_contract().abi
        question = {"to": self._place, "data": "0x" + abi.call(name, *values).hex()}
        answer = await self._rpc.data("eth_call", question, block if isinstance(block, str) else hex(block))
        if not answer:
            raise MalformedError("no settlement contract answers at this address")
        return abi.result(name, answer)

    async def account(self, address: bytes, block: int) -> Account:
        """An account as of a block; its nonce as of the newest one."""
        free, bond, unbonding, unlock_at = await self.call("accounts", address, block=block)
        if max(free, bond, unbonding) > MAX_MONEY:
            raise MalformedError("an account with more than a venue can count")
        nonce = await self.count(address, "latest")
        return Account(free=free, nonce=nonce, bond=bond, unbonding=unbonding, unlock_at=unlock_at)

    async def slot(self, session: bytes, block: int | str) -> bytes:
        """What the contract stores of a session (K3)."""
        stored: bytes = (await self.call("sessions", session, block=block))[0]
        return stored

    # Events

    async def last_event(self, session: bytes, newest: int, *, names: Sequence[str] = _EVENTS) -> SessionEvent | None:
        """The last of some events of a session up to a block, sought from there on backwards; None where there is none
        as far as anybody looks: a session lives for months, not for years.
        """
        topics = [["0x" + settlement_contract().abi.topic(name).hex() for name in names], "0x" + session.hex()]
        end = newest
        for _ in range(MOST_QUESTIONS):
            if end < 0:
                break
            start = max(0, end - self._range + 1)
            span = {"address": self._place, "topics": topics, "fromBlock": hex(start), "toBlock": hex(end)}
            try:
                found = await self._rpc.ask("eth_getLogs", span)
            except (NodeError, MalformedError):
                if self._range <= LEAST_RANGE:
                    raise
                self._range = max(LEAST_RANGE, self._range // 4)  # too many blocks for this node
                continue
            events = [self._event(each, session, start, end) for each in _list(found)]
            if events:
                return max(events, key=lambda each: each[0])[1]
            end, self._range = start - 1, min(MOST_RANGE, 2 * self._range)
        return None

    def _event(self, said: Any, session: bytes, start: int, end: int) -> tuple[tuple[int, int], SessionEvent]:
        body = _object(said)
        topics = [data_of(each, length=32) for each in _list(body.get("topics"))]
        block, place = number_of(body.get("blockNumber"), bits=64), number_of(body.get("logIndex"), bits=32)
        data = data_of(body.get("data"))
        known = settlement_contract().abi.event(topics, data) if len(topics) > 1 else None
        here = data_of(body.get("address"), length=20) == self._contract.address and start <= block <= end
        if known is None or not here or topics[1] != session or known[0] not in _EVENTS:
            raise MalformedError("the chain's node answers with other events than were asked for")
        marks = data if known[0] == "Marked" else b""
        return (block, place), SessionEvent(known[0], marks, data_of(body.get("transactionHash"), length=32), block)

    # Transactions

    async def transaction(self, name: bytes) -> Submitted:
        """A transaction by its hash."""
        body = _object(await self._rpc.ask("eth_getTransactionByHash", "0x" + name.hex()))
        sender = Address(data_of(body.get("from"), length=20))
        try:
            signed = _signed(body)
        except MalformedError:
            signed = b""
        return Submitted(sender, signed if transaction_hash(signed) == name else None)

    async def proof(self, signed: bytes, block: int | bytes) -> ChainProof:
        """Evidence of a transaction that a block holds."""
        found = await self.block(block)
        return ChainProof(
            transaction=signed, block=found.number, block_hash=found.hash, time=found.time, inclusion=None
        )

    async def receipt(self, name: bytes) -> dict[str, Any] | None:
        """Of a transaction; None while no block holds it."""
        said = await self._rpc.ask("eth_getTransactionReceipt", "0x" + name.hex())
        if said is None:
            return None
        body = _object(said)
        if data_of(body.get("transactionHash"), length=32) != name:
            raise DishonestError("the chain's node shows another receipt than was asked for")
        return body


def _signed(body: dict[str, Any]) -> bytes:
    to = body.get("to")
    transaction = Transaction(
        chain_id=number_of(body.get("chainId"), bits=64),
        nonce=number_of(body.get("nonce"), bits=64),
        tip=number_of(body.get("maxPriorityFeePerGas")),
        max_fee=number_of(body.get("maxFeePerGas")),
        gas=number_of(body.get("gas"), bits=64),
        to=b"" if to is None else data_of(to, length=20),
        data=data_of(body.get("input")),
    )
    parity = number_of(body.get("yParity", body.get("v")), bits=1)
    r, s = number_of(body.get("r")), number_of(body.get("s"), bits=255)
    return transaction.with_signature(r.to_bytes(32, "big") + (parity << 255 | s).to_bytes(32, "big"))


def _object(said: Any) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise MalformedError("the chain's node does not show what was asked for")
    return said


def _list(said: Any) -> list[Any]:
    if not isinstance(said, list):
        raise MalformedError("the chain's node answers with something else than a list")
    return said
