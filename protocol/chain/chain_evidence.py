"""Evidence from a contract on an EVM chain: the signed transaction, and the block that is said to hold it.

What is proven: who sent it, to which contract on which chain, what it asked for, and so what the contract makes of it
if it takes it. With an inclusion, also that the block with this hash holds it and has not refused it. What is not: that
this block is the chain's; whoever asks a node of the chain knows (docs/spec/contract.md, clauses K7 and K8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from protocol.chain.contract import Contract
from protocol.chain.contract_calls import ContractCall, read_call
from protocol.chain.rlp import Item, number_of, read_rlp
from protocol.chain.transaction import read_transaction, transaction_hash
from protocol.chain.trie import MAX_NODES, trie_value
from protocol.encoding.codec import Count, Message, Size, decode, message
from protocol.errors import DishonestError, MalformedError
from protocol.identity.ids import U32, U40, U64, Bytes32, keccak256
from protocol.session.messages import Session
from protocol.settlement.operations import Open

__all__ = ["ChainProof", "Inclusion", "ShownCall", "check_chain_proof", "check_opening_call"]

Node: TypeAlias = Annotated[bytes, Size(1, 34 * 1024)]
_TRANSACTIONS, _RECEIPTS, _NUMBER, _TIME = 4, 5, 8, 11
"""Places of fields in a header."""
_LEAST_FIELDS = 15
_RECEIPT_FIELDS = 4
_HASH_BYTES = 32


@message("block-inclusion/1")
class Inclusion(Message):
    """That a block holds a transaction: its header, and the way from there to the transaction and to its receipt."""

    header: Annotated[bytes, Size(1, 2048)]
    """RLP; its hash is the block's."""
    number: U32
    """Of the transaction in the block, from 0."""
    transactions: Annotated[tuple[Node, ...], Count(1, MAX_NODES)]
    """Nodes of the trie of transactions, root first."""
    receipts: Annotated[tuple[Node, ...], Count(1, MAX_NODES)]
    """Nodes of the trie of receipts, root first."""


@message("chain-proof/1")
class ChainProof(Message):
    """A transaction to the settlement contract, and where it was done."""

    transaction: Annotated[bytes, Size(1, 32 * 1024)]
    """As its sender signed it (EIP-1559, type 2)."""
    block: U64
    """Number of the block that holds it, by the word of whoever shows this."""
    block_hash: Bytes32
    """Of that block."""
    time: U40
    """Of that block, Unix seconds."""
    inclusion: Inclusion | None
    """That the block holds it; None where nobody has shown that."""


@dataclass(frozen=True, slots=True)
class ShownCall:
    """What evidence from a chain shows."""

    call: ContractCall
    transaction: bytes
    """Its hash, 32 bytes."""
    proof: ChainProof


def check_chain_proof(proof: ChainProof, contract: Contract) -> ShownCall:
    """The call that a transaction makes of this contract (clause K7).

    The caller still owes: that the block is the chain's, and without an inclusion that it holds it, not refused.

    Raises:
        MalformedError, SignatureError: no such transaction, or not in its one spelling.
        DishonestError: it is for another chain or contract, or the block does not hold it, or has refused it.
    """
    transaction, sender = read_transaction(proof.transaction)
    if (transaction.chain_id, transaction.to) != (contract.chain_id, contract.address):
        raise DishonestError("the transaction is for another chain, or another contract")
    call = read_call(transaction.data, sender, transaction.nonce)
    if proof.inclusion is not None:
        _check_inclusion(proof, proof.inclusion)
    return ShownCall(call, transaction_hash(proof.transaction), proof)


def _check_inclusion(proof: ChainProof, shown: Inclusion) -> None:
    """Clause K8. Raises MalformedError, DishonestError."""
    header = read_rlp(shown.header)
    if keccak256(shown.header) != proof.block_hash:
        raise DishonestError("the header is not that of the block that is said to hold the transaction")
    if isinstance(header, (bytes, int)) or len(header) < _LEAST_FIELDS:
        raise MalformedError("a block's header with too few fields")
    number, time = number_of(header[_NUMBER], bits=64), number_of(header[_TIME], bits=64)
    if (number, time) != (proof.block, proof.time):
        raise DishonestError("the block has another number or time than is said")
    if trie_value(_root(header[_TRANSACTIONS]), shown.number, shown.transactions) != proof.transaction:
        raise DishonestError("the block holds another transaction at this place")
    receipt = trie_value(_root(header[_RECEIPTS]), shown.number, shown.receipts)
    said = read_rlp(receipt[1:]) if receipt[:1] == proof.transaction[:1] else b""
    if isinstance(said, (bytes, int)) or len(said) != _RECEIPT_FIELDS:
        raise MalformedError("a transaction's receipt in another form")
    if said[0] != b"\x01":
        raise DishonestError("the chain has refused the transaction")


def _root(said: Item) -> bytes:
    if not isinstance(said, bytes) or len(said) != _HASH_BYTES:
        raise MalformedError("a block's header without the root of a trie")
    return said


def check_opening_call(evidence: bytes, session: Session, contract: Contract) -> ShownCall:
    """That a transaction opens a session, if the contract takes it (docs/spec/session.md, O8).

    Raises as `check_chain_proof`, and DishonestError where it opens another session.
    """
    shown = check_chain_proof(decode(evidence, ChainProof), contract)
    action = shown.call.action
    if not isinstance(action, Open) or action.session != session:
        raise DishonestError("the evidence is not of this session's opening")
    if not action.signature and action.actor != session.client:
        raise DishonestError("the session was opened by another than its client, without its signature")
    return shown
