"""How long passes take here, from those that were run: how many prompt rows fit beside answers. Integers only.

Microseconds of the loop's clock. A machine that stalls once moves a figure by little; one that stays slow, soon.
"""

from __future__ import annotations

from node.pipeline.serving.limits import ProviderLimits
from protocol.units import ceil_div

__all__ = ["LEAST_ROWS", "Pace"]

LEAST_ROWS = 8
"""Prompt rows in a pass beside answers, however slow they are: a pass of a few rows takes hardly longer than of one."""
ALONE_US = 1_000_000
"""A pass of prompts alone takes no longer: who comes meanwhile waits for its end."""
WEIGHT = 8
"""One in so many parts of a figure is that of the last pass."""
MOST = 4
"""A pass that took so many times as long, or as short, as was expected counts as one that took just that."""


class Pace:
    """Measured times.

    Args:
        limits: of the operator; `stretch` may change while the node runs.
        row_us: microseconds that a prompt row takes among many, as measured at start; at least 1.
        step_us: microseconds of a pass for a token of one answer, as measured at start; at least 1.
    """

    def __init__(self, limits: ProviderLimits, *, row_us: int, step_us: int) -> None:
        self._limits = limits
        self.row_us = max(1, row_us)
        """A prompt row among many."""
        self.step_us = max(1, step_us)
        """A pass of answers alone."""

    def took(self, answers: int, prompts: int, us: int) -> None:
        """A pass with so many rows of answers and of prompts took so long."""
        if prompts >= LEAST_ROWS:
            rows_us = max(us - self.step_us, us // MOST)
            self.row_us = _moved(self.row_us, ceil_div(rows_us, prompts))
        elif answers and not prompts:
            self.step_us = _moved(self.step_us, us)

    @property
    def rows_beside(self) -> int | None:
        """Prompt rows that a pass with answers in it has time for; None for as many as fit."""
        stretch = self._limits.stretch
        return max(LEAST_ROWS, (stretch - 1) * self.step_us // self.row_us) if stretch else None

    @property
    def rows_alone(self) -> int:
        """Prompt rows that a pass without answers has time for."""
        return max(LEAST_ROWS, ALONE_US // self.row_us)

    def prompt_row_us(self, *, beside: bool) -> int:
        """Microseconds for each of many prompt rows, where passes also carry answers or where they do not."""
        rows = self.rows_beside
        return self.row_us + (ceil_div(self.step_us, rows) if beside and rows is not None else 0)


def _moved(figure: int, sample: int) -> int:
    """Towards what was measured; at least 1."""
    step = min(MOST * figure, max(figure // MOST, sample)) - figure
    return max(1, figure + (ceil_div(step, WEIGHT) if step > 0 else step // WEIGHT))
