"""What a client owes in one job: the tokens that came, the receipts that hold, the vouchers that follow from them.

It decides; whoever uses it sends and keeps. Paying ahead hides the way to the legs: a voucher pays at most one window
of tokens beyond those that came, and at most one window more than the plan has ahead beyond the last one that every leg
has signed for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from protocol.errors import DishonestError, InvalidError, MalformedError
from protocol.identity.eip712 import Domain, Recover, recover_typed
from protocol.identity.ids import BlockSpan
from protocol.session.continuing import continued
from protocol.session.draws import NonceChain
from protocol.session.frames import Draw, SampledToken
from protocol.session.logprobs import check_said, unpack_said
from protocol.session.messages import Session, SignedReceipt, Voucher, session_id
from protocol.session.metering import (
    earned,
    first_stints,
    last_position,
    paid_limit,
    served,
    spans,
    stints,
    window_end,
)
from protocol.session.order import Acceptance
from protocol.session.receipt import NO_RECEIPTS, Accepted
from protocol.session.receipt_book import ReceiptBook
from protocol.session.terms import Reroute, Terms, route_at
from protocol.units import ceil_div

__all__ = ["Tab", "first_voucher"]


def first_voucher(session: Session, terms: Terms) -> Voucher:
    """The voucher that goes with the order: each leg's opening charge, and the first window (clause O7)."""
    plan, identity = terms.plan, session_id(session)
    positions = window_end(plan, 0)
    counts = served(plan, positions)
    first = enumerate(first_stints(terms))
    amounts = tuple(earned(terms, session, leg, stint, positions) for leg, stint in first)
    return Voucher(session=identity, amounts=amounts, tokens_in=counts[0], tokens_out=counts[1], receipts=NO_RECEIPTS)


