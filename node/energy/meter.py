"""Counters of energy: the machine's own through zeus, or processor time at an assumed power."""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from protocol.offer import Provenance

__all__ = ["MILLIWATTS_PER_CORE", "HardwareCounter", "Meter", "ProcessorTime", "find_counter"]

MILLIWATTS_PER_CORE = 10_000
"""Assumed draw of one busy core with its share of memory and fans: server processors are sold at 3 to 15 W a core under
full load. A figure made from it is published as `Provenance.MODEL`."""


class Meter(Protocol):
    """A counter that only rises."""

    @property
    def source(self) -> Provenance:
        """How far the figure can be trusted."""

    @property
    def window_s(self) -> float:
        """Seconds of work below which a difference of two readings says little."""

    def millijoules(self) -> int:
        """The reading now."""


class ProcessorTime:
    """Processor time of this process, all threads, at an assumed power for each busy core."""

    source = Provenance.MODEL
    window_s = 1.0

    def __init__(
        self, milliwatts_per_core: int = MILLIWATTS_PER_CORE, *, clock_ns: Callable[[], int] = time.process_time_ns
    ) -> None:
        self._milliwatts = milliwatts_per_core
        self._clock_ns = clock_ns

    def millijoules(self) -> int:
        """Nanoseconds of processor time times milliwatts."""
        return self._clock_ns() * self._milliwatts // 1_000_000_000


class HardwareCounter:
    """The sum of some counters of the machine, each in millijoules."""

    window_s = 10.0
    """Counters are refreshed at intervals of their own, and GPUs sample their power for part of the time only."""

    def __init__(self, source: Provenance, counters: Sequence[Callable[[], float]]) -> None:
        if not counters:
            raise ValueError("the sum of no counters is not a measurement")
        self.source = source
        self._counters = tuple(counters)

    def millijoules(self) -> int:
        """The sum now."""
        return int(sum(read() for read in self._counters))


def find_counter(*, gpu: bool) -> HardwareCounter | None:
    """The machine's counters, if the extra `energy` is installed and finds any that can be read; else None.

    Args:
        gpu: whether the work runs on GPUs: then theirs count (NVML), and the processor's with them where readable.
            Otherwise the processor packages' and their memory's (RAPL).
    """
    if importlib.util.find_spec("zeus") is None:
        return None
    processors = _readable(_processor_counters)
    if not gpu:
        return HardwareCounter(Provenance.RAPL, processors) if processors else None
    boards = _readable(_gpu_counters)
    return HardwareCounter(Provenance.NVML, [*boards, *processors]) if boards else None


def _readable(find: Callable[[], list[Callable[[], float]]]) -> list[Callable[[], float]]:
    """What `find` finds, if every counter of it can be read: half a sum would pass for a whole one."""
    failures = (importlib.import_module("zeus.exception").ZeusBaseError, OSError, ValueError)
    try:
        counters = find()
        for read in counters:
            read()
    except failures:
        return []
    return counters


def _processor_counters() -> list[Callable[[], float]]:
    packages = importlib.import_module("zeus.device.cpu").get_cpus()

    def reader(index: int) -> Callable[[], float]:
        def read() -> float:
            measured: Any = packages.get_total_energy_consumption(index)
            return float(measured.cpu_mj + (measured.dram_mj or 0))

        return read

    return [reader(index) for index in range(len(packages))]


def _gpu_counters() -> list[Callable[[], float]]:
    boards = importlib.import_module("zeus.device.gpu").get_gpus()

    def reader(index: int) -> Callable[[], float]:
        return lambda: float(boards.get_total_energy_consumption(index))

    return [reader(index) for index in range(len(boards))]
