"""The machine's own counters, through zeus (extra `energy`): GPUs, systems on a chip, processor packages."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

from protocol.energy.energy_shares import Accuracy
from protocol.errors import MeterError
from protocol.market.offer import Provenance

__all__ = ["HardwareGauge", "find_gauges"]

_UJ_PER_MJ = 1000
_CHIP_FIELDS = ("cpu_total_mj", "dram_mj", "gpu_mj", "gpu_sram_mj", "ane_mj")
"""Parts of an Apple chip that do not contain one another."""


class HardwareGauge:
    """One counter: of a card, a processor package, or a chip."""

    is_power = False

    def __init__(self, name: str, read_mj: Callable[[], float], *, is_own: bool, error_ppm: int | None = None) -> None:
        self.name = name
        self.is_own = is_own
        self.accuracy = Accuracy(ppm=error_ppm, step_uj=_UJ_PER_MJ)
        self._read_mj = read_mj

    def value(self) -> int:
        """Microjoules since some moment. Raises MeterError."""
        try:
            return int(self._read_mj() * _UJ_PER_MJ)
        except _failures() as error:
            raise MeterError(
                f"{self.name} cannot be read: {error}", hint="joule doctor names what is missing"
            ) from None


def find_gauges(wanted: Provenance, *, error_ppm: int | None = None) -> list[HardwareGauge]:
    """The machine's counters of a kind (`NVML`, `AMD`, `APPLE`, `RAPL`), where all of them can be read.

    Half of them would pass for a whole: where one cannot be read there is none. So there is without the extra `energy`.
    Of GPUs the processors' counters are with them where these can be read, as far as they belong to one machine.
    """
    if importlib.util.find_spec("zeus") is None:
        return []
    match wanted:
        case Provenance.RAPL:
            return _readable(_packages, error_ppm)
        case Provenance.APPLE:
            return _readable(_chip, error_ppm)
        case _:
            boards = _readable(lambda: _boards(wanted), error_ppm)
            return boards + _readable(_packages, error_ppm) if boards else []


def _failures() -> tuple[type[Exception], ...]:
    base: type[Exception] = importlib.import_module("zeus.exception").ZeusBaseError
    return base, OSError, ValueError, RuntimeError, ImportError, MeterError


def _readable(
    find: Callable[[], Iterator[tuple[str, Callable[[], float]]]], error_ppm: int | None
) -> list[HardwareGauge]:
    try:
        own = find in (_packages, _chip)  # zeus counts these, and how often they wrapped, in each process by itself
        gauges = [HardwareGauge(name, read, is_own=own, error_ppm=error_ppm) for name, read in find()]
        for each in gauges:
            each.value()
    except _failures():
        return []
    return gauges


def _packages() -> Iterator[tuple[str, Callable[[], float]]]:
    packages = importlib.import_module("zeus.device.cpu").get_cpus()

    def reader(index: int) -> Callable[[], float]:
        def read() -> float:
            measured: Any = packages.get_total_energy_consumption(index)
            return float(measured.cpu_mj + (measured.dram_mj or 0))

        return read

    for index in range(len(packages)):
        yield f"processor package {index}", reader(index)


def _boards(wanted: Provenance) -> Iterator[tuple[str, Callable[[], float]]]:
    boards = importlib.import_module("zeus.device.gpu").get_gpus()
    found = Provenance.AMD if type(boards).__name__.startswith("AMD") else Provenance.NVML
    if found is not wanted:
        return

    def reader(index: int) -> Callable[[], float]:
        return lambda: float(boards.get_total_energy_consumption(index))

    for index in range(len(boards)):
        yield f"{wanted} card {boards.gpus[index].gpu_index}", reader(index)


def _chip() -> Iterator[tuple[str, Callable[[], float]]]:
    chip = importlib.import_module("zeus.device.soc").get_soc()

    def read() -> float:
        measured = chip.get_total_energy_consumption()
        parts = [getattr(measured, name, None) for name in _CHIP_FIELDS]
        if all(part is None for part in parts):
            raise ValueError("the chip counts nothing")
        return float(sum(part for part in parts if part is not None))

    yield "Apple chip", read
