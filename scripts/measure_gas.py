"""Gas of the settlement contract on a real chain, in the shapes that matter: `make gas`.

Writes `contracts/gas.json`, from which a test allows half a hundredth. Needs anvil. Every account has had money before,
as is usual. A batch is of one route's sessions, as whoever is in them would claim; that of sessions which share no
provider stands beside it, for there each leg pays for a slot of its own (5,000 gas).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from anvil_chain import Chain, Deployed, deploy, running_chain, token_code, why_no_anvil
from contract_calls import as_call, claim_of, marks_of, packed, split

from node.settlement.contract import settlement_contract
from protocol.chain.contract import Contract
from protocol.identity.eip712 import Domain, sign_typed
from protocol.identity.ids import Address
from protocol.identity.signing import SigningKey
from protocol.session.messages import (
    Discharge,
    Leg,
    Session,
    SignedVoucher,
    Voucher,
    session_id,
    sign_discharge,
    sign_voucher,
)

SNAPSHOT = Path(__file__).parents[1] / "contracts" / "gas.json"
TARGETS = {
    "settle, batch of 40 sessions x 4 legs, per leg": 9_500,
    "open, 4 legs": 65_000,
    "settle, one session of 4 legs": 80_000,
    "release, 4 discharges": 60_000,
    "close after grace, 4 legs": 45_000,
}
CLIENT = SigningKey(b"\x07" * 32)
KEYS = [SigningKey((1_000 + number).to_bytes(32, "big")) for number in range(160)]
CAP = 900_000
GRACE_S = 3_600


class Market:
    """A contract with one rich client and many providers who have had money before."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.token = deploy(chain, *token_code("PlainToken"), 6)
        built = settlement_contract()
        self.settlement = deploy(chain, built.abi, built.bytecode, self.token.address, GRACE_S, 604_800)
        self.domain: Domain = Contract(chain.chain_id, Address(self.settlement.address)).domain
        self.number = 0
        self.gas: dict[str, int] = {}
        for key in (CLIENT, *KEYS):
            self.token.send(key.address, "mint", key.address, 10**12)
            self.token.send(key.address, "approve", self.settlement.address, 2**256 - 1)
            self.send(key, "deposit", 10**9)

    def send(self, key: SigningKey, name: str, *values: Any) -> int:
        receipt = self.settlement.send(key.address, name, *values)
        assert receipt["status"] == "0x1", (name, self.settlement.refusal(key.address, name, *values))
        return int(receipt["gasUsed"], 16)

    def session(self, keys: Sequence[SigningKey]) -> Session:
        self.number += 1
        return Session(
            client=CLIENT.address,
            expiry=self.chain.now + 600,
            terms=bytes.fromhex("c3") * 32,
            salt=self.number.to_bytes(32, "big").replace(b"\0", b"\x5a"),
            legs=tuple(Leg(provider=key.address, cap=CAP) for key in keys),
        )

    def opened(self, keys: Sequence[SigningKey]) -> Session:
        session = self.session(keys)
        self.send(CLIENT, "open", as_call(session))
        return session

    def voucher(self, session: Session, amount: int) -> SignedVoucher:
        voucher = Voucher(
            session=session_id(session),
            amounts=tuple(amount + index for index in range(len(session.legs))),
            tokens_in=1_500,
            tokens_out=700,
            receipts=b"\xe1" * 32,
        )
        return sign_voucher(self.domain, voucher, CLIENT)

    def claim(self, session: Session, amount: int) -> tuple[Any, ...]:
        return claim_of(session, marks_of(session), self.voucher(session, amount))

    def discharges(self, session: Session, keys: Sequence[SigningKey]) -> bytes:
        said = b""
        for index, key in enumerate(keys):
            discharge = Discharge(session=session_id(session), leg=index, amount=100_000 + index)
            said += packed(sign_discharge(self.domain, discharge, key))
        return said


def measure(chain: Chain) -> dict[str, int]:
    """Gas by what is done."""
    market, gas = Market(chain), {}
    gas["create the contract"] = _creation(market.settlement)
    gas["deposit, again"] = market.send(CLIENT, "deposit", 500)
    gas["withdraw"] = market.send(CLIENT, "withdraw", CLIENT.address, 500)
    for count in (1, 4, 8):
        session = market.session(KEYS[:count])
        gas[f"open, {count} leg{'s' * (count > 1)}"] = market.send(CLIENT, "open", as_call(session))
        paid = market.send(KEYS[0], "settle", [market.claim(session, 200_000)])
        gas[f"settle, one session of {count} leg{'s' * (count > 1)}"] = paid
    session = market.session(KEYS[:4])
    signature = split(sign_typed(market.domain, session, CLIENT))
    gas["openFor, 4 legs"] = market.send(KEYS[9], "openFor", as_call(session), signature)
    gas["release, 4 discharges"] = market.send(
        CLIENT, "release", as_call(session), marks_of(session) + market.discharges(session, KEYS[:4])
    )
    for size, spread, among in ((10, 0, ""), (40, 0, ""), (40, 4, ", each with 4 others")):
        opened = [market.opened(KEYS[spread * number : spread * number + 4]) for number in range(size)]
        paid = market.send(KEYS[0], "settle", [market.claim(session, 200_000) for session in opened])
        gas[f"settle, batch of {size} sessions x 4 legs{among}, per leg"] = round(paid / (4 * size))
    gas["stake"] = market.send(KEYS[1], "stake", 1_000)
    gas["unstake"] = market.send(KEYS[1], "unstake", 400)
    session = market.opened(KEYS[:4])
    chain.at(session.expiry + GRACE_S + 1)
    gas["close after grace, 4 legs"] = market.send(CLIENT, "close", as_call(session), marks_of(session))
    chain.at(chain.now + 604_800)
    gas["unbond"] = market.send(KEYS[1], "unbond")
    return gas


def _creation(settlement: Deployed) -> int:
    built, chain = settlement_contract(), settlement.chain
    token = settlement.ask("token")[0]
    receipt = chain.send(b"\x0e" * 20, None, built.bytecode + built.abi.creation(token, GRACE_S, 604_800))
    return int(receipt["gasUsed"], 16)


def report(gas: dict[str, int], say: Callable[[str], None]) -> bool:
    """Print every row; whether each target is met."""
    for row, amount in gas.items():
        most = TARGETS.get(row)
        say(f"{row:62} {amount:>9,}" + (f"   target {most:,}" if most else ""))
    return all(gas[row] <= most for row, most in TARGETS.items())


def main() -> int:
    if why_no_anvil():
        print(why_no_anvil())
        return 1
    with running_chain() as chain:
        gas = measure(chain)
    SNAPSHOT.write_text(json.dumps(gas, indent=2) + "\n")
    return 0 if report(gas, print) else 1


if __name__ == "__main__":
    sys.exit(main())
