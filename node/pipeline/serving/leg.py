"""One session at one leg: what has arrived, what is paid, what may run next, and the receipt at each window's end.

It decides; it sends nothing, stores nothing and knows no clock. `provider` performs what it returns. All of its fields
belong to the event loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from node.ports import Activations, StepInput, StepOutput
from protocol.codec import Message
from protocol.eip712 import Domain, recover_typed, sign_typed
from protocol.errors import MalformedError, SignatureError, StaleError, UnpaidError, peers_fault
from protocol.fingerprint import UNSEEDED, sketch
from protocol.frames import Discharged, Pay, Receipted, Sampled, Step
from protocol.ids import keccak256
from protocol.job import JobEvent, JobState, next_state
from protocol.messages import Discharge, Receipt, session_id
from protocol.metering import leg_amount, payable, served, window_end
from protocol.order import JobOrder
from protocol.receipt import UNMEASURED, WindowCommitment, token_bytes
from protocol.signing import SigningKey, address_of_public_key

__all__ = ["LegJob", "WindowEnd"]


@dataclass(slots=True)
class Window:
    """What passed through the leg since its last receipt."""

    rows: list[Activations] = field(default_factory=list)
    input: WindowCommitment = field(default_factory=WindowCommitment)
    output: WindowCommitment = field(default_factory=WindowCommitment)


class WindowEnd(NamedTuple):
    """What a leg owes its client at the end of a window."""

    frame: Receipted
    sketch: bytes
    """128 bytes; the receipt names their hash."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Rows that wait for their turn or their payment."""

    position: int
    data: tuple[int, ...] | Activations

    def __len__(self) -> int:
        return len(self.data)


