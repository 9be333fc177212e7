"""What a client owes in one job: the tokens that came, the receipts that hold, and the voucher that follows from them.

It decides; `client` performs. Paying early hides the round trip at each window's end: half a window may be paid before
its receipts are in, never more than one window beyond the last one that was checked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from protocol.eip712 import Domain
from protocol.errors import DishonestError, MalformedError
from protocol.frames import Receipted, SampledToken
from protocol.ids import keccak256
from protocol.messages import Session, Voucher, session_id
from protocol.metering import Plan, served, window_end
from protocol.receipt import SignedReceipt, check_receipt, check_window, receipts_root

__all__ = ["AcceptedReceipt", "Tab"]

AcceptedReceipt = tuple[SignedReceipt, bytes]
"""A receipt and the 128-byte sketch that it names."""


class Tab:
    """Counts one session from the client's side.

    Args:
        prompt: token ids, at least one.
        stop_tokens: ids that end the answer.
    """

    def __init__(
        self, terms: Session, domain: Domain, plan: Plan, prompt: Sequence[int], stop_tokens: Sequence[int]
    ) -> None:
        self.terms = terms
        self.session = session_id(terms)
        self.plan = plan
        self.tokens = list(prompt)
        """The whole sequence so far, prompt first."""
        self.windows: list[tuple[AcceptedReceipt, ...]] = []
        """Receipts that hold, one tuple a window, first leg first."""
        self.ended = False
        """True once the answer is complete: a stop token came, or the last allowed one."""
        self._domain = domain
        self._stop_tokens = frozenset(stop_tokens)
        self._verified = 0
        self._paid = (0, 0)
        self._waiting: list[deque[AcceptedReceipt]] = [deque() for _ in terms.legs]

    @property
    def generated(self) -> int:
        """Tokens that came."""
        return len(self.tokens) - self.plan.prompt

    @property
    def complete(self) -> bool:
        """Whether the answer is complete and every leg's receipts cover all of it."""
        return self.ended and self._verified == self.plan.prompt + self.generated - 1

    @property
    def paid(self) -> tuple[int, int]:
        """Counts of the newest voucher."""
        return self._paid

    def take_token(self, token: SampledToken) -> None:
        """Raises DishonestError for a token out of place or one too many."""
        if self.ended or token.position != len(self.tokens):
            raise DishonestError(f"a token for position {token.position} where {len(self.tokens)} is next")
        self.tokens.append(token.token)
        self.ended = token.token in self._stop_tokens or self.generated == self.plan.most

    def take_receipt(self, leg: int, frame: Receipted, sketch: bytes) -> None:
        """Book a receipt; once every leg's receipt for a window is in, hold them against one another.

        Raises:
            SignatureError, DishonestError: the receipt does not hold, or contradicts a neighbour's.
            MalformedError: more receipts than there are windows.
        """
        signed = SignedReceipt(receipt=frame.receipt, signature=frame.signature)
        if frame.receipt.leg != leg:
            raise DishonestError(f"leg {leg} sent a receipt of leg {frame.receipt.leg}")
        check_receipt(self._domain, self.terms, signed)
        if keccak256(sketch) != frame.receipt.fingerprint:
            raise DishonestError(f"leg {leg} revealed another sketch than it signed")
        if len(self._waiting[leg]) > 2:
            raise MalformedError(f"leg {leg} sends receipts for windows that were never paid")
        self._waiting[leg].append((signed, sketch))
        while all(self._waiting):
            self._check(tuple(queue[0] for queue in self._waiting))
            for queue in self._waiting:
                queue.popleft()

    def _check(self, window: tuple[AcceptedReceipt, ...]) -> None:
        end = window_end(self.plan, self._verified)
        if self.ended:
            end = min(end, self.plan.prompt + self.generated - 1)
        receipts = [signed.receipt for signed, _ in window]
        if served(self.plan, end)[1] > self.generated:
            raise DishonestError("the receipts count more tokens than came")
        check_window(self.plan, self._verified, end, self.tokens, receipts, self.session)
        self.windows.append(window)
        self._verified = end

    def next_voucher(self) -> Voucher | None:
        """The voucher that is due now, None when nothing more is."""
        prompt = self.plan.prompt
        if self._verified < prompt:
            due = (window_end(self.plan, self._verified), 0)
        else:
            verified_out = self._verified - prompt + 1
            early = self.generated - self._paid[1] >= max(1, self.plan.window // 2)
            ahead = min(self.generated, verified_out + self.plan.window) if early else 0
            due = (prompt, max(verified_out, ahead, self._paid[1]))
        return self._voucher(due) if due != self._paid else None

    def last_voucher(self, *, honest: bool) -> Voucher:
        """The voucher that ends the job.

        It pays the tokens that came, but none further than one window beyond the last receipts that hold: tokens alone
        prove no work. Where a leg lied it pays no more than was paid already.
        """
        if honest and self.generated and self._paid[0] == self.plan.prompt:
            most = served(self.plan, self._verified)[1] + self.plan.window
            return self._voucher((self.plan.prompt, max(min(self.generated, most), self._paid[1])))
        return self._voucher(self._paid)

    def _voucher(self, counts: tuple[int, int]) -> Voucher:
        self._paid = counts
        receipts = [signed for window in self.windows for signed, _ in window]
        return Voucher(
            session=self.session, tokens_in=counts[0], tokens_out=counts[1], receipts=receipts_root(receipts)
        )