class Tab:
    """Counts one session from the client's side.

    Args:
        acceptances: of the legs, by their index in the session; a leg that has not accepted is owed nothing.
        chain: the client's nonces; its anchor is the terms'.
        prompt: token ids, at least one.
        stop_tokens: ids that end the answer.
        vocabulary: of the model: ids are below it.
        recover: finds who signed a receipt.
    """

    def __init__(
        self,
        session: Session,
        terms: Terms,
        domain: Domain,
        *,
        acceptances: dict[int, Acceptance],
        chain: NonceChain,
        prompt: Sequence[int],
        stop_tokens: Sequence[int],
        vocabulary: int,
        recover: Recover = recover_typed,
    ) -> None:
        self.session = session
        self.terms = terms
        self.id = session_id(session)
        self.tokens = list(prompt)
        """The whole sequence so far, prompt first."""
        self.said: list[bytes] = []
        """Log probabilities of the generated tokens, where the terms ask for them (`logprobs.unpack_said`)."""
        self.ended = False
        """True once the answer is complete: a stop token came, or the last allowed one."""
        anchors = {leg: each.nonces for leg, each in acceptances.items()}
        self.joinings = continued(terms, acceptances)
        """How the legs of the terms' route begin, first leg first."""
        self._starts = tuple(each.start for each in self.joinings)
        base = self.joinings[0].base
        self.book = ReceiptBook(
            domain, session, terms, anchors, chain.nonce, base=base, starts=self._starts, recover=recover
        )
        self.reroutes: list[Reroute] = []
        self.sealed_reroutes: list[bytes] = []
        """As the client sealed them."""
        self.closing: tuple[Accepted, ...] = ()
        """The receipts after the last window, first leg first; empty until they are in."""
        self._chain = chain
        self._stop_tokens = frozenset(stop_tokens)
        self._vocabulary = vocabulary
        self._accepted = set(acceptances)
        self._stints = stints(terms, (), self._starts, base=base)
        self._waiting: dict[int, deque[Accepted]] = {each.leg: deque() for each in self.book.route}
        self._spans: dict[int, BlockSpan] = {}
        """Of legs that a reroute named."""
        self._void_below = 0
        """Receipts with an index below are of windows that the newest reroute made void."""
        self._paid = 0 if terms.continues else window_end(terms.plan, 0)
        self._anew = False
        """Whether the next voucher is the first since a reroute, and due at once."""
        self._looked = 0
        """Tokens that had come when `next_voucher` was asked for last."""
        self._at_once = ceil_div(terms.plan.window, 4)
        """So many came from one time to the next lately, at most; many before anything is known."""
        self._draws: deque[tuple[Draw, tuple[int, ...]]] = deque()
        self._began_anew_at = -1
        """Tokens that had come when the newest reroute was signed."""

    @property
    def generated(self) -> int:
        """Tokens that came."""
        return len(self.tokens) - self.terms.plan.prompt

    @property
    def paid(self) -> tuple[int, int]:
        """Prompt and generated tokens that the newest voucher pays for."""
        return served(self.terms.plan, self._paid)

    @property
    def windows_over(self) -> bool:
        """Whether the answer is complete and every leg's receipts cover all of it."""
        return self.ended and self.book.positions == self._end

    @property
    def complete(self) -> bool:
        """Whether nothing more is to come: the sketches of the last window are in, too."""
        return self.windows_over and bool(self.closing)

    @property
    def nonce(self) -> bytes | None:
        """The client's newest nonce that is shown: all before it follow. None before the first window is whole."""
        return self._chain.nonce(self.book.windows[-1].index) if self.book.windows else None

    @property
    def proven(self) -> int:
        """Positions that every leg has signed for, or that the session began with: where a reroute begins."""
        return self.book.positions

    @property
    def _end(self) -> int:
        """Positions that what came took to process."""
        return self.terms.plan.prompt - 1 + self.generated

    @property
    def awaited(self) -> tuple[int, ...]:
        """Legs of the route that have not signed for the window in progress, in its order."""
        return tuple(leg for leg, waiting in self._waiting.items() if not waiting)

    def fed_hash(self, leg: int) -> bytes | None:
        """What a leg that was fed again what came before has to say it was (`frames.Replayed`); None where some of that
        nobody signed for in this session.
        """
        return self.book.fed_hash(next(each.span.start for each in self.book.route if each.leg == leg))

    def reroute(self, reroute: Reroute, sealed: bytes) -> None:
        """From the proven positions on other legs serve. Tokens that came stand; receipts for what follows are void.

        Raises InvalidError: it begins elsewhere, or is not the next one.
        """
        if (reroute.session, reroute.number) != (self.id, len(self.reroutes) + 1) or reroute.position != self.proven:
            raise InvalidError(f"reroute {reroute.number} at {reroute.position} does not go on from {self.proven}")
        self.reroutes.append(reroute)
        self.sealed_reroutes.append(sealed)
        self.book.take_reroute(reroute.route)
        self._stints = stints(self.terms, self.reroutes, self._starts, base=self.book.base)
        self._spans = spans(self.reroutes)
        self._waiting = {each.leg: deque() for each in reroute.route}
        self._void_below, self._anew = self.book.next_index, True
        self._began_anew_at = self.generated

    def accept(self, leg: int, acceptance: Acceptance) -> None:
        """A standby has taken its order later than others."""
        if leg not in self._accepted:
            self._accepted.add(leg)
            self.book.accept(leg, acceptance.nonces)

    @property
    def accepted(self) -> Collection[int]:
        """Legs that have taken their order."""
        return self._accepted

    def withdraw(self, count: int) -> None:
        """Undo the newest reroutes, which no leg that served before them has heard of."""
        del self.reroutes[len(self.reroutes) - count :], self.sealed_reroutes[len(self.sealed_reroutes) - count :]
        route = route_at(self.terms, self.reroutes, self.proven)
        self.book.withdraw(count, route)
        self._stints = stints(self.terms, self.reroutes, self._starts, base=self.book.base)
        self._spans = spans(self.reroutes)
        self._waiting = {each.leg: deque() for each in route}
        self._void_below, self._began_anew_at = self.book.next_index, -1

    def take_token(self, token: SampledToken, said: bytes = b"") -> bool:
        """Whether the token is a new one: not of a route that is no more, nor one that stands already.

        Args:
            said: its log probabilities.

        Raises DishonestError for a token out of place, one too many, another one than stands, or that the model does
        not have, and for log probabilities that cannot be its.
        """
        if token.route < len(self.reroutes):
            return False
        check_said(said, token=token.token, top=self.terms.sampling.logprobs)
        if max(token.token, *(each.token for each in unpack_said(said)), 0) >= self._vocabulary:
            raise DishonestError("a token that the model does not have")
        if self.reroutes and token.position < len(self.tokens) and token.token == self.tokens[token.position]:
            return False
        if self.ended or token.position != len(self.tokens) or token.route > len(self.reroutes):
            raise DishonestError(f"a token for position {token.position} where {len(self.tokens)} is next")
        self.tokens.append(token.token)
        self.said += [said] if said else []
        self.ended = token.token in self._stop_tokens or self.generated == self.terms.plan.most
        self._check_ready()
        return True

    def take_receipt(self, leg: int, signed: SignedReceipt, sketches: bytes) -> None:
        """Book a receipt; once every leg's for a window is in, hold them against one another. One for a window that a
        reroute made void, or of a leg that was left, is passed over.

        Raises:
            SignatureError, DishonestError: the receipt does not hold, or contradicts a neighbour's.
            MalformedError: more receipts than there can be.
        """
        waiting = self._waiting.get(leg)
        if signed.receipt.window < self._void_below or (waiting is None and self.reroutes):
            return
        if waiting is None or len(waiting) > self.terms.plan.ahead + 1 or self.closing:
            raise MalformedError(f"leg {leg} sends receipts that nobody waits for")
        waiting.append(Accepted(signed, sketches))
        self._check_ready()

    def _check_ready(self) -> None:
        while all(self._waiting.values()):
            if self.windows_over:
                self.closing = self._next_receipts(take=True)
                self.book.take_closing(self.closing)
                return
            end = window_end(self.terms.plan, self.book.positions)
            if self.ended:
                end = min(end, self._end)
            if served(self.terms.plan, end)[1] > self.generated:
                # The legs may have signed before the token that they signed for arrived here.
                return
            window = self.book.take_window(end, self.tokens, self._next_receipts(take=False), self.said)
            self._next_receipts(take=True)
            draw = Draw(session=self.id, window=window.index, seed=self.book.seeds[-1])
            self._draws.append((draw, tuple(each.leg for each in window.route)))

    def _next_receipts(self, *, take: bool) -> tuple[Accepted, ...]:
        queues = self._waiting.values()
        return tuple(queue.popleft() if take else queue[0] for queue in queues)

    def next_draw(self) -> tuple[Draw, tuple[int, ...]] | None:
        """The seed of a window whose receipts are all in, once, and the legs that signed for it: one that joins later
        waits for none. None when no more are due.
        """
        return self._draws.popleft() if self._draws else None

    def _notice(self, under_way: int | None) -> float:
        """Paid tokens that are left when the next voucher is due: a quarter of a window, and half a window at most,
        where more may be needed by the time that it is there.
        """
        window = self.terms.plan.window
        if under_way is None:
            return window / 2
        return min(window / 2, max(window / 4, 2 * self._at_once, under_way + 1))

    def next_voucher(self, under_way: int | None = None) -> Voucher | None:
        """The voucher that is due now, None when nothing more is; to be asked for whenever something has come.

        Args:
            under_way: tokens that come while a voucher is on its way; None where nobody knows.
        """
        plan = self.terms.plan
        came, self._looked = self.generated - self._looked, self.generated
        if came:
            self._at_once = max(came, self._at_once - 1)
        limit = paid_limit(plan, self.book.positions)
        due = limit
        if limit > plan.prompt:
            ahead = self._end + plan.window - self.terms.credit
            due = min(limit, max(plan.prompt, ahead))
            left = self._paid - self._end + self.terms.credit
            if left >= self._notice(under_way) and self._paid >= plan.prompt and not self._anew:
                return None
        due = max(min(due, last_position(plan)), self._paid)
        return self._voucher(due) if due > self._paid or self._anew else None

    def last_voucher(self, *, honest: bool) -> Voucher:
        """The voucher that ends the job: for what came, and not for what was paid ahead.

        It goes no further beyond the last receipts that hold than others do: tokens alone prove no work. Where a leg
        lied it pays no more than all legs have signed for.
        """
        signed_for = self.book.earned
        limit = paid_limit(self.terms.plan, self.book.positions)
        came = self._end if self.generated > max(0, self._began_anew_at) else 0
        return self._voucher(max(signed_for, min(came, limit)) if honest else signed_for)

    def _voucher(self, positions: int) -> Voucher:
        self._paid, self._anew = positions, False
        counts = served(self.terms.plan, positions)
        return Voucher(
            session=self.id,
            amounts=tuple(self._owed(leg, positions) for leg in range(len(self.terms.legs))),
            tokens_in=counts[0],
            tokens_out=counts[1],
            receipts=self.book.root,
        )

    def _owed(self, leg: int, positions: int) -> int:
        if leg not in self._accepted:
            return 0
        return earned(
            self.terms,
            self.session,
            leg,
            self._stints[leg],
            positions,
            span=self._spans.get(leg),
            late=self.book.late(leg),
            rejected=self.book.rejected(leg),
        )
