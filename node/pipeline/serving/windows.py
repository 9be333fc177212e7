"""The windows of one session at one leg: what passed in each, the receipts for it, and the sketches under their seeds.

Only rows that stand come here. A window is signed for when it ends; its rows are kept until the client has drawn its
seed, and of at most `Plan.ahead` windows. A change of the route takes back what not all legs have signed for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from node.pipeline.serving.meter import Meter
from node.ports import Activations
from protocol.errors import MalformedError, RefusedError
from protocol.identity.eip712 import Domain, sign_typed
from protocol.identity.signing import SigningKey
from protocol.market.offer import Provenance
from protocol.models.activations import ActivationType, from_wire
from protocol.session.draws import NonceChain
from protocol.session.fingerprint import SKETCH_BYTES, sketch
from protocol.session.frames import Draw, Receipted
from protocol.session.messages import UNMEASURED, Receipt, SignedReceipt
from protocol.session.metering import served, window_end
from protocol.session.receipt import NO_HASH, bytes_hash, drawn_hash, sketches_hash
from protocol.session.terms import Plan

__all__ = ["Due", "Passed", "Signer", "Sketching", "Windows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signs for which leg of which session, and with what."""

    session: bytes
    leg: int
    """Index in the session."""
    key: SigningKey
    domain: Domain
    chain: NonceChain
    """This leg's nonces for the job; the acceptance has its anchor."""
    meter: Meter


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


class Passed(NamedTuple):
    """Rows that went through the leg and stand."""

    position: int
    """Of the first one."""
    end: int
    """One past the position of the last one."""
    received: bytes
    """As they came over the wire."""
    sent: bytes
    """As they leave the last block, in the wire's form; at the last leg as they would."""
    tokens: tuple[int, ...]
    """That they yielded, at the last leg."""
    took_us: int
    """From their arrival to the end of the pass."""
    said: tuple[bytes, ...] = ()
    """By token, its log probabilities, where the terms ask for them."""

    def part(self, start: int, end: int) -> Passed:
        """The rows at positions ``[start, end)``; tokens go with the rows that yielded them, the last ones."""
        if start == self.position and end == self.end:
            return self
        first, last, length = start - self.position, end - self.position, self.end - self.position
        yielding = length - len(self.tokens)  # the first row that yields a token
        kept = slice(max(0, first - yielding), max(0, last - yielding))
        return Passed(
            start,
            end,
            _rows(self.received, length, first, last),
            _rows(self.sent, length, first, last),
            self.tokens[kept],
            self.took_us,
            self.said[kept],
        )


def _rows(raw: bytes, length: int, first: int, last: int) -> bytes:
    size = len(raw) // length
    return raw[first * size : last * size]


@dataclass(slots=True)
class _Window:
    """What passed through the leg in one window."""

    index: int
    parts: list[Passed] = field(default_factory=list)
    service_us: list[int] = field(default_factory=list)
    """Time that each generated token took here."""
    end: int = 0
    """Positions that stood when it ended."""
    late: int = 0
    """Late tokens up to its end."""
    showed: list[tuple[bytes, bytes]] = field(default_factory=list)
    """What its receipt showed: seeds and sketches of windows before."""

    def received(self) -> bytes:
        return b"".join([part.received for part in self.parts])

    def sent(self) -> bytes:
        return b"".join([part.sent for part in self.parts])


