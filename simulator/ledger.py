"""The books of the event engine's sessions: `protocol.settlement.apply` judges every operation, as a ledger does.

Clients submit all operations and pay their fees, so what sites hold is what they earned.
"""

from __future__ import annotations

from typing import Any

from protocol.encoding.codec import encode
from protocol.errors import RuleError
from protocol.identity.ids import Address
from protocol.session.messages import Session, SignedDischarge, SignedVoucher
from protocol.settlement import Books, apply, ledger_domain
from protocol.settlement.operations import Action, Deposit, Genesis, Open, Release, Settle, SignedOp
from simulator.signers import Signers

__all__ = ["SessionLedger"]

_OPERATOR = "operator"
_LOG_KEY = "simulator+00000000+AA=="
_MONEY = 2**60


class SessionLedger:
    """One ledger, with an account for each class of clients and each site, by their names."""

    def __init__(self, signers: Signers, classes: tuple[str, ...]) -> None:
        self.domain, self._signers = ledger_domain(_LOG_KEY), signers
        self._books, self._now = Books(), 1
        genesis: dict[str, Any] = dict.fromkeys(("grace", "unbonding", "notice", "bond_multiple"), 0)
        self._do(_OPERATOR, Genesis, verifier_key=_LOG_KEY, faucet_limit=0, fee=1, **genesis)
        for name in classes:
            account = signers.address(name)
            self._do(_OPERATOR, Deposit, account=account, amount=_MONEY // len(classes), reference="")
        self._total = self._books.total()

    @property
    def now(self) -> int:
        """Seconds on its clock."""
        return self._now

    def reach(self, at_us: int) -> None:
        """It is so late now."""
        self._now = max(self._now, 1 + at_us // 1_000_000)

    def open(self, client: str, session: Session) -> None:
        """Reserve a session's caps."""
        self._do(client, Open, session=session, signature=b"")

    def settle(self, client: str, voucher: SignedVoucher, discharges: tuple[SignedDischarge, ...]) -> None:
        """Pay what a session's last voucher promises, and return what its legs do not claim."""
        self._do(client, Settle, vouchers=(voucher,))
        if discharges:
            self._do(client, Release, discharges=discharges)

    def held(self, name: str) -> int:
        """Micro-units that somebody has free."""
        return self._books.account(self._signers.address(name)).free

    def check(self) -> None:
        """Raise `RuleError` unless all the money is there, and no session holds any of it."""
        free = sum(account.free for account in self._books.accounts.values())
        if not free == self._books.total() == self._total:
            raise RuleError(
                "the ledger lost or made money, or keeps some of a session that is over", code="conservation"
            )

    def _do(self, actor: str, kind: Any, **fields: Any) -> None:
        address: Address = self._signers.address(actor)
        action: Action = kind(actor=address, nonce=self._books.account(address).nonce + 1, **fields)
        signed = SignedOp(action=encode(action), signature=self._signers.sign(self.domain, action, actor))
        self._books.record(apply(self._books, self.domain, signed, self._now, self._signers.recover))
