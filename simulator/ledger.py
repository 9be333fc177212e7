"""Sessions of the event engine on the ledger's own rules: opened, paid by voucher, settled; signed by names alone.

`protocol.settlement.apply` judges every operation as a ledger does; only who signed is taken from the signature's bytes
instead of being recovered from them. So money is reserved, paid and released by the shipped rules, at a fraction of the
cost of real keys. Clients submit all operations and pay their fees, so what sites hold is what they earned.
"""

from __future__ import annotations

from typing import Any

from protocol.encoding.codec import encode
from protocol.errors import RuleError
from protocol.identity.eip712 import Domain
from protocol.identity.ids import Address
from protocol.session.messages import Leg, Session, SignedVoucher, Voucher, session_id
from protocol.session.metering import amount
from protocol.settlement import Books, apply, ledger_domain
from protocol.settlement.operations import Action, Deposit, Genesis, Open, Settle, SignedOp
from protocol.units import ceil_div

__all__ = ["NullLedger"]

_OPERATOR = Address(b"operator".ljust(20, b"\0"))
_KEY = "simulator+00000000+AA=="
_MONEY = 2**60
_EXPIRES = 3600


class NullLedger:
    """One ledger, with an account for each class of clients and each site."""

    def __init__(self, classes: tuple[str, ...], sites: int) -> None:
        self._books, self._domain, self._now, self._jobs = Books(), ledger_domain(_KEY), 1, 0
        genesis: dict[str, Any] = dict.fromkeys(("grace", "unbonding", "notice", "bond_multiple"), 0)
        self._do(_OPERATOR, Genesis, verifier_key=_KEY, faucet_limit=0, fee=1, **genesis)
        self._clients = [Address(b"c" + bytes(15) + c.to_bytes(4, "big")) for c in range(len(classes))]
        self._sites = [Address(b"p" + bytes(15) + n.to_bytes(4, "big")) for n in range(sites)]
        for client in self._clients:
            self._do(_OPERATOR, Deposit, account=client, amount=_MONEY // max(1, len(classes)), reference="")
        self._total = self._books.total

    @staticmethod
    def owed(
        tokens_in: int, tokens_out: int, price_in: int, price_out: int, used: int, held: int, opening: int = 0
    ) -> int:
        """Micro-units of a leg that ran `used` of its `held` blocks: its share of the rates, as in a route."""
        owed = amount(tokens_in, tokens_out, ceil_div(price_in * used, held), ceil_div(price_out * used, held))
        return owed + ceil_div(opening * used, held)

    def settle(self, of_class: int, legs: list[tuple[int, int]]) -> None:
        """Open a session of these sites and amounts, pay it by voucher, and settle it. Raises RuleError."""
        client, self._jobs = self._clients[of_class], self._jobs + 1
        session = Session(
            client=client,
            expiry=self._now + _EXPIRES,
            terms=bytes(32),
            salt=self._jobs.to_bytes(32, "big"),
            legs=tuple(Leg(provider=self._sites[site], cap=max(1, owed)) for site, owed in legs),
        )
        self._do(client, Open, session=session, signature=b"")
        voucher = Voucher(
            session=session_id(session),
            amounts=tuple(owed for _, owed in legs),
            tokens_in=1,
            tokens_out=1,
            receipts=bytes(32),
        )
        signed = SignedVoucher(voucher=voucher, signature=_signature(client))
        self._do(client, Settle, vouchers=(signed,))

    def earned(self) -> list[int]:
        """Micro-units that each site holds."""
        return [self._books.account(site).free for site in self._sites]

    def check(self) -> None:
        """Raise `RuleError` unless all the money is there."""
        if self._books.total != self._total:
            raise RuleError("the ledger lost or made money", code="conservation")

    def _do(self, actor: Address, kind: Any, **fields: Any) -> None:
        action: Action = kind(actor=actor, nonce=self._books.account(actor).nonce + 1, **fields)
        signed = SignedOp(action=encode(action), signature=_signature(actor))
        self._books.record(apply(self._books, self._domain, signed, self._now, _recover))


def _signature(address: Address) -> bytes:
    return bytes(address).ljust(64, b"\0")


def _recover(_domain: Domain, _message: Any, signature: bytes) -> Address:
    return Address(signature[:20])
