"""What a market asks of a ledger, without end: routes are opened, paid by a voucher, and given back by their legs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count, islice

from protocol.identity.eip712 import Domain
from protocol.identity.ids import Address
from protocol.identity.signing import SigningKey
from protocol.session.messages import Discharge, Leg, Session, Voucher, session_id, sign_discharge, sign_voucher
from protocol.settlement.operations import Action, Deposit, Open, Release, Settle, SignedOp, Withdraw, sign_op

__all__ = ["MIXES", "NOW", "OPERATOR", "Load"]

OPERATOR = SigningKey(b"\x01" * 32)
NOW = 1_800_000_000
PARTIES = 256
LEGS = 2
MIXES = ("jobs", "withdrawals")
_MUCH = 10**15


class Load:
    """Signed operations of so many parties for one ledger; `deposits` come first.

    Args:
        mix: ``jobs``, of three operations with six signatures each, or ``withdrawals``, with one signature each.
    """

    def __init__(self, domain: Domain, mix: str, parties: int = PARTIES) -> None:
        self._domain = domain
        self._keys = [SigningKey((10**6 + number).to_bytes(32, "big")) for number in range(parties)]
        self._nonces: dict[Address, int] = defaultdict(int)
        self._stream = {"jobs": self._jobs, "withdrawals": self._withdrawals}[mix]()

    def deposits(self, nonce: int = 2) -> Iterator[SignedOp]:
        """What the parties begin with."""
        for number, key in enumerate(self._keys):
            yield self._signed(
                OPERATOR,
                Deposit(actor=OPERATOR.address, nonce=nonce + number, account=key.address, amount=_MUCH, reference=""),
            )

    def take(self, operations: int) -> list[SignedOp]:
        """The next ones; each is good once those before it are in the ledger."""
        return list(islice(self._stream, operations))

    def _signed(self, key: SigningKey, action: Action) -> SignedOp:
        return sign_op(self._domain, key, action)

    def _nonce(self, key: SigningKey) -> int:
        self._nonces[key.address] += 1
        return self._nonces[key.address]

    def _withdrawals(self) -> Iterator[SignedOp]:
        for number in count():
            key = self._keys[number % len(self._keys)]
            yield self._signed(key, Withdraw(actor=key.address, nonce=self._nonce(key), amount=1, reference="bench"))

    def _jobs(self) -> Iterator[SignedOp]:
        for number in count():
            client, *legs = (self._keys[(number * (1 + LEGS) + each) % len(self._keys)] for each in range(1 + LEGS))
            yield from self._job(number, client, legs)

    def _job(self, number: int, client: SigningKey, legs: Sequence[SigningKey]) -> Iterator[SignedOp]:
        session = Session(
            client=client.address,
            expiry=NOW + 600,
            terms=bytes(32),
            salt=number.to_bytes(32, "big"),
            legs=tuple(Leg(provider=key.address, cap=1_000) for key in legs),
        )
        identity, paid = session_id(session), (10,) * len(legs)
        opened = Open(actor=client.address, nonce=self._nonce(client), session=session, signature=b"")
        yield self._signed(client, opened)
        voucher = Voucher(session=identity, amounts=paid, tokens_in=1, tokens_out=1, receipts=bytes(32))
        signed = sign_voucher(self._domain, voucher, client)
        redeemer = legs[-1]
        settled = Settle(actor=redeemer.address, nonce=self._nonce(redeemer), vouchers=(signed,))
        yield self._signed(redeemer, settled)
        words = tuple(
            sign_discharge(self._domain, Discharge(session=identity, leg=leg, amount=10), key)
            for leg, key in enumerate(legs)
        )
        yield self._signed(client, Release(actor=client.address, nonce=self._nonce(client), discharges=words))
