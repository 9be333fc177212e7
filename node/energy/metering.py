"""The meter of a running node: read again and again, what is wrong with it told, what comes of it written down.

Nothing that a meter says or does ends the node: while it cannot be believed, figures are those of before, labelled a
model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from node.energy.account import Energy, MeteredEnergy
from node.energy.live import Power, report_of, write_report
from node.energy.shared import SharedMeter
from node.events import EnergyNotKept, Events, MeterFailed, MeterNotShared, MeterReadAgain, MeterShared
from node.ports import Clock, Worker
from protocol.errors import MeterError

__all__ = ["Metering"]

WRITE_S = 5
"""Seconds between two reports."""
_LONGEST_WAIT_S = 30.0
"""Between two tries with a meter that fails."""


class Metering:
    """See above.

    Args:
        worker: where the meter is read and the report is written; nobody waits for it but this.
        power: what energy costs now.
        path: of the report.
    """

    def __init__(
        self,
        energy: Energy,
        *,
        worker: Worker,
        events: Events,
        clock: Clock,
        power: Callable[[], Power],
        path: Path | None,
    ) -> None:
        self._energy = energy
        self._worker = worker
        self._events = events
        self._clock = clock
        self._power = power
        self._path = path
        self._since = clock()
        self._failures = 0
        self._sharers = 1
        self._said_alone = False
        self._written_s: float | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            energy = self._energy
            wait_s = await self._read(energy) if isinstance(energy, MeteredEnergy) else float(WRITE_S)
            await self._write()
            await asyncio.sleep(wait_s)

    async def _read(self, energy: MeteredEnergy) -> float:
        """Seconds until the next reading."""
        meter = energy.meter
        try:
            reading = await self._worker.run(meter.read)
        except MeterError as error:
            self._failed(energy, error)
            return min(_LONGEST_WAIT_S, meter.every_s * (1 << min(self._failures, 6)))
        energy.take(reading)
        if energy.fault is not None:
            self._failed(energy, energy.fault)
        elif self._failures:
            self._failures = 0
            self._events(MeterReadAgain(meter=meter.name))
        if reading.sharers != self._sharers:
            self._sharers = reading.sharers
            self._events(MeterShared(meter=meter.name, nodes=reading.sharers))
        if isinstance(meter, SharedMeter) and meter.folder.trouble is not None and not self._said_alone:
            self._said_alone = True
            self._events(MeterNotShared(reason=meter.folder.trouble))
        return meter.every_s

    def _failed(self, energy: MeteredEnergy, error: MeterError) -> None:
        energy.lose(error)
        self._failures += 1
        if self._failures == 1:
            self._events(MeterFailed(reason=error.message, hint=error.hint or ""))

    async def _write(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._path is None or (self._written_s is not None and now - self._written_s < WRITE_S):
            return
        self._written_s = now
        fault = self._energy.fault if isinstance(self._energy, MeteredEnergy) else None
        report = report_of(
            self._energy.figures(),
            self._power(),
            at=self._clock(),
            since=self._since,
            next_s=WRITE_S if fault is None else round(_LONGEST_WAIT_S),
            fault=None if fault is None else fault.message,
        )
        path = self._path
        try:
            await self._worker.run(lambda: write_report(path, report))
        except OSError as error:
            self._events(EnergyNotKept(reason=f"{path} cannot be written: {error.strerror}"))
            self._path = None
