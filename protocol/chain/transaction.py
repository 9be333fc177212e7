"""Transactions as an EVM chain takes them: the signed form of EIP-1559, made and read."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.chain.rlp import Item, number_of, read_rlp, rlp
from protocol.errors import MalformedError
from protocol.identity.ids import Address, keccak256
from protocol.identity.signing import SigningKey, recover

__all__ = ["Transaction", "created_address", "read_transaction", "transaction_hash"]

_HIGH_BIT = 1 << 255
_TYPE = b"\x02"
_FIELDS = 12


def created_address(sender: bytes, nonce: int) -> Address:
    """Where the contract lies that this sender's transaction of this number creates."""
    return Address(keccak256(rlp([sender, nonce]))[12:])


def transaction_hash(signed: bytes) -> bytes:
    """What a chain calls a signed transaction: 32 bytes."""
    return keccak256(signed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """What one account has the chain do (EIP-1559, type 2); it sends no coin and has no access list."""

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
        signature = key.sign_digest(keccak256(_TYPE + rlp(self._fields())))
        return self.with_signature(signature)

    def with_signature(self, signature: bytes) -> bytes:
        """The bytes to submit, with a signature of EIP-2098."""
        r, y_and_s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        return _TYPE + rlp([*self._fields(), y_and_s >> 255, r, y_and_s & (_HIGH_BIT - 1)])

    def _fields(self) -> list[Item]:
        return [self.chain_id, self.nonce, self.tip, self.max_fee, self.gas, self.to, 0, self.data, []]

    @property
    def digest(self) -> bytes:
        """What its sender signs."""
        return keccak256(_TYPE + rlp(self._fields()))


def read_transaction(signed: bytes) -> tuple[Transaction, Address]:
    """A signed transaction of the kind above, and who sent it.

    Raises MalformedError for another kind or spelling, SignatureError for a signature that is none.
    """
    items = read_rlp(signed[1:])
    if signed[:1] != _TYPE or isinstance(items, (bytes, int)) or len(items) != _FIELDS:
        raise MalformedError("no transaction of type 2")
    chain_id, nonce, tip, max_fee, gas, to, value, data, accesses, parity, r, s = items
    if not isinstance(to, bytes) or len(to) not in (0, 20) or not isinstance(data, bytes) or value or accesses != []:
        raise MalformedError("a transaction that does more than call a contract")
    transaction = Transaction(
        chain_id=number_of(chain_id, bits=64),
        nonce=number_of(nonce, bits=64),
        tip=number_of(tip),
        max_fee=number_of(max_fee),
        gas=number_of(gas, bits=64),
        to=to,
        data=data,
    )
    y, s_number = number_of(parity, bits=8), number_of(s)
    if y > 1 or s_number >= _HIGH_BIT:
        raise MalformedError("a transaction with a signature that no chain takes")
    signature = number_of(r).to_bytes(32, "big") + (y << 255 | s_number).to_bytes(32, "big")
    return transaction, recover(transaction.digest, signature)
