"""A settlement contract on a test chain, with a token that anyone mints, as the venue of parties with keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anvil_chain import Chain, Deployed, deploy, token_code

from node.ports import Clock
from node.settlement.contract import settlement_contract
from node.settlement.evm import ChainSettings, EvmVenue
from node.venue_address import VenueAddress
from protocol.chain.contract import Contract
from protocol.identity.ids import Address
from protocol.identity.signing import SigningKey

COIN = 10**18


@dataclass(frozen=True, slots=True)
class ChainMarket:
    """A chain with a token and a settlement contract."""

    chain: Chain
    token: Deployed
    settlement: Deployed

    @property
    def address(self) -> VenueAddress:
        return VenueAddress(Contract(self.chain.chain_id, Address(self.settlement.address)), self.chain.url)

    def venue(self, folder: Path, clock: Clock, *, url: str | None = None, **changes: Any) -> EvmVenue:
        """The venue of a process with this folder; nothing is waited for longer than a test has patience."""
        settings = ChainSettings(**{"confirmations": 0, "patience_s": 20.0, **changes})
        address = VenueAddress(self.address.contract, url or self.chain.url)
        return EvmVenue(address, folder=folder / "chains", clock=clock, settings=settings)

    def endow(self, key: SigningKey, tokens_micro: int = 0) -> None:
        """Give a key's account coin for gas, and tokens."""
        self.chain.ask("anvil_setBalance", "0x" + key.address.hex(), hex(100 * COIN))
        if tokens_micro:
            scale: int = self.settlement.ask("scale")[0]
            self.token.send(key.address, "mint", key.address, tokens_micro * scale)

    def tokens_of(self, address: bytes) -> int:
        """Micro-units in tokens."""
        units: int = self.token.ask("balanceOf", address)[0]
        return units // int(self.settlement.ask("scale")[0])


def make_market(
    chain: Chain, *, grace_s: int, decimals: int = 6, unbonding_s: int = 3600, kind: str = "PlainToken"
) -> ChainMarket:
    """A new token, and a new contract that counts in it."""
    built = settlement_contract()
    token = deploy(chain, *token_code(kind), decimals)
    settlement = deploy(chain, built.abi, built.bytecode, token.address, grace_s, unbonding_s)
    return ChainMarket(chain, token, settlement)
