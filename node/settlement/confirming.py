"""Whether a chain holds the transactions that a receipt shows: the one thing that nothing in the receipt proves."""

from __future__ import annotations

from collections.abc import Sequence

from node.settlement.deployment import verify
from node.settlement.reader import ChainReader
from node.settlement.rpc import ChainRpc, data_of, number_of
from protocol.chain.chain_evidence import ShownCall
from protocol.chain.contract import Contract
from protocol.errors import DishonestError

__all__ = ["confirm"]


async def confirm(url: str, contract: Contract, shown: Sequence[ShownCall]) -> int:
    """Ask a node of the chain; the fewest blocks that lie on top of any of these transactions.

    Raises:
        DishonestError: it is a node of another chain, another contract lies there, or the chain does not hold one of
            them where it is said to, or has refused it.
        UnreachableError, MalformedError: the node does not answer, or not what can be read.
    """
    async with ChainRpc(url) as rpc:
        await verify(rpc, contract)
        reader = ChainReader(rpc, contract)
        newest = 0
        for each in shown:
            name, proof = f"0x{each.transaction.hex()}", each.proof
            receipt = await reader.receipt(each.transaction)
            if receipt is None or data_of(receipt.get("blockHash"), length=32) != proof.block_hash:
                raise DishonestError(f"the chain does not hold transaction {name} in block {proof.block}")
            if number_of(receipt.get("status")) != 1:
                raise DishonestError(f"the chain has refused transaction {name}")
            block = await reader.block(proof.block_hash)
            if (block.number, block.time) != (proof.block, proof.time):
                raise DishonestError(f"the receipt gives block {block.number} another number or time than it has")
            newest = max(newest, proof.block)
        return await reader.head() - newest
