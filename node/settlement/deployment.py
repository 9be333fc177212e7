"""Putting the settlement contract on a chain, and finding out whether what lies there is it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from node.settlement.contract import settlement_contract
from node.settlement.rpc import ChainRpc, data_of
from node.settlement.sending import Sender
from node.venue_address import shown_url
from protocol.chain.contract import Contract
from protocol.errors import DishonestError, MalformedError
from protocol.identity.ids import Address, keccak256
from protocol.identity.signing import SigningKey

__all__ = ["ContractFacts", "deploy", "facts", "verify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractFacts:
    """What a settlement contract fixed for good, and what it holds."""

    contract: Contract
    token: bytes
    """The token that it counts in."""
    scale: int
    """Units of the token in a micro-unit."""
    grace_s: int
    """Seconds after a session's expiry in which vouchers are redeemed."""
    unbonding_s: int
    """Seconds that a stake waits before it is free."""
    burned: int
    """Micro-units that penalties took from everybody."""
    balance: int
    """Micro-units in tokens that lie in it."""
    block: int
    """Number of the block that this is read at."""


async def deploy(
    rpc: ChainRpc, sender: Sender, key: SigningKey, *, token: bytes, grace_s: int, unbonding_s: int
) -> Contract:
    """Create the contract. Raises RuleError ``decimals`` for a token that has neither 6 nor 18, and as `Sender.do`."""
    built = settlement_contract()
    done = await sender.do(key, b"", built.bytecode + built.abi.creation(token, grace_s, unbonding_s))
    address = Address(data_of(done.receipt.get("contractAddress"), length=20))
    return Contract(await rpc.number("eth_chainId"), address)


async def facts(rpc: ChainRpc, contract: Contract) -> ContractFacts:
    """What the contract says of itself, at one block. Raises DishonestError for another chain, and as `ChainRpc`."""
    await _require_chain(rpc, contract)
    block = await rpc.number("eth_blockNumber")

    async def read(name: str) -> Any:
        return (await _call(rpc, contract.address, settlement_contract().abi.call(name), name, block))[0]

    names = ("token", "scale", "grace", "unbonding", "burned")
    # to the end: no question outlives the others
    found: list[Any] = await asyncio.gather(*map(read, names), return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    token, scale, grace_s, unbonding_s, burned = found
    question = keccak256(b"balanceOf(address)")[:4] + contract.address.rjust(32, b"\0")
    held = await rpc.data("eth_call", {"to": "0x" + token.hex(), "data": "0x" + question.hex()}, hex(block))
    return ContractFacts(
        contract=contract,
        token=token,
        scale=scale,
        grace_s=grace_s,
        unbonding_s=unbonding_s,
        burned=burned,
        balance=int.from_bytes(held, "big") // max(1, scale),
        block=block,
    )


async def verify(rpc: ChainRpc, contract: Contract) -> ContractFacts:
    """That the code at the address is this version's, down to every value that its creation put there.

    Raises DishonestError where it is not, and as `facts`.
    """
    await _require_chain(rpc, contract)
    built = settlement_contract()
    code = await rpc.data("eth_getCode", "0x" + contract.address.hex(), "latest")
    if not code:
        raise DishonestError("no contract lies at this address", code="no-contract")
    said = await facts(rpc, contract) if len(code) == len(built.deployed) else None
    if said is None or code != _expected(said):
        raise DishonestError(
            "another contract lies at this address", code="other-contract", hint="use none of which you do not know"
        )
    return said


def _expected(said: ContractFacts) -> bytes:
    """The code that a contract with these facts has."""
    domain, built = said.contract.domain, settlement_contract()
    words = {
        "token": said.token.rjust(32, b"\0"),
        "scale": said.scale.to_bytes(32, "big"),
        "grace": said.grace_s.to_bytes(32, "big"),
        "unbonding": said.unbonding_s.to_bytes(32, "big"),
        "_cachedDomainSeparator": domain.separator,
        "_cachedChainId": domain.chain_id.to_bytes(32, "big"),
        "_cachedThis": said.contract.address.rjust(32, b"\0"),
        "_hashedName": keccak256(domain.name.encode()),
        "_hashedVersion": keccak256(domain.version.encode()),
        "_name": _short(domain.name),
        "_version": _short(domain.version),
    }
    code = bytearray(built.deployed)
    for name, places in built.immutables.items():
        for place in places:
            code[place : place + 32] = words[name]
    return bytes(code)


def _short(text: str) -> bytes:
    """OpenZeppelin's form of a short text: its bytes, and its length in the last one."""
    return text.encode().ljust(31, b"\0") + bytes([len(text)])


async def _require_chain(rpc: ChainRpc, contract: Contract) -> None:
    found = await rpc.number("eth_chainId")
    if found != contract.chain_id:
        raise DishonestError(
            f"{shown_url(rpc.url)} is a node of chain {found}, not of {contract.chain_id}", code="other-chain"
        )


async def _call(rpc: ChainRpc, contract: Address, question: bytes, name: str, block: int) -> tuple[Any, ...]:
    call = {"to": "0x" + contract.hex(), "data": "0x" + question.hex()}
    answer = await rpc.data("eth_call", call, hex(block))
    if not answer:
        raise MalformedError(f"no settlement contract answers at this address ({name})")
    return settlement_contract().abi.result(name, answer)
