"""A settlement contract by name: which chain it is on, and where."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import MalformedError
from protocol.identity.eip712 import Domain
from protocol.identity.ids import Address, checksum_address, parse_address

__all__ = ["Contract"]

_MAX_CHAIN_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Contract:
    """A settlement contract, wherever it is reached."""

    chain_id: int
    address: Address

    def __str__(self) -> str:
        return f"evm:{self.chain_id}:{checksum_address(self.address)}"

    @classmethod
    def parse(cls, text: str) -> Contract:
        """Read ``evm:<chain id>:<contract>``. Raises InvalidError or MalformedError."""
        kind, _, rest = text.partition(":")
        chain, _, address = rest.partition(":")
        known = chain.isascii() and chain.isdecimal() and len(chain) <= _MAX_CHAIN_DIGITS
        if kind != "evm" or not known or str(int(chain)) != chain:
            raise MalformedError(f"{text[:80]!r} names no settlement contract")
        return cls(int(chain), parse_address(address))

    @property
    def domain(self) -> Domain:
        """What typed signatures for it carry (docs/spec/contract.md, K1)."""
        return Domain(chain_id=self.chain_id, verifying_contract=self.address)
