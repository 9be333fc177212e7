"""Transactions as an EVM chain takes them: RLP, and the signed form of EIP-1559."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from protocol.ids import Address, keccak256
from protocol.signing import SigningKey

__all__ = ["Transaction", "created_address", "rlp"]

Item: TypeAlias = "bytes | int | Sequence[Item]"
_HIGH_BIT = 1 << 255


def rlp(item: Item) -> bytes:
    """Recursive length prefix encoding (Ethereum yellow paper, appendix B); numbers without leading zeros."""
    if isinstance(item, int):
        item = item.to_bytes((item.bit_length() + 7) // 8, "big")
    if isinstance(item, bytes):
        return item if len(item) == 1 and item[0] < 0x80 else _prefix(len(item), 0x80) + item
    joined = b"".join(rlp(each) for each in item)
    return _prefix(len(joined), 0xC0) + joined


def _prefix(length: int, base: int) -> bytes:
    if length < 56:
        return bytes([base + length])
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([base + 55 + len(size)]) + size


def created_address(sender: bytes, nonce: int) -> Address:
    """Where the contract lies that this sender's transaction of this number creates."""
    return Address(keccak256(rlp([sender, nonce]))[12:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """What one account has the chain do (EIP-1559, type 2)."""

    chain_id: int
    nonce: int
    """How many transactions the account has sent before."""
    tip: int
    """Wei for each gas that go to the proposer."""
    max_fee: int
    """Most wei for each gas, tip included."""
    gas: int
    """Most gas."""
    to: bytes
    """Whom it calls; empty to create a contract."""
    data: bytes

    def signed(self, key: SigningKey) -> bytes:
        """The bytes to submit."""
        fields: list[Item] = [self.chain_id, self.nonce, self.tip, self.max_fee, self.gas, self.to, 0, self.data, []]
        signature = key.sign_digest(keccak256(b"\x02" + rlp(fields)))
        r, y_and_s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        return b"\x02" + rlp([*fields, y_and_s >> 255, r, y_and_s & (_HIGH_BIT - 1)])
