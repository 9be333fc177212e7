"""Joules by session: what a meter counts, shared out over the positions computed (`protocol/energy/energy_book.py`).

Two figures, for two purposes. What is *offered* is measured at start in a session alone: it is slow, and does not fall
because others happen to be served at the same time, so the price that follows from it can be kept. What is *spent*, and
goes into receipts, follows the meter while the node serves.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from node.energy.reading import Meter, Reading
from protocol.energy.energy_book import EnergyBook, Window
from protocol.energy.energy_shares import NOT_SAID, Accuracy, Weights, Worked
from protocol.errors import MeterError
from protocol.market.offer import Provenance
from protocol.units import ceil_div

__all__ = ["Energy", "Figure", "Figures", "MeteredEnergy"]

_LONG_PASS_S = 60.0
"""A window waits so long for a pass that is under way, if none has ended in it."""
_DEAD_S = 300.0
"""A counter that has not moved for so long is broken."""
_STEPS = 20
"""A window is long enough when the counter has moved by so many of its steps: then these are no more than a tenth."""
_LIVE_S = 10.0
"""Of the power that is shown."""
_MILLI = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What one token takes in a session alone."""

    millijoules_in: int
    """For a prompt token; rounded up, at least 1."""
    millijoules_out: int
    """For a generated token; rounded up, at least 1."""
    source: Provenance
    batch: int
    """Mean positions in one pass while it was taken, rounded; at least 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of energy up to now, in microjoules and microwatts; what is not known is None. Tokens are through all blocks."""

    source: Provenance
    meter: str
    """For people."""
    accuracy: Accuracy = NOT_SAID
    sharers: int = 1
    power_uw: int | None = None
    """This node's part of what the meter shows, over the last seconds."""
    idle_uw: int | None = None
    """Of a machine that computes nothing."""
    in_uj: int | None = None
    """A prompt token, all power at work included."""
    out_uj: int | None = None
    """A generated token, likewise."""
    marginal_uj: int | None = None
    """What one more token, of either kind, adds to a pass that runs anyway."""
    batch_milli: int | None = None
    """Mean positions in one pass of the last window with work, in thousandths."""
    measured_uj: int = 0
    idle_uj: int = 0
    told_uj: int = 0
    """To sessions, those that run included."""
    untold_uj: int = 0
    carried_uj: int = 0
    estimated_uj: int = 0


class Energy(Protocol):
    """`ports.EnergyAccount`, the figure to offer, and what is shown."""

    @property
    def source(self) -> Provenance:
        """Where its figures come from; `UNKNOWN` while there are none."""

    def begin(self) -> None:
        """A pass is about to begin."""

    def record(self, worked: Sequence[Worked]) -> None:
        """It has ended."""

    def spent(self, session: bytes) -> int | None:
        """Millijoules of a session up to now; None while nothing is known."""

    def end(self, session: bytes) -> int | None:
        """A session is over: its millijoules in all."""

    def offered(self) -> Figure | None:
        """The figure to offer; None while nothing is known. It does not follow the load."""

    def calibrate(self, prefill: Callable[[], int], decode: Callable[[], int]) -> None:
        """Learn first figures, if they can be learnt, from work that returns how many positions it processed."""

    def figures(self) -> Figures:
        """Up to now."""


@dataclass(slots=True)
class _Open:
    """The window that is open."""

    at: float
    reading: Reading
    busy_s: float = 0.0
    passes: int = 0
    rows: int = 0