class Windows:
    """See above.

    Args:
        first: whether this is the first leg of the route.
        late_us: a token that took longer is late.
        width: of a row.
    """

    def __init__(
        self, plan: Plan, signer: Signer, *, first: bool, activations: ActivationType, late_us: int, width: int
    ) -> None:
        self.first = first
        """Whether token ids, not rows, enter."""
        self.position = 0
        """Positions of the session that stand, as far as receipts go."""
        self.end = window_end(plan, 0)
        """Where the window ends that is being served."""
        self.late = 0
        """Late tokens so far."""
        self.blocked = False
        """Whether nothing more may be computed before the client draws a seed."""
        self._plan = plan
        self._signer = signer
        self._activations = activations
        self._late_us = late_us
        self._width = width
        self._open = _Window(0)
        self._ended: _Window | None = None
        """Over, but its receipt waits until fewer windows lack their seeds."""
        self._kept: deque[_Window] = deque()
        """Signed for; their rows are kept until their seeds are drawn."""
        self._drawn = _Window(-1)
        """The last one whose seed was drawn: all legs have signed for it."""
        self._seeds: deque[bytes] = deque()
        """Of windows that are being sketched."""
        self._ready: list[tuple[bytes, bytes]] = []
        """Seeds and sketches that the next receipt shows."""
        self._closed = False

    @property
    def signed(self) -> int:
        """Positions that this leg has signed for."""
        return self._kept[-1].end if self._kept else self._drawn.end

    def add(self, passed: Passed, *, generated: int) -> None:
        """Rows of the open window, in order; `generated` of them yielded a token of the answer."""
        self._open.parts.append(passed)
        if generated:
            self._open.service_us += [passed.took_us] * generated
            self.late += generated if passed.took_us > self._late_us else 0
        self.position = passed.end
        if passed.end == self.end:
            self.close_open()
            self.end = window_end(self._plan, passed.end)

    def close_open(self) -> None:
        """The open window is over, if anything passed in it."""
        if self._open.parts and self._ended is None:
            self._open.end, self._open.late = self.position, self.late
            self._ended, self.blocked = self._open, True
            self._open = _Window(self._open.index + 1)

    # Draws

    def take_draw(self, draw: Draw) -> Sketching:
        """The client has all receipts for a window: what to sketch. Raises MalformedError for another window."""
        if not self._kept or self._kept[0].index != draw.window:
            raise MalformedError("a seed for a window that is not waiting for one", code="out-of-order")
        window = self._kept.popleft()
        self._seeds.append(draw.seed)
        received = None if self.first else self._rows_of(window.received())
        sketching = Sketching(received, self._rows_of(window.sent()), draw.seed)
        self._drawn = window
        window.parts.clear()
        return sketching

    def _rows_of(self, raw: bytes) -> Activations:
        return from_wire(self._activations, raw, self._width)

    def show(self, sketches: bytes) -> None:
        """The sketches of the window drawn first are made: the next receipt shows them."""
        self._ready.append((self._seeds.popleft(), sketches))

    # Receipts

    def next_receipt(self, rows: int, millijoules: int | None, *, last: bool, finished: bool) -> Due | None:
        """The receipt that can go out now, None while there is none.

        Args:
            rows: computed in all.
            last: whether this leg draws the tokens.
            finished: whether nothing more is to come: then a closing receipt shows the sketches that are left.
        """
        unshown = len(self._kept) + len(self._seeds)
        window = self._ended
        if window is not None and unshown < self._plan.ahead:
            self._ended, self.blocked = None, False
            self._kept.append(window)
            return self._receipt(window, rows, millijoules, last)
        if finished and window is None and unshown == 0 and self._ready and not self._closed:
            self._closed = True
            return self._receipt(None, rows, millijoules, last)
        return None

    def _receipt(self, window: _Window | None, rows: int, millijoules: int | None, last: bool) -> Due:
        """For a window, or after the last one for its sketches alone."""
        signer = self._signer
        times = sorted(window.service_us) if window is not None else []
        shown, self._ready = self._ready, []
        tokens_in, tokens_out = served(self._plan, self.position if window is None else window.end)
        parts = [] if window is None else window.parts
        drawn = [token for part in parts for token in part.tokens]
        said = [each for part in parts for each in part.said]
        receipt = Receipt(
            session=signer.session,
            leg=signer.leg,
            window=self._open.index if window is None else window.index,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            rows=rows,
            input=NO_HASH if window is None else bytes_hash(window.received()),
            output=NO_HASH if window is None else bytes_hash(window.sent()),
            tokens=NO_HASH if window is None or not last else drawn_hash(drawn, said),
            nonce=NO_HASH if window is None else signer.chain.nonce(window.index),
            sketches=sketches_hash(shown) if shown else NO_HASH,
            millijoules=UNMEASURED if millijoules is None else millijoules,
            source=Provenance.UNKNOWN if millijoules is None else signer.meter.account.source,
            pue_milli=signer.meter.pue_milli,
            p50_us=_percentile(times, 50),
            p95_us=_percentile(times, 95),
            late=self.late if window is None else window.late,
        )
        if window is not None:
            window.showed = shown
        signed = SignedReceipt(receipt=receipt, signature=sign_typed(signer.domain, receipt, signer.key))
        return Due(Receipted(signed=signed), b"".join(sketches for _, sketches in shown))

    # Another route

    def cut(self, position: int, *, index: int) -> None:
        """Take back all that lies beyond `position`: windows that were signed for in vain show what they showed again.

        Args:
            index: of the next window.

        Raises RefusedError: no window that this leg has signed for ends there.
        """
        if position not in {self._drawn.end, *(window.end for window in self._kept)}:
            raise RefusedError("this leg has not signed for a window that ends there", code="unproven")
        void = [window for window in self._kept if window.end > position]
        while self._kept and self._kept[-1].end > position:
            self._kept.pop()
        self._ready = [shown for window in void for shown in window.showed] + self._ready
        self._ended, self.blocked, self._open = None, False, _Window(index)
        self.late = self._kept[-1].late if self._kept else self._drawn.late
        self.position, self.end = position, window_end(self._plan, position)

    def begin_at(self, position: int, *, index: int) -> None:
        """A leg that joins: its first window begins at `position`, and has this index."""
        self.position, self.end = position, window_end(self._plan, position)
        self._open, self._drawn = _Window(index), _Window(-1, end=position)


def _percentile(ascending: list[int], percent: int) -> int:
    """The least of these that `percent` of them do not exceed; 0 without any. Held within 32 bits."""
    if not ascending:
        return 0
    return min(ascending[-(-len(ascending) * percent // 100) - 1], 2**32 - 1)
