"""One session at one leg: what has arrived, what may run next, and the receipts that are due.

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
from protocol.activations import from_wire, to_wire
from protocol.claim import Claim
from protocol.codec import Message
from protocol.draws import NonceChain
from protocol.eip712 import Domain, sign_typed
from protocol.errors import MalformedError, UnpaidError, peers_fault
from protocol.fingerprint import SKETCH_BYTES, sketch
from protocol.frames import Discharged, Draw, Receipted, Sampled, Step
from protocol.job import JobEvent, JobState, next_state
from protocol.messages import UNMEASURED, Receipt, SignedReceipt, SignedVoucher, session_id, sign_discharge
from protocol.metering import last_position, served, window_end
from protocol.offer import Offer, Provenance
from protocol.order import JobOrder
from protocol.places import Waits
from protocol.receipt import NO_HASH, bytes_hash, sketches_hash, token_bytes
from protocol.signing import SigningKey, address_of_public_key

__all__ = ["Due", "LegJob", "Meter", "Sketching"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What a leg says of its energy."""

    millijoules_for: Callable[[int, int], int | None]
    """Of so many prompt and generated positions through this leg's blocks; None while nothing is known."""
    source: Callable[[], Provenance]
    pue_milli: int


class Due(NamedTuple):
    """A receipt for the client, and the sketches that it shows."""

    frame: Receipted
    sketches: bytes


class Sketching(NamedTuple):
    """A window whose seed is known: what it takes to sketch it, away from the tokens' path."""

    received: Activations | None
    """None at the first leg, which receives token ids."""
    sent: Activations
    seed: bytes

    def run(self) -> bytes:
        """The two sketches, of what entered and of what left."""
        entered = bytes(SKETCH_BYTES) if self.received is None else sketch(self.received, self.seed)
        return entered + sketch(self.sent, self.seed)


@dataclass(slots=True)
class _Window:
    """What passed through the leg in one window."""

    index: int
    received: list[bytes] = field(default_factory=list)
    """As it came over the wire."""
    sent: list[bytes] = field(default_factory=list)
    """Rows of the last block, as they go over the wire; at the last leg as they would."""
    tokens: list[int] = field(default_factory=list)
    """Drawn here."""
    service_us: list[int] = field(default_factory=list)
    """Time that each generated token took here."""
    end: int = 0
    """Positions processed when it ended."""


@dataclass(frozen=True, slots=True)
class _Arrived:
    """Rows that wait for their turn or their payment."""

    position: int
    data: tuple[int, ...] | Activations
    at_us: int

    def __len__(self) -> int:
        return len(self.data)


