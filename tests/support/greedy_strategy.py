"""A plug-in strategy for the simulator's tests: everybody asks a fixed price, or leaves it to the rule."""

from __future__ import annotations

import numpy as np

from simulator.exact import Ints
from simulator.scenario import Settings
from simulator.strategies import View

__all__ = ["Fixed", "Idle"]


class Fixed:
    """Asks five dollars per million tokens, whatever it costs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def levels(self, view: View) -> Ints | None:
        return np.full(len(view.cost), 5_000_000, dtype=np.int64)


class Idle:
    """Has nothing to say."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def levels(self, view: View) -> Ints | None:
        return None
