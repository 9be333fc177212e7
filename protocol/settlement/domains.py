"""What signatures for an embedded ledger carry: its EIP-712 domain (docs/spec/settlement.md, clause L2)."""

from __future__ import annotations

from protocol.identity.eip712 import Domain
from protocol.identity.ids import Address, keccak256

__all__ = ["LEDGER_CHAIN_ID", "domain_at", "ledger_domain"]

LEDGER_CHAIN_ID = 0x6A6F756C65
"""``joule`` in ASCII: the chain id of every embedded ledger. Wallets refuse 0, and this one is no chain's."""


def ledger_domain(verifier_key: str) -> Domain:
    """The domain of the embedded ledger that signs its checkpoints with `verifier_key`."""
    return domain_at(Address(keccak256(b"tlog:" + verifier_key.encode())[12:]))


def domain_at(ledger: Address) -> Domain:
    """The domain of the embedded ledger with this verifying contract."""
    return Domain(chain_id=LEDGER_CHAIN_ID, verifying_contract=ledger)