class MeteredEnergy:
    """Divides what a meter counts over windows of many seconds by the positions in them.

    Generated positions weigh as much more than prompt ones as they did in the calibration.

    Args:
        blocks: that are served; a token's figure is through all of them.
        known: microjoules of a prompt and of a generated position where these need no calibration.
        passed: told of the rows of each pass.
        took: told of the seconds of each pass.

    `calibrate` may run in a thread, before anything else is called; all else belongs to one thread.
    """

    def __init__(
        self,
        meter: Meter,
        *,
        blocks: int,
        known: tuple[int, int] | None = None,
        passed: Callable[[int], None] | None = None,
        took: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.meter: Meter = meter
        self.fault: MeterError | None = None
        """Why the meter cannot be believed now; None while it can."""
        self.book = EnergyBook(Weights())
        self._blocks = blocks
        self._known = known
        self._passed = passed
        self._took = took
        self._clock = clock
        self._sleep = sleep
        self._open: _Open | None = None
        self._began: float | None = None
        self._offered: Figure | None = None
        self._batch_milli: int | None = None
        self._sharers = 1
        self._latest: deque[tuple[float, Reading]] = deque()
        self._seen: float | None = None

    @property
    def source(self) -> Provenance:
        """The meter's, once it has said something; while it cannot be believed, figures are a model from before."""
        if self.book.rate is None:
            return Provenance.UNKNOWN
        return self.meter.source if self.fault is None else Provenance.MODEL

    # Work

    def begin(self) -> None:
        """A pass is about to begin."""
        self._began = self._clock()

    def record(self, worked: Sequence[Worked]) -> None:
        """It has ended."""
        rows, began, now = sum(each.prompt + each.generated for each in worked), self._began, self._clock()
        self._began = None
        if self._open is not None and began is not None:
            self._open.busy_s += now - max(began, self._open.at)
            self._open.passes += 1
            self._open.rows += rows
        if self._took is not None and began is not None:
            self._took(now - began)
        if self._passed is not None:
            self._passed(rows)
        self.book.record(worked)

    def spent(self, session: bytes) -> int | None:
        """Millijoules of a session up to now, by the meter as far as windows are over, else by the latest figures."""
        return self.book.tell(session)

    def end(self, session: bytes) -> int | None:
        """A session is over."""
        return self.book.end(session)

    # Readings

    def take(self, reading: Reading) -> bool:
        """The meter says so now; whether a window is over with it."""
        now = self._clock()
        self._seen, self.fault, self._sharers = now, None, reading.sharers
        if self._latest and self._latest[-1][1].epoch != reading.epoch:
            self._latest.clear()
        self._latest.append((now, reading))
        while now - self._latest[0][0] > _LIVE_S and len(self._latest) > 2:
            self._latest.popleft()
        if self._open is None:
            self._open = _Open(now, reading)
            return False
        if reading.epoch != self._open.reading.epoch:
            self._close(now, reading, None)
            return True
        counted = reading.microjoules - self._open.reading.microjoules
        if not self._is_over(now - self._open.at, counted):
            return False
        dead = counted <= 0 and not self._is_model
        self._close(now, reading, None if dead else counted)
        if dead:
            self.fault = MeterError(f"{self.meter.name} has not moved for minutes")
        return True

    def lose(self, error: MeterError) -> None:
        """It cannot be read, or not be believed: figures are those of before until it can be again."""
        now = self._clock()
        self.fault = error
        self._latest.clear()
        if self._open is not None and now - (self._seen or self._open.at) > _DEAD_S:
            self._close(now, self._open.reading, None)
            self._open = None

    def _is_over(self, passed_s: float, counted: int) -> bool:
        assert self._open is not None
        if passed_s < self.meter.window_s:
            return False
        if self._began is not None and not self._open.passes and passed_s < _LONG_PASS_S:
            return False
        least = max(1, _STEPS * (self.meter.accuracy.step_uj or 0))
        return counted >= least or passed_s >= _DEAD_S

    def _close(self, now: float, reading: Reading, counted: int | None) -> None:
        window = self._open
        assert window is not None
        window_us = max(1, round((now - window.at) * 1e6))
        under_way_s = 0.0 if self._began is None else now - max(self._began, window.at)
        busy_us = min(window_us, round((window.busy_s + under_way_s) * 1e6))
        self.book.close(Window(microjoules=counted, us=window_us, busy_us=busy_us, passes=window.passes))
        if window.passes:
            self._batch_milli = window.rows * _MILLI // window.passes
        self._open = _Open(now, reading)

    # Figures

    def calibrate(self, prefill: Callable[[], int], decode: Callable[[], int]) -> None:
        """Repeat each kind of work, and none, for as long as the meter needs to say something. Raises MeterError."""
        if self._known is None or self._is_model:
            self._see_idle()
        if self._known is None:
            taken_in, taken_out = self._measure(prefill), self._measure(decode)
        else:
            taken_in, taken_out = self._known
        if taken_in is None or taken_out is None:
            return
        self.book.weights = Weights(prompt=taken_in, generated=taken_out)
        self.book.rate = EnergyBook.rate_of(1, self._blocks)
        self._offered = Figure(
            millijoules_in=ceil_div(taken_in, _MILLI),
            millijoules_out=ceil_div(taken_out, _MILLI),
            source=self.meter.source,
            batch=1,
        )

    @property
    def _is_model(self) -> bool:
        return self.meter.source is Provenance.MODEL

    def _see_idle(self) -> None:
        """What the machine draws without work: of that a model of work has nothing, and knows nothing."""
        if self._is_model:
            self.book.see_idle(0)
            return
        began, first = self._clock(), self.meter.read()
        last = first
        while self._clock() - began < self.meter.settle_s:
            self._sleep(self.meter.every_s)
            last = self.meter.read()
        passed_us = round((self._clock() - began) * 1e6)
        if passed_us > 0 and last.epoch == first.epoch and last.microjoules > first.microjoules:
            self.book.see_idle((last.microjoules - first.microjoules) * 1_000_000 // passed_us)

    def _measure(self, work: Callable[[], int]) -> int | None:
        """Microjoules for a position of this work; None where the meter does not move."""
        meter = self.meter
        first, began = meter.read(), self._clock()
        asked, now, positions = began, began, 0
        while now - began < 6 * meter.settle_s:
            before = self._clock()
            positions += work()
            now = self._clock()
            if self._took is not None:
                self._took(now - before)
            if now - asked < min(meter.every_s, meter.settle_s / 2):
                continue
            asked, last = now, meter.read()
            spent = last.microjoules - first.microjoules if last.epoch == first.epoch else 0
            if now - began >= meter.settle_s and spent > 0:
                return max(1, ceil_div(spent, positions))
        return None

    def offered(self) -> Figure | None:
        """As it was calibrated."""
        return self._offered

    def figures(self) -> Figures:
        """Up to now."""
        book, prompt, generated = self.book, Worked(b"", 1, 0, self._blocks), Worked(b"", 0, 1, self._blocks)
        return Figures(
            source=self.source,
            meter=self.meter.name,
            accuracy=self.meter.accuracy,
            sharers=self._sharers,
            power_uw=self._power(),
            idle_uw=None if self._is_model else book.idle_uw,
            in_uj=book.average(prompt),
            out_uj=book.average(generated),
            marginal_uj=book.marginal(self._blocks),
            batch_milli=self._batch_milli,
            measured_uj=book.measured,
            idle_uj=book.idle,
            told_uj=book.told + book.running,
            untold_uj=book.untold,
            carried_uj=book.carried,
            estimated_uj=book.estimated,
        )

    def _power(self) -> int | None:
        if len(self._latest) < 2:
            return None
        (began, first), (ended, last) = self._latest[0], self._latest[-1]
        passed_us = round((ended - began) * 1e6)
        return (last.microjoules - first.microjoules) * 1_000_000 // passed_us if passed_us > 0 else None
