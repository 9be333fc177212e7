"""How the joules of a window are shared out (docs/spec/market.md, clauses M60 to M64). Microjoules and microseconds.

A window's energy is split into what would have been drawn anyway and what work took; the latter goes to the sessions by
what they had computed. Nothing is lost in rounding: the parts sum up to the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from protocol.units import IntOrArray, ceil_div, choose

__all__ = ["NOBODY", "NOT_SAID", "Accuracy", "Roofline", "Weights", "Worked", "idle_part", "marginal_of", "shares"]

NOBODY = b""
"""In the place of a session that is over: nobody is told of what was computed for it."""
_US = 1_000_000
_BATCH_SPREAD = 400
"""Work and passes of windows have to differ by one part in so many, before a slope is made of them."""


class Worked(NamedTuple):
    """What one session had computed in a pass."""

    session: bytes
    """Its id; `NOBODY` where it was over before the pass was."""
    prompt: int
    """Prompt positions."""
    generated: int
    """Positions that yield tokens of the answer, or might have."""
    blocks: int
    """That each of them went through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What a position weighs in each of the blocks that it goes through; only their ratio matters."""

    prompt: int = 1
    generated: int = 1

    def of(self, worked: Worked) -> int:
        """Weight of some work."""
        return (worked.prompt * self.prompt + worked.generated * self.generated) * worked.blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How far a meter may be off, as far as that is said; what is not said is None, not 0."""

    ppm: int | None = None
    """Of what it counts, in millionths: its maker's or its operator's word."""
    step_uj: int | None = None
    """The smallest difference that it can show, in microjoules; None where it shows watts."""

    def error_uj(self, microjoules: int) -> int | None:
        """The most that so much may be off: by the share, and by a step at either end; None where no share is said."""
        if self.ppm is None:
            return None
        return ceil_div(abs(microjoules) * self.ppm, _US) + 2 * (self.step_uj or 0)


NOT_SAID = Accuracy()
"""Of a model, or of a meter of which nobody has said anything."""


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """`total` cut in proportion to `weights`, each part within 1 of its exact value; the parts sum up to `total`.

    Args:
        total: may be below 0.
        weights: none below 0; their sum above 0.
    """
    whole = sum(weights)
    parts, before, gone = [], 0, 0
    for weight in weights:
        gone += weight
        upto = total * gone // whole
        parts.append(upto - before)
        before = upto
    return parts


def idle_part(
    microjoules: IntOrArray, window_us: IntOrArray, busy_us: IntOrArray, idle_uw: IntOrArray | None
) -> IntOrArray:
    """What of a window's energy no work took: the machine's idle power for the time in which nothing was computed.

    Args:
        microjoules: at least 0, at most 10^15 in arrays.
        window_us: at least 1.
        busy_us: in which something was computed; from 0 to `window_us`.
        idle_uw: microwatts that the machine draws when nothing runs; None while nobody has seen it, and then power is
            taken to have been the same all the time.
    """
    quiet_us = window_us - busy_us
    if idle_uw is None:
        whole, rest = divmod(microjoules, window_us)
        whole *= quiet_us  # in place: no array is made beside these two
        rest *= quiet_us
        rest //= window_us
        whole += rest
        by_time: IntOrArray = whole
        return by_time
    drawn = idle_uw * quiet_us // _US
    smaller: IntOrArray = choose(drawn < microjoules, drawn, microjoules)
    return smaller


def marginal_of(windows: Iterable[tuple[int, int, int]]) -> Fraction | None:
    """Microjoules that one more unit of work takes in a pass that runs anyway: the slope of energy over work.

    Least squares over ``(passes, work, microjoules)`` of windows: energy is so much a pass, and so much a unit of
    work. None while batches were all alike, or where more work took less energy: nothing follows from these.
    """
    pp = pw = ww = pe = we = 0
    for passes, work, energy in windows:
        pp, pw, ww = pp + passes * passes, pw + passes * work, ww + work * work
        pe, we = pe + passes * energy, we + work * energy
    spread = pp * ww - pw * pw
    if spread * _BATCH_SPREAD <= pp * ww:
        return None
    slope = Fraction(we * pp - pe * pw, spread)
    return slope if slope > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """A device as its maker describes it: a pass takes as long as its arithmetic or its memory traffic, the longer."""

    milliwatts: int
    """That it draws at work; above 0."""
    mflop_per_s: int
    """Millions of floating-point operations a second; above 0."""
    kb_per_s: int
    """Thousands of bytes of memory traffic a second; above 0."""

    def microjoules(self, rows: IntOrArray, *, parameters: int, weight_bytes: int) -> IntOrArray:
        """Of a pass of so many rows through so many parameters: two operations each, and all weights read once."""
        arithmetic_us = ceil_div(2 * parameters * rows, self.mflop_per_s)
        memory_us = ceil_div(weight_bytes * 1000, self.kb_per_s)
        longer_us = choose(arithmetic_us > memory_us, arithmetic_us, memory_us)
        spent: IntOrArray = ceil_div(longer_us * self.milliwatts, 1000)
        return spent
