"""Joules per token: what a meter counts around work, shared out over the positions processed.

Two figures, for two purposes. What is *offered* is measured at start in a session alone: it is slow, and does not fall
because others happen to be served at the same time, so the price that follows from it can be kept. What is *spent*, and
goes into receipts, follows the meter while the node serves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from node.energy.meter import Meter
from protocol.offer import Provenance
from protocol.units import ceil_div

__all__ = ["DeclaredEnergy", "Energy", "Figure", "MeteredEnergy"]

_IDLE_GAP_S = 1.0
"""Longer without work, and what the meter counted in between belongs to no token."""
_MICRO = 1000
"""Microjoules in a millijoule: figures are kept finer than they are published."""
_FINE = 1_000_000
"""The share of a unit of weight is kept in millionths of a microjoule: weights may be microjoules themselves."""


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


class Energy(Protocol):
    """`ports.EnergyAccount`, and the figure to offer."""

    @property
    def source(self) -> Provenance:
        """Where its figures come from; `UNKNOWN` while there are none."""

    def record(self, prompt: int, generated: int, seconds: float) -> None:
        """A pass that took `seconds` on the clock has just ended; so many prompt and generated positions were in it."""

    def millijoules_for(self, prompt: int, generated: int) -> int | None:
        """What so many positions cost by the latest figures; None while nothing is known."""

    def offered(self) -> Figure | None:
        """The figure to offer; None while nothing is known. It does not follow the load."""

    def calibrate(self, prefill: Callable[[], int], decode: Callable[[], int]) -> None:
        """Learn first figures, if they can be learnt, from work that returns how many positions it processed."""


class DeclaredEnergy:
    """The operator's word, for prompt and generated tokens alike."""

    source = Provenance.DECLARED

    def __init__(self, millijoules_per_token: int) -> None:
        if millijoules_per_token < 1:
            raise ValueError("no token is free of energy")
        self._each = millijoules_per_token

    def record(self, prompt: int, generated: int, seconds: float) -> None:
        """Changes nothing: the figure is declared."""

    def millijoules_for(self, prompt: int, generated: int) -> int | None:
        """Positions at the declared figure."""
        return (prompt + generated) * self._each

    def offered(self) -> Figure | None:
        """The declared figure."""
        return Figure(millijoules_in=self._each, millijoules_out=self._each, source=self.source, batch=1)

    def calibrate(self, prefill: Callable[[], int], decode: Callable[[], int]) -> None:
        """Nothing to learn."""


@dataclass(slots=True)
class _Window:
    """Work since a window began."""

    millijoules: int = 0
    prompt: int = 0
    generated: int = 0
    seconds: float = 0.0


class MeteredEnergy:
    """Divides what a meter counts over windows of many seconds of work by the positions in them.

    A window takes in stretches of work without longer pauses; the first pass after a pause only sets the reading that
    the next is held against, so idle power is not charged to tokens. Windows are averaged with exponential weights.
    Generated positions weigh as much more than prompt ones as they did in the calibration.

    `record` and `calibrate` belong to one thread at a time; the others may be called from any.
    """

    def __init__(self, meter: Meter, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._meter = meter
        self._clock = clock
        self._window = _Window()
        self._last: tuple[float, int] | None = None
        self._offered: Figure | None = None
        self._weights = (1, 1)
        """Of a prompt and a generated position."""
        self._share: int | None = None
        """Millionths of a microjoule for one unit of weight."""

    @property
    def source(self) -> Provenance:
        """The meter's, once it has said something."""
        return Provenance.UNKNOWN if self._share is None else self._meter.source

    def record(self, prompt: int, generated: int, seconds: float) -> None:
        """A pass that took `seconds` has just ended."""
        now, reading = self._clock(), self._meter.millijoules()
        last, self._last = self._last, (now, reading)
        if last is None or now - last[0] - seconds > _IDLE_GAP_S:
            return
        window = self._window
        window.millijoules += reading - last[1]
        window.prompt += prompt
        window.generated += generated
        window.seconds += now - last[0]
        weight = self._weigh(window.prompt, window.generated)
        # A counter that has not moved has measured nothing: the window stays open.
        if window.seconds < self._meter.window_s or window.millijoules <= 0 or weight == 0:
            return
        sample = ceil_div(window.millijoules * _MICRO * _FINE, weight)
        known = self._share
        self._share = sample if known is None else ceil_div(3 * known + sample, 4)
        self._window = _Window()

    def calibrate(self, prefill: Callable[[], int], decode: Callable[[], int]) -> None:
        """Repeat each kind of work for as long as the meter needs to say something."""
        taken_in, taken_out = self._measure(prefill), self._measure(decode)
        self._last, self._window = None, _Window()
        if taken_in is None or taken_out is None:
            return
        self._weights, self._share = (taken_in, taken_out), _FINE
        self._offered = Figure(
            millijoules_in=ceil_div(taken_in, _MICRO),
            millijoules_out=ceil_div(taken_out, _MICRO),
            source=self._meter.source,
            batch=1,
        )

    def _measure(self, work: Callable[[], int]) -> int | None:
        """Microjoules for a position of this work; None where the meter does not move."""
        began, reading = self._clock(), self._meter.millijoules()
        positions = 0
        while (passed := self._clock() - began) < 3 * self._meter.window_s:
            positions += work()
            spent = self._meter.millijoules() - reading
            if passed >= self._meter.window_s / 2 and spent > 0:
                return max(1, ceil_div(spent * _MICRO, positions))
        return None

    def _weigh(self, prompt: int, generated: int) -> int:
        return prompt * self._weights[0] + generated * self._weights[1]

    def millijoules_for(self, prompt: int, generated: int) -> int | None:
        """What so many positions cost by the latest figures, rounded up; None while nothing is known."""
        if self._share is None:
            return None
        return ceil_div(self._weigh(prompt, generated) * self._share, _MICRO * _FINE)

    def offered(self) -> Figure | None:
        """As it was calibrated."""
        return self._offered
