"""That a block holds a transaction, shown by what any node of the chain says of the block: header, transactions and
receipts, put back into the bytes that the chain has hashed.

Nothing here is believed: what does not give the block's hash and the roots in its header shows nothing. So on a chain
whose blocks have fields or transactions of kinds that are not known here, inclusion is taken on trust.
"""

from __future__ import annotations

from typing import Any

from node.settlement.rpc import ChainRpc, data_of, number_of
from protocol.chain.chain_evidence import ChainProof, Inclusion, check_chain_proof
from protocol.chain.contract import Contract
from protocol.chain.rlp import Item, rlp
from protocol.chain.transaction import transaction_hash
from protocol.chain.trie import trie_proof
from protocol.encoding.codec import encode
from protocol.errors import JoulemeshError, MalformedError
from protocol.identity.ids import keccak256
from protocol.session.order import MAX_EVIDENCE_BYTES

__all__ = ["with_inclusion"]

_HEADER = (
    *("parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom", "#difficulty"),
    *("#number", "#gasLimit", "#gasUsed", "#timestamp", "extraData", "mixHash", "nonce"),
)
_LATER = (
    *("#baseFeePerGas", "withdrawalsRoot", "#blobGasUsed", "#excessBlobGas", "parentBeaconBlockRoot", "requestsHash"),
)
"""Fields that were added, in order: a header has the first few of them."""
_CALL = ("to", "#value", "input")
_SIGNED = ("#yParity", "#r", "#s")
_KINDS = {
    0: ("#nonce", "#gasPrice", "#gas", *_CALL, "#v", "#r", "#s"),
    1: ("#chainId", "#nonce", "#gasPrice", "#gas", *_CALL, "accessList", *_SIGNED),
    2: ("#chainId", "#nonce", "#maxPriorityFeePerGas", "#maxFeePerGas", "#gas", *_CALL, "accessList", *_SIGNED),
    3: (
        *("#chainId", "#nonce", "#maxPriorityFeePerGas", "#maxFeePerGas", "#gas", *_CALL, "accessList"),
        *("#maxFeePerBlobGas", "blobVersionedHashes", *_SIGNED),
    ),
    4: (
        *("#chainId", "#nonce", "#maxPriorityFeePerGas", "#maxFeePerGas", "#gas", *_CALL, "accessList"),
        *("authorizationList", *_SIGNED),
    ),
}
"""Fields of a transaction by its type, as JSON-RPC names them; a number has # before it."""


async def with_inclusion(rpc: ChainRpc, contract: Contract, proof: ChainProof) -> ChainProof:
    """The evidence with what shows that its block holds it; as it was where the node does not show that."""
    try:
        block = await rpc.ask("eth_getBlockByHash", "0x" + proof.block_hash.hex(), True)
        receipts = await rpc.ask("eth_getBlockReceipts", "0x" + proof.block_hash.hex())
        found = proof.replace(inclusion=_inclusion(block, receipts, transaction_hash(proof.transaction)))
        check_chain_proof(found, contract)
    except JoulemeshError:
        return proof
    return found if len(encode(found)) <= MAX_EVIDENCE_BYTES else proof


def _inclusion(block: Any, receipts: Any, name: bytes) -> Inclusion:
    try:
        listed = [_transaction(each) for each in block["transactions"]]
        number = [keccak256(each) for each in listed].index(name)
        header = rlp([_field(block, each) for each in (*_HEADER, *_present(block))])
        taken = [_receipt(each) for each in receipts]
        ways = trie_proof(listed, number), trie_proof(taken, number)
    except (KeyError, TypeError, ValueError, IndexError, RecursionError):
        raise MalformedError("the chain's node does not show the block whole") from None
    return Inclusion(header=header, number=number, transactions=ways[0], receipts=ways[1])


def _present(block: dict[str, Any]) -> list[str]:
    return [each for each in _LATER if block.get(each.removeprefix("#")) is not None]


def _transaction(said: dict[str, Any]) -> bytes:
    kind = number_of(said["type"], bits=8)
    body = rlp([_field(said, each) for each in _KINDS[kind]])
    return bytes([kind]) + body if kind else body


def _receipt(said: dict[str, Any]) -> bytes:
    kind = number_of(said["type"], bits=8)
    logs: list[Item] = [
        [data_of(each["address"]), list(map(data_of, each["topics"])), data_of(each["data"])] for each in said["logs"]
    ]
    bloom = data_of(said["logsBloom"])
    body = rlp([number_of(said["status"]), number_of(said["cumulativeGasUsed"]), bloom, logs])
    return bytes([kind]) + body if kind else body


def _field(said: dict[str, Any], name: str) -> Item:
    if name.startswith("#"):
        return number_of(said[name[1:]])
    value = said[name]
    if name == "accessList":
        return [[data_of(each["address"]), list(map(data_of, each["storageKeys"]))] for each in value]
    if name == "authorizationList":
        numbers = ("chainId", "nonce", "yParity", "r", "s")
        return [_authorization({each: number_of(one[each]) for each in numbers}, one) for one in value]
    if name == "blobVersionedHashes":
        return list(map(data_of, value))
    return b"" if value is None else data_of(value)  # of whoever creates a contract, `to` is null


def _authorization(numbers: dict[str, int], said: dict[str, Any]) -> Item:
    signed = numbers["yParity"], numbers["r"], numbers["s"]
    return [numbers["chainId"], data_of(said["address"]), numbers["nonce"], *signed]