class LegJob:
    """The state of one accepted order.

    Args:
        order: checked with `protocol.order.check_order`.
        offer: this provider's own, which the order came with.
        key: the provider's.
        domain: of the ledger that the session is on.
        chain: this leg's nonces for the job; the acceptance has its anchor.
        stop_tokens: ids that end the answer.
    """

    def __init__(
        self,
        order: JobOrder,
        offer: Offer,
        key: SigningKey,
        domain: Domain,
        *,
        chain: NonceChain,
        meter: Meter,
        width: int,
        stop_tokens: tuple[int, ...],
    ) -> None:
        self.order = order
        self.terms = order.terms
        self.plan = order.terms.plan
        self.session = session_id(order.session)
        self.state = JobState.ACCEPTED
        self.claim = Claim(domain, order.session, order.terms, order.leg, order.pay)
        self.processed = 0
        """Positions that have gone through this leg's blocks."""
        self.running = False
        """True while a piece of this session is in the engine."""
        self.ended = False
        """True once no further position can come: a stop token, the last allowed one, or the client's word."""
        self.millijoules: int | None = 0
        self._key = key
        self._domain = domain
        self._chain = chain
        self._meter = meter
        self._width = width
        self._late_us = offer.late_us
        self._stop_tokens = stop_tokens
        self._waiting: deque[_Arrived] = deque()
        self._arrived = 0
        self._rows = 0
        self._late = 0
        self._began_us = 0
        """When what is in the engine arrived."""
        self._open = _Window(0)
        """The window that is being served."""
        self._ended_window: _Window | None = None
        """Over, but its receipt waits for the sketches of the one before."""
        self._signed: _Window | None = None
        """Its receipt is out; its rows are kept until the client draws the seed."""
        self._shown = b""
        """Sketches that the next receipt shows."""
        self._drawn = b""
        """The seed that they were made under."""
        self._closed = False

    # Its place

    @property
    def leg(self) -> int:
        """Index in the session."""
        return self.order.leg

    @property
    def is_first(self) -> bool:
        """Whether token ids, not activations, enter this leg."""
        return self.leg == 0

    @property
    def is_last(self) -> bool:
        """Whether this leg draws the tokens."""
        return self.leg == len(self.terms.route) - 1

    @property
    def served(self) -> tuple[int, int]:
        """Prompt and generated tokens that have gone through."""
        return served(self.plan, self.processed)

    def may_send(self, kind: type[Message], sender: bytes) -> bool:
        """Whether the peer with this public key has the part that sends such frames (session.md, clause D1)."""
        route = self.terms.route
        if kind is Step:
            return self.leg > 0 and sender == route[self.leg - 1].public_key
        if kind is Sampled:
            return self.leg == 0 and len(route) > 1 and sender == route[-1].public_key
        return address_of_public_key(sender) == self.order.session.client

    def advance(self, event: JobEvent) -> None:
        """Move the life cycle on. Raises MalformedError where the table forbids it."""
        with peers_fault():
            self.state = next_state(self.state, event)

    # Rows

    def arrive(self, position: int, data: tuple[int, ...] | Activations, *, now_us: int) -> None:
        """Take in rows from the client or the leg before.

        Raises:
            MalformedError: not the next position, or beyond what was ordered.
            UnpaidError: further ahead of the vouchers than any honest sender could be.
        """
        if self.ended:
            return  # on their way when the client or a stop token ended the answer
        if not len(data):
            raise MalformedError("no rows at all")
        if position != self._arrived:
            raise MalformedError(f"position {position} where {self._arrived} is next", code="out-of-order")
        if position + len(data) > last_position(self.plan):
            raise MalformedError("rows beyond the ordered number of tokens")
        # A neighbour may have seen the next vouchers earlier: two windows are all that it can be ahead by.
        ahead = 2 * (self.plan.chunk + self.plan.window)
        if not self.is_first and position + len(data) > self.claim.may_process + ahead:
            raise UnpaidError("rows far beyond what is paid")
        self._waiting.append(_Arrived(position, data, now_us))
        self._arrived += len(data)

    def check_voucher(self, signed: SignedVoucher) -> SignedVoucher:
        """Hold a voucher against the rules; what to keep before it counts (`Claim.check`). Raises PeerError."""
        return self.claim.check(signed, late=self._late, last=self.state is JobState.FINISHED)

    @property
    def claimed(self) -> int:
        """Micro-units that this leg has earned, as far as a voucher promises them."""
        return self.claim.discharge(self.processed, late=self._late).amount

    @property
    def unpaid(self) -> int:
        """Micro-units that it has earned and no voucher promises: credit that was not paid."""
        return max(0, self.claim.owed(self.processed, late=self._late) - self.claim.amount)

    @property
    def waits_for(self) -> Waits:
        """Who has to do something next."""
        if self.running or self.ready_rows:
            return Waits.WORK
        if self.state is JobState.ACCEPTED:
            return Waits.ATTACH
        paid = min(self.claim.may_process, last_position(self.plan))
        client_next = self.state is JobState.FINISHED or self.ended or self.processed >= paid
        # Its client may wait for the receipts of others; at the last leg these have been there before.
        if client_next or self._ended_window is not None:
            return Waits.CLIENT if self.is_last else Waits.OTHERS
        return Waits.CLIENT if self.is_first and self.processed < self.plan.prompt else Waits.OTHERS

    @property
    def ready_rows(self) -> int:
        """Rows that may run now, in one piece: arrived, paid, and not across a window's end.

        Nothing runs while a receipt is held up: so the rows of two windows are all that is ever kept.
        """
        if self.running or self.state is not JobState.SERVING or not self._waiting or self._ended_window is not None:
            return 0
        end = min(window_end(self.plan, self.processed), self.claim.may_process)
        return max(0, min(end - self.processed, len(self._waiting[0])))

    def next_piece(self, most: int) -> StepInput | None:
        """At most `most` of the rows that may run now; None without any."""
        start, end = self.processed, self.processed + min(self.ready_rows, most)
        if end <= start:
            return None
        first = self._waiting.popleft()
        if len(first) > end - start:
            cut = end - start
            self._waiting.appendleft(_Arrived(start + cut, first.data[cut:], first.at_us))
            first = _Arrived(start, first.data[:cut], first.at_us)
        self._began_us = first.at_us
        draws = 1 if self.is_last and start + len(first) >= self.plan.prompt else 0
        return StepInput(session=self.session, position=start, length=len(first), data=first.data, draws=draws)

    def complete(self, piece: StepInput, output: StepOutput, *, now_us: int) -> bytes:
        """Book what a forward pass did; the rows as they go over the wire."""
        raw = to_wire(self.terms.activations, output.hidden)
        window = self._open
        window.received.append(_raw(piece.data, self))
        window.sent.append(raw)
        window.tokens.extend(output.tokens)
        ends = window_end(self.plan, self.processed)
        self.processed += piece.length
        self._rows += piece.length
        self._note_time(piece, now_us - self._began_us)
        self._note_energy(piece)
        if set(output.tokens) & set(self._stop_tokens) or self.served[1] == self.plan.most:
            self.ended = True
        if self.processed == ends or self.state is JobState.FINISHED:
            self._end_window()
        return raw

    def _note_time(self, piece: StepInput, took_us: int) -> None:
        generated = self.processed - max(piece.position, self.plan.prompt - 1)
        if generated > 0:
            self._open.service_us.extend([took_us] * generated)
            self._late += generated if took_us > self._late_us else 0

    def _note_energy(self, piece: StepInput) -> None:
        generated = max(0, self.processed - max(piece.position, self.plan.prompt))
        spent = self._meter.millijoules_for(piece.length - generated, generated)
        self.millijoules = None if spent is None or self.millijoules is None else self.millijoules + spent

    # Receipts

    def _end_window(self) -> None:
        self._open.end = self.processed
        self._ended_window = self._open
        self._open = _Window(self._open.index + 1)

    def finish(self, tokens_out: int) -> None:
        """The client wants no more: a window that was begun ends here."""
        if tokens_out > self.plan.most:
            raise MalformedError("the client has seen more tokens than were ordered")
        self.advance(JobEvent.FINISH)
        self.ended = True
        self._waiting.clear()
        # What is being computed now belongs to the window too: it ends when that is complete.
        if self._open.received and self._ended_window is None and not self.running:
            self._end_window()

    def take_draw(self, draw: Draw) -> Sketching:
        """The client has all receipts for a window: what to sketch. Raises MalformedError for another window."""
        signed = self._signed
        if signed is None or signed.index != draw.window:
            raise MalformedError("a seed for a window that is not waiting for one", code="out-of-order")
        self._signed, self._drawn = None, draw.seed
        received = None if self.is_first else self._rows_of(signed.received)
        return Sketching(received, self._rows_of(signed.sent), draw.seed)

    def _rows_of(self, parts: list[bytes]) -> Activations:
        return from_wire(self.terms.activations, b"".join(parts), self._width)

    def show(self, sketches: bytes) -> None:
        """The sketches are made: the next receipt shows them."""
        self._shown = sketches

    def next_receipt(self) -> Due | None:
        """The receipt that can go out now; None while there is none, or the sketches before it are not made yet."""
        if self._signed is not None:
            return None
        window = self._ended_window
        if window is not None and bool(self._shown) is bool(window.index):
            self._ended_window, self._signed = None, window
            return self._receipt(window)
        if self.state is JobState.FINISHED and window is None and self._shown and not self._closed:
            self._closed = True
            return self._receipt(None)
        return None

    def _receipt(self, window: _Window | None) -> Due:
        """For a window, or after the last one for its sketches alone."""
        times = sorted(window.service_us) if window is not None else []
        tokens_in, tokens_out = self.served if window is None else served(self.plan, window.end)
        receipt = Receipt(
            session=self.session,
            leg=self.leg,
            window=self._open.index if window is None else window.index,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            rows=self._rows,
            input=NO_HASH if window is None else bytes_hash(*window.received),
            output=NO_HASH if window is None else bytes_hash(*window.sent),
            tokens=NO_HASH if window is None or not self.is_last else bytes_hash(token_bytes(window.tokens)),
            nonce=NO_HASH if window is None else self._chain.nonce(window.index),
            sketches=sketches_hash([(self._drawn, self._shown)] if self._shown else []),
            millijoules=UNMEASURED if self.millijoules is None else self.millijoules,
            source=Provenance.UNKNOWN if self.millijoules is None else self._meter.source(),
            pue_milli=self._meter.pue_milli,
            p50_us=_percentile(times, 50),
            p95_us=_percentile(times, 95),
            late=self._late,
        )
        shown, self._shown = self._shown, b""
        signed = SignedReceipt(receipt=receipt, signature=sign_typed(self._domain, receipt, self._key))
        return Due(Receipted(signed=signed), shown)

    def discharge(self) -> Discharged:
        """Give up every claim beyond what was earned and promised: at the end, or where the job has failed."""
        if self.state is not JobState.FAILED:
            self.advance(JobEvent.DISCHARGE)
        word = self.claim.discharge(self.processed, late=self._late)
        return Discharged(signed=sign_discharge(self._domain, word, self._key))


def _percentile(ascending: list[int], percent: int) -> int:
    """The least of these that `percent` of them do not exceed; 0 without any. Held within 32 bits."""
    if not ascending:
        return 0
    return min(ascending[-(-len(ascending) * percent // 100) - 1], 2**32 - 1)


def _raw(data: object, job: LegJob) -> bytes:
    if isinstance(data, np.ndarray):
        return to_wire(job.terms.activations, data)
    if isinstance(data, tuple):
        return token_bytes(data)
    raise TypeError(f"{type(data).__name__} is neither token ids nor activations")
