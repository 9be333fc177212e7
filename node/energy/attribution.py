"""Joules per token: readings of a meter around stretches of work, divided by the positions processed in them."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What one token takes."""

    millijoules_per_token: int
    """Rounded up; at least 1."""
    source: Provenance
    batch: int
    """Mean positions in one pass while it was taken, rounded; at least 1."""


class Energy(Protocol):
    """`ports.EnergyAccount`, and the figure to publish."""

    def record(self, tokens: int, seconds: float) -> None:
        """`tokens` positions were processed in a pass of `seconds`."""

    def millijoules_for(self, tokens: int) -> int | None:
        """What that many positions cost by the latest figure; None while nothing is known."""

    def figure(self) -> Figure | None:
        """The latest figure; None while nothing is known."""

    def calibrate(self, work: Callable[[], int]) -> None:
        """Learn a first figure, if one can be learnt, from `work`, which returns how many positions it processed."""


class DeclaredEnergy:
    """The operator's word."""

    def __init__(self, millijoules_per_token: int) -> None:
        if millijoules_per_token < 1:
            raise ValueError("no token is free of energy")
        self._figure = Figure(millijoules_per_token=millijoules_per_token, source=Provenance.DECLARED, batch=1)

    def record(self, tokens: int, seconds: float) -> None:
        """Changes nothing: the figure is declared."""

    def millijoules_for(self, tokens: int) -> int | None:
        """Tokens at the declared figure."""
        return tokens * self._figure.millijoules_per_token

    def figure(self) -> Figure | None:
        """The declared figure."""
        return self._figure

    def calibrate(self, work: Callable[[], int]) -> None:
        """Nothing to learn."""


@dataclass(slots=True)
class _Window:
    """Work since a window began."""

    millijoules: int = 0
    tokens: int = 0
    passes: int = 0
    seconds: float = 0.0


class MeteredEnergy:
    """Divides what a meter counts over windows of many seconds of work by the positions in them.

    A window takes in stretches of work without longer pauses; the first pass after a pause only sets the reading that
    the next is held against, so idle power is not charged to tokens. Windows are averaged with exponential weights.

    `record` and `calibrate` belong to the compute thread; the others may be called from any.
    """

    def __init__(self, meter: Meter, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._meter = meter
        self._clock = clock
        self._window = _Window()
        self._last: tuple[float, int] | None = None
        self._microjoules: int | None = None
        self._batch = 1

    def record(self, tokens: int, seconds: float) -> None:
        """`tokens` positions were processed in a pass of `seconds`, which has just ended."""
        now, reading = self._clock(), self._meter.millijoules()
        last, self._last = self._last, (now, reading)
        if last is None or now - last[0] - seconds > _IDLE_GAP_S:
            return
        self._add(reading - last[1], tokens, now - last[0])

    def calibrate(self, work: Callable[[], int]) -> None:
        """Repeat `work` for as long as the meter needs to say something, and take that as the first figure."""
        began, reading = self._clock(), self._meter.millijoules()
        self._window, known = _Window(), self._microjoules
        while self._microjoules == known and self._clock() - began < 3 * self._meter.window_s:
            tokens = work()
            at, now = self._clock(), self._meter.millijoules()
            self._add(now - reading, tokens, at - began - self._window.seconds)
            reading = now
        self._last = None

    def _add(self, millijoules: int, tokens: int, seconds: float) -> None:
        window = self._window
        window.millijoules += millijoules
        window.tokens += tokens
        window.passes += 1
        window.seconds += seconds
        # A counter that has not moved has measured nothing: the window stays open.
        if window.seconds < self._meter.window_s or window.millijoules <= 0 or window.tokens == 0:
            return
        sample = ceil_div(window.millijoules * _MICRO, window.tokens)
        known = self._microjoules
        self._microjoules = sample if known is None else ceil_div(3 * known + sample, 4)
        self._batch = max(1, round(window.tokens / window.passes))
        self._window = _Window()

    def millijoules_for(self, tokens: int) -> int | None:
        """What that many positions cost by the latest figure, rounded up; None while nothing is known."""
        return None if self._microjoules is None else ceil_div(tokens * self._microjoules, _MICRO)

    def figure(self) -> Figure | None:
        """The latest figure; None while nothing is known."""
        per_token = self.millijoules_for(1)
        if per_token is None:
            return None
        return Figure(millijoules_per_token=per_token, source=self._meter.source, batch=self._batch)
