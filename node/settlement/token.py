"""What goes into a settlement contract: tokens that it was allowed to take."""

from __future__ import annotations

from node.settlement.deployment import ContractFacts
from node.settlement.rpc import ChainRpc
from protocol.errors import FundsError, MalformedError
from protocol.identity.ids import keccak256
from protocol.units import format_micro

__all__ = ["allowance_of", "approval", "require_tokens"]

_WORD = 32


async def _ask(rpc: ChainRpc, token: bytes, signature: str, *addresses: bytes) -> int:
    data = keccak256(signature.encode())[:4] + b"".join(each.rjust(_WORD, b"\0") for each in addresses)
    answer = await rpc.data("eth_call", {"to": "0x" + token.hex(), "data": "0x" + data.hex()}, "latest")
    if len(answer) != _WORD:
        raise MalformedError("the token does not answer as an ERC-20 token does")
    return int.from_bytes(answer, "big")


async def require_tokens(rpc: ChainRpc, facts: ContractFacts, owner: bytes, amount_micro: int) -> None:
    """Raises FundsError where an account has fewer tokens than it is to pay in."""
    has = await _ask(rpc, facts.token, "balanceOf(address)", owner) // facts.scale
    if has < amount_micro:
        raise FundsError(
            f"the account has {format_micro(has)} in tokens, {format_micro(amount_micro)} are to be paid in",
            hint=f"send it tokens of 0x{facts.token.hex()} first",
        )


async def allowance_of(rpc: ChainRpc, facts: ContractFacts, owner: bytes) -> int:
    """Units of the token that the contract may take from an account."""
    return await _ask(rpc, facts.token, "allowance(address,address)", owner, facts.contract.address)


def approval(facts: ContractFacts, units: int) -> bytes:
    """The data of a transaction to the token, by which the contract may take so many units."""
    selector = keccak256(b"approve(address,uint256)")[:4]
    return selector + facts.contract.address.rjust(_WORD, b"\0") + units.to_bytes(_WORD, "big")
