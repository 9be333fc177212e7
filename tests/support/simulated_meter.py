"""A machine whose every joule is known, behind a meter that is off by what it says, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from counting_engine import CountingEngine

from node.energy.account import MeteredEnergy
from node.energy.shared import MeterFolder, SharedMeter
from node.ports import T
from protocol.energy.energy_shares import Accuracy
from protocol.errors import MeterError
from protocol.market.offer import Provenance

IDLE_UW = 90_000_000
BUSY_UW = 310_000_000
"""Of a pass, besides what its rows take."""
ROW_UJ = 900_000
PASS_S = 0.3
ROW_S = 0.004
STEP_UJ = 3_600_000
"""A milliwatt-hour."""


def loop_us() -> int:
    return round(asyncio.get_running_loop().time() * 1e6)


class Machine:
    """Draws power for as long as passes take, and without them.

    Also `node.ports.Worker`: passes take their time on the loop's clock.
    """

    def __init__(self, engine: CountingEngine, *, error_ppm: int = 10_000, off_ppm: int = 0) -> None:
        self._engine = engine
        self._work_uj = 0
        self._begun_us = loop_us()
        self.busy_s = 0.0
        self.accuracy = Accuracy(ppm=error_ppm, step_uj=STEP_UJ)
        self._off_ppm = off_ppm
        self.fault: MeterError | None = None
        self.set_back_uj = 0

    name = "the simulated plug"
    is_power = False
    is_own = False

    @property
    def used_uj(self) -> int:
        """What it has really used."""
        return self._work_uj + IDLE_UW * (loop_us() - self._begun_us) // 1_000_000

    def value(self) -> int:
        if self.fault is not None:
            raise self.fault
        shown = self.used_uj * (1_000_000 + self._off_ppm) // 1_000_000 - self.set_back_uj
        return shown // STEP_UJ * STEP_UJ

    async def run(self, call: Callable[[], T]) -> T:
        before = self._engine.rows
        done = call()
        if rows := self._engine.rows - before:
            took_s = PASS_S + ROW_S * rows
            await asyncio.sleep(took_s)
            self.busy_s += took_s
            self._work_uj += round(took_s * (BUSY_UW - IDLE_UW)) + rows * ROW_UJ
        return done

    def close(self) -> None:
        pass


def metered(machine: Machine) -> MeteredEnergy:
    """The real account over it, as it is after a calibration that was far off."""
    loop = asyncio.get_running_loop()
    meter = SharedMeter(
        Provenance.WALL,
        [machine],
        folder=MeterFolder(None),
        who="node",
        work_ns=lambda: round(machine.busy_s * 1e9),
        most_uw=10**9,
        clock_us=loop_us,
    )
    energy = MeteredEnergy(meter, blocks=6, known=(3_000_000, 90_000_000), clock=loop.time)
    energy.calibrate(lambda: 1, lambda: 1)
    return energy