class LegJob:
    """The state of one accepted order.

    Args:
        order: checked with `protocol.order.check_order`.
        key: the provider's.
        domain: of the ledger that the session is on.
        millijoules_for: energy of that many positions, None while unknown.
        stop_tokens: ids that end the answer.
    """

    def __init__(
        self,
        order: JobOrder,
        key: SigningKey,
        domain: Domain,
        *,
        millijoules_for: Callable[[int], int | None],
        stop_tokens: tuple[int, ...],
    ) -> None:
        self.order = order
        self.session = session_id(order.session)
        self.state = JobState.ACCEPTED
        self.pay: Pay | None = None
        self.processed = 0
        """Positions that have gone through this leg's blocks."""
        self.running = False
        """True while a piece of this session is in the compute thread."""
        self.ended = False
        """True once no further position can come: a stop token, the last allowed one, or the client's word."""
        self._key = key
        self._domain = domain
        self._millijoules_for = millijoules_for
        self._stop_tokens = stop_tokens
        self._window = Window()
        self._waiting: deque[Arrived] = deque()
        self._arrived = 0
        self._receipted = 0
        self._millijoules: int | None = 0

    @property
    def is_first(self) -> bool:
        """Whether token ids, not activations, enter this leg."""
        return self.order.leg == 0

    @property
    def is_last(self) -> bool:
        """Whether this leg draws the tokens."""
        return self.order.leg == len(self.order.hops) - 1

    @property
    def paid(self) -> tuple[int, int]:
        """Prompt and generated tokens that the newest voucher pays."""
        return (0, 0) if self.pay is None else (self.pay.voucher.tokens_in, self.pay.voucher.tokens_out)

    @property
    def served(self) -> tuple[int, int]:
        """Prompt and generated tokens that have gone through."""
        return served(self.order.plan, self.processed)

    @property
    def millijoules(self) -> int | None:
        """What the receipts say up to here; None once a piece could not be measured."""
        return self._millijoules

    def may_send(self, kind: type[Message], sender: bytes) -> bool:
        """Whether the peer with this public key has the part that sends such frames (session.md, clause D1)."""
        hops, leg = self.order.hops, self.order.leg
        if kind is Step:
            return leg > 0 and sender == hops[leg - 1].public_key
        if kind is Sampled:
            return leg == 0 and len(hops) > 1 and sender == hops[-1].public_key
        return address_of_public_key(sender) == self.order.session.client

    def advance(self, event: JobEvent) -> None:
        """Move the life cycle on. Raises MalformedError where the table forbids it."""
        with peers_fault():
            self.state = next_state(self.state, event)

    def arrive(self, position: int, data: tuple[int, ...] | Activations) -> None:
        """Take in rows from the client or the leg before.

        Raises:
            MalformedError: not the next position, or beyond what was ordered.
            UnpaidError: further ahead of the vouchers than any honest sender could be.
        """
        plan = self.order.plan
        if self.ended:
            return  # on their way when the client or a stop token ended the answer
        if not len(data):
            raise MalformedError("no rows at all")
        if position != self._arrived:
            raise MalformedError(f"position {position} where {self._arrived} is next", code="out-of-order")
        if position + len(data) > plan.prompt + plan.most - 1:
            raise MalformedError("rows beyond the ordered number of tokens")
        # A neighbour may have seen the next voucher earlier: one chunk and one window is all it can be ahead by.
        if not self.is_first and position + len(data) > payable(plan, *self.paid) + plan.chunk + plan.window:
            raise UnpaidError("rows far beyond what is paid")
        self._waiting.append(Arrived(position, data))
        self._arrived += len(data)

    def take_voucher(self, pay: Pay) -> None:
        """Hold a voucher against the rules, and make it the newest (docs/spec/session.md, clause V1 to V5).

        Raises:
            SignatureError: not the client's, or for another ledger.
            StaleError: pays less than an earlier one.
            MalformedError: for another session, or beyond the order or the cap.
        """
        voucher, plan = pay.voucher, self.order.plan
        if voucher.session != self.session:
            raise MalformedError("the voucher is for another session")
        if recover_typed(self._domain, voucher, pay.signature) != self.order.session.client:
            raise SignatureError("the voucher is not signed by the session's client for this ledger")
        if voucher.tokens_in < self.paid[0] or voucher.tokens_out < self.paid[1]:
            raise StaleError("the voucher pays less than an earlier one")
        if voucher.tokens_in > plan.prompt or voucher.tokens_out > plan.most:
            raise MalformedError("the voucher pays for more tokens than were ordered")
        leg = self.order.session.legs[self.order.leg]
        if leg_amount(leg, voucher.tokens_in, voucher.tokens_out) > leg.cap:
            raise MalformedError("the voucher goes beyond the leg's cap", code="cap")
        self.pay = pay

    @property
    def is_decoding(self) -> bool:
        """Whether the prompt has gone through, so that the next piece is short."""
        return self.processed >= self.order.plan.prompt

    def next_piece(self, most: int) -> StepInput | None:
        """At most `most` rows that may run now: arrived, paid, and not across a window's end; None without any."""
        if self.running or self.state is not JobState.SERVING or not self._waiting:
            return None
        plan, start = self.order.plan, self.processed
        end = min(window_end(plan, start), payable(plan, *self.paid), start + most)
        if end <= start:
            return None
        first = self._waiting.popleft()
        if len(first) > end - start:
            cut = end - start
            self._waiting.appendleft(Arrived(start + cut, first.data[cut:]))
            first = Arrived(start, first.data[:cut])
        sample = self.is_last and start + len(first) >= plan.prompt
        return StepInput(session=self.session, position=start, length=len(first), data=first.data, sample=sample)

    def complete(self, piece: StepInput, output: StepOutput) -> WindowEnd | None:
        """Book what a forward pass did; the receipt, where a window ended with it."""
        self._window.input.add(_raw(piece.data))
        if not self.is_last:
            self._window.output.add(_raw(output.hidden))
        elif output.token is not None:
            self._window.output.add(token_bytes((output.token,)))
        self._window.rows.append(output.hidden)
        window_closes = window_end(self.order.plan, self.processed)
        self.processed += piece.length
        energy = self._millijoules_for(piece.length)
        self._millijoules = None if energy is None or self._millijoules is None else self._millijoules + energy
        tokens_out = self.served[1]
        if output.token in self._stop_tokens or tokens_out == self.order.plan.most:
            self.ended = True
        return self._receipt() if self.processed == window_closes else None

    def finish(self, tokens_out: int) -> WindowEnd | None:
        """The client wants no more: the receipt of a window that was begun, if there is one."""
        if tokens_out > self.order.plan.most:
            raise MalformedError("the client has seen more tokens than were ordered")
        self.advance(JobEvent.FINISH)
        self.ended = True
        self._waiting.clear()
        return self._receipt() if self.processed > self._receipted else None

    def discharge(self) -> Discharged:
        """Give up every claim beyond the newest voucher, which is all that could ever be redeemed anyway."""
        self.advance(JobEvent.DISCHARGE)
        tokens_in, tokens_out = self.paid
        word = Discharge(session=self.session, tokens_in=tokens_in, tokens_out=tokens_out)
        return Discharged(discharge=word, leg=self.order.leg, signature=self._sign(word))

    def _receipt(self) -> WindowEnd:
        tokens_in, tokens_out = self.served
        fingerprint = sketch(np.concatenate(self._window.rows), UNSEEDED)
        receipt = Receipt(
            session=self.session,
            leg=self.order.leg,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            input=self._window.input.digest(),
            output=self._window.output.digest(),
            fingerprint=keccak256(fingerprint),
            millijoules=UNMEASURED if self._millijoules is None else self._millijoules,
        )
        self._window = Window()
        self._receipted = self.processed
        return WindowEnd(Receipted(receipt=receipt, signature=self._sign(receipt)), fingerprint)

    def _sign(self, value: Message) -> bytes:
        return sign_typed(self._domain, value, self._key)


def _raw(data: object) -> bytes:
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data, dtype="<f4").tobytes()
    if isinstance(data, tuple):
        return token_bytes(data)
    raise TypeError(f"{type(data).__name__} is neither token ids nor activations")
