"""What one leg can claim: the vouchers that it takes, how far they let it work, and what it gives up at the end.

It decides and keeps nothing safe: whoever uses it writes a voucher down before it counts (clause V6).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace

from protocol.errors import MalformedError, StaleError, UnpaidError
from protocol.identity.eip712 import Domain, Recover, recover_typed
from protocol.identity.ids import BlockSpan
from protocol.session.messages import Discharge, Session, SignedVoucher, check_voucher, session_id
from protocol.session.metering import NEVER, Stint, earned, payable, positions_of, window_count
from protocol.session.terms import Terms

__all__ = ["VOUCHERS_A_WINDOW", "Claim"]

VOUCHERS_A_WINDOW = 4
"""Vouchers that a leg takes for each window of the plan: a client signs one as a window's receipts come in, and one or
two as its tokens do (clause V8).
"""


class Claim:
    """One leg's side of a session's money.

    Args:
        leg: index in the session.
        first: the voucher in the order, which `order.check_order` has accepted.
        start: first position that the leg computes, where the session continues another one; see `begin`.
        recover: finds who signed a voucher.
    """

    def __init__(
        self,
        domain: Domain,
        session: Session,
        terms: Terms,
        leg: int,
        first: SignedVoucher,
        *,
        start: int = 0,
        recover: Recover = recover_typed,
    ) -> None:
        self.stint = Stint(cached=start) if leg < len(terms.route) else NEVER
        """Which positions this leg serves."""
        self.span: BlockSpan | None = None
        """The blocks that it serves, where that is only a part of those in its terms."""
        self.positions_paid = 0
        """Positions that the newest voucher pays for."""
        self.may_process = 0
        """Positions that may be processed now (docs/spec/session.md, clause S5); asked for with every row."""
        self.best = first
        """The voucher that promises this leg most."""
        self.newest = first
        self._domain = domain
        self._recover = recover
        self._session = session
        self._terms = terms
        self._leg = leg
        self._first = first
        self._taken = 0
        self._anew = False
        """Whether the next voucher may pay for the same positions as the one before: after a reroute, and after the
        first one of a session that continues another.
        """
        self._most = VOUCHERS_A_WINDOW * window_count(terms.plan)
        self.count(first)
        self._anew = terms.continues is not None

    @property
    def amount(self) -> int:
        """Micro-units that the best voucher promises."""
        return self.best.voucher.amounts[self._leg]

    def _pay(self, positions: int) -> None:
        self.positions_paid = positions
        self.may_process = payable(self._terms.plan, self._terms.credit, positions)

    def owed(self, positions: int, *, late: int = 0, rejected: int = 0) -> int:
        """Micro-units that this leg has earned once the session stands at `positions`."""
        return earned(
            self._terms,
            self._session,
            self._leg,
            self.stint,
            positions,
            span=self.span,
            late=late,
            rejected=rejected,
        )

    def begin(self, start: int) -> None:
        """The client has attached, and said at which position this leg begins to compute: what comes before is sold as
        cached. The first voucher counts for as many positions as it pays at that.
        """
        self.stint = Stint(cached=start)
        self._pay(self._paid_by(self.newest))

    def reroute(self, stint: Stint, span: BlockSpan) -> None:
        """The route has changed: what this leg serves now, and of which blocks; what it held at the start stays.

        The next voucher may pay for the same positions anew.
        """
        called = self.stint == NEVER
        self.stint, self._anew = replace(stint, cached=self.stint.cached), True
        self.span = None if span == self._terms.legs[self._leg].span else span
        self._most += VOUCHERS_A_WINDOW
        if called:  # what it was promised as a standby pays for none of what it has to compute
            self._pay(0)

    def check(self, signed: SignedVoucher, *, late: int = 0, rejected: int = 0, last: bool = False) -> SignedVoucher:
        """Hold a voucher against the rules (docs/spec/session.md, clauses V1 to V5); the one to keep safe before it
        counts: it, or the best so far.

        Args:
            late: tokens that this leg has signed were late.
            rejected: rows that it computed for nothing.
            last: the answer is over: this one may pay for fewer tokens than one before did ahead of time.

        Raises:
            MalformedError, SignatureError: V1 to V3, or more tokens than were ordered.
            StaleError: pays for no more tokens than an earlier one, or is one of too many.
            UnpaidError: pays this leg less than those tokens cost.
        """
        check_voucher(self._domain, self._session, signed, self._recover)
        voucher, plan = signed.voucher, self._terms.plan
        # V4: no more tokens than were ordered, more than before, and not bit by bit: each costs a write to the disk.
        if voucher.tokens_in > plan.prompt or voucher.tokens_out > plan.most:
            raise MalformedError("the voucher pays for more tokens than were ordered")
        positions = positions_of(plan, voucher.tokens_in, voucher.tokens_out)
        fewest = self.positions_paid + (0 if self._anew else 1)
        if positions < fewest and not last:
            raise StaleError("the voucher pays for no more tokens than an earlier one")
        if self._taken >= self._most and not last:
            raise StaleError(f"the voucher is one more than the {self._most} that pay for all windows")
        # V5: this leg gets what they cost.
        price = self.owed(positions, late=late, rejected=rejected)
        if voucher.amounts[self._leg] < price:
            raise UnpaidError(f"the voucher pays {voucher.amounts[self._leg]} micro-units where {price} are owed")
        return self._better(signed)

    def count(self, signed: SignedVoucher) -> None:
        """Make a voucher that was checked the newest."""
        self.newest = signed
        self._pay(self._paid_by(signed))
        self.best = self._better(signed)
        self._taken += 1
        self._anew = False

    def _paid_by(self, signed: SignedVoucher) -> int:
        """Positions that a voucher pays for: all that it names, but for the first one of a session that continues
        another, which is signed before anybody knows what the leg still holds.
        """
        voucher = signed.voucher
        named = positions_of(self._terms.plan, voucher.tokens_in, voucher.tokens_out)
        if self._terms.continues is None or signed is not self._first:
            return named
        return bisect_right(range(1, named + 1), voucher.amounts[self._leg], key=self.owed)

    def _better(self, signed: SignedVoucher) -> SignedVoucher:
        return signed if signed.voucher.amounts[self._leg] >= self.amount else self.best

    def discharge(self, positions: int, *, late: int = 0, rejected: int = 0) -> Discharge:
        """What to sign once nothing more is served: it claims what it has earned, as far as a voucher promises it."""
        claimed = min(self.owed(positions, late=late, rejected=rejected), self.amount)
        return Discharge(session=session_id(self._session), leg=self._leg, amount=claimed)

    def redeemable(self, claimed: int) -> SignedVoucher:
        """The voucher to redeem after a discharge of `claimed` micro-units: no larger a promise than that needs."""
        return self.newest if self.newest.voucher.amounts[self._leg] >= claimed else self.best
