"""Evidence from a contract on an EVM chain: the signed transaction, and the block that is said to hold it.

What is proven: who sent it, to which contract on which chain, what it asked for, and so what the contract makes of it
if it takes it. What is not: that this block holds it, and that it was not refused there; whoever asks a node of the
chain knows (docs/spec/contract.md, clause K7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from protocol.codec import Message, Size, decode, message
from protocol.contract import Contract
from protocol.contract_calls import ContractCall, read_call
from protocol.errors import DishonestError
from protocol.ids import U40, U64, Bytes32
from protocol.messages import Session
from protocol.operations import Open
from protocol.transaction import read_transaction, transaction_hash

__all__ = ["ChainProof", "ShownCall", "check_chain_proof", "check_opening_call"]


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


@dataclass(frozen=True, slots=True)
class ShownCall:
    """What evidence from a chain shows."""

    call: ContractCall
    transaction: bytes
    """Its hash, 32 bytes."""
    proof: ChainProof


def check_chain_proof(proof: ChainProof, contract: Contract) -> ShownCall:
    """The call that a transaction makes of this contract (clause K7).

    The caller still owes: that the block is the chain's and holds it, not refused.

    Raises:
        MalformedError, SignatureError: no such transaction, or not in its one spelling.
        DishonestError: it is for another chain or contract.
    """
    transaction, sender = read_transaction(proof.transaction)
    if (transaction.chain_id, transaction.to) != (contract.chain_id, contract.address):
        raise DishonestError("the transaction is for another chain, or another contract")
    call = read_call(transaction.data, sender, transaction.nonce)
    return ShownCall(call, transaction_hash(proof.transaction), proof)


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
