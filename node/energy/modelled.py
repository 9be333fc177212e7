"""Energy that is computed, not measured: processor time, or a device's roofline, at a power that somebody assumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from node.energy.reading import Reading
from protocol.energy.energy_shares import NOT_SAID, Roofline
from protocol.market.offer import Provenance

__all__ = ["MILLIWATTS_PER_CORE", "ProcessorTime", "RooflineMeter", "SpanSize"]

MILLIWATTS_PER_CORE = 10_000
"""Assumed draw of one busy core with its share of memory and fans: server processors are sold at 3 to 15 W a core under
full load. A figure made from it is published as `Provenance.MODEL`."""
_PJ_PER_UJ = 1_000_000


class ProcessorTime:
    """Processor time of this process, all threads, at an assumed power for each busy core."""

    source = Provenance.MODEL
    accuracy = NOT_SAID
    every_s = 1.0
    window_s = 5.0
    settle_s = 0.1
    """It has no steps, and says the same however short it is read: longer was no steadier, and is all computed."""

    def __init__(
        self, milliwatts_per_core: int = MILLIWATTS_PER_CORE, *, clock_ns: Callable[[], int] = time.process_time_ns
    ) -> None:
        self.milliwatts = milliwatts_per_core
        self._clock_ns = clock_ns

    @property
    def name(self) -> str:
        """What it assumes."""
        return f"processor time at {self.milliwatts / 1000:g} W a core"

    def read(self) -> Reading:
        """Nanoseconds of processor time times milliwatts."""
        return Reading(self._clock_ns() * self.milliwatts // _PJ_PER_UJ)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanSize:
    """What a pass has to go through."""

    parameters: int
    weight_bytes: int


class RooflineMeter:
    """What a device should have used for the passes that it was told of, by its maker's figures."""

    source = Provenance.MODEL
    accuracy = NOT_SAID
    every_s = 1.0
    window_s = 5.0
    settle_s = 0.0

    def __init__(self, roofline: Roofline, size: SpanSize) -> None:
        self._roofline = roofline
        self._size = size
        self._spent = 0

    @property
    def name(self) -> str:
        """What it assumes."""
        return f"roofline of a device of {self._roofline.milliwatts / 1000:g} W"

    def passed(self, rows: int) -> None:
        """A pass over so many rows has ended."""
        self._spent += self.microjoules(rows)

    def microjoules(self, rows: int) -> int:
        """Of a pass over so many rows."""
        return self._roofline.microjoules(rows, parameters=self._size.parameters, weight_bytes=self._size.weight_bytes)

    def read(self) -> Reading:
        """For all passes up to now."""
        return Reading(self._spent)
