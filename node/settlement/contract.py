"""The settlement contract as it is shipped: its ABI, the code that creates it, and what it was compiled with.

``contracts/Settlement.sol`` is the source; ``npm run build`` in that folder writes ``contract.json``, and a test
compiles it again where the compiler is there.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from protocol.chain.abi import Abi

__all__ = ["ERRORS", "BuiltContract", "settlement_contract"]

ERRORS = {
    "Amount": "amount",
    "Balance": "balance",
    "Overflow": "overflow",
    "BadSignature": "bad-signature",
    "Expiry": "expiry",
    "Exists": "exists",
    "UnknownSession": "unknown-session",
    "SessionClosed": "closed",
    "Stale": "stale",
    "Mismatch": "mismatch",
    "Cap": "cap",
    "Expired": "expired",
    "NothingRises": "settled",
    "NothingFreed": "released",
    "Early": "early",
    "Bond": "bond",
    "Proof": "proof",
    "NothingStaked": "nothing-staked",
    "Transfer": "transfer",
    "Decimals": "decimals",
}
"""The contract's errors, and the codes that docs/spec/settlement.md and contract.md give them."""


@dataclass(frozen=True, slots=True)
class BuiltContract:
    """What the compiler made of the source."""

    compiler: str
    """Its version."""
    abi: Abi
    bytecode: bytes
    """Creation code; the constructor's values stand after it."""
    deployed: bytes
    """The code that lies on a chain afterwards, with zeros in the place of immutable values."""
    immutables: Mapping[str, Sequence[int]]
    """Where those stand in it, by name; each has 32 bytes."""


@functools.cache
def settlement_contract() -> BuiltContract:
    """The contract that this version of Joulemesh deploys and speaks to."""
    document = json.loads(resources.files(__package__).joinpath("contract.json").read_text())
    built = document["contracts"]["Settlement"]
    return BuiltContract(
        document["compiler"],
        Abi(built["abi"]),
        bytes.fromhex(built["bytecode"]),
        bytes.fromhex(built["deployed"]),
        built["immutables"],
    )
