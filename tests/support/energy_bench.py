"""A meter and a machine whose time and energy pass when they are told to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from node.energy import MeteredEnergy
from node.energy.reading import Reading
from protocol.energy.energy_shares import NOT_SAID, Accuracy, Worked
from protocol.market.offer import Provenance

BLOCKS = 4
ONE, TWO = b"\x01" * 32, b"\x02" * 32
CORE = 10_000
MOST_MW = 1_000_000


@dataclass
class Bench:
    """Time and energy that pass when they are told to."""

    seconds: float = 100.0
    counted: int = 5_000_000
    source: Provenance = Provenance.RAPL
    window_s: float = 10.0
    every_s: float = 1.0
    settle_s: float = 5.0
    idle_w: int = 0
    name = "the bench"
    accuracy: Accuracy = NOT_SAID
    epoch: tuple[int, ...] = ()

    def clock(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.counted += round(seconds * self.idle_w * 1e6)

    def read(self) -> Reading:
        return Reading(self.counted, self.epoch)

    def account(self, **settings: Any) -> MeteredEnergy:
        return MeteredEnergy(self, blocks=BLOCKS, clock=self.clock, sleep=self.sleep, **settings)

    def work(self, energy: MeteredEnergy, *worked: Worked, seconds: float, joules: float) -> None:
        energy.begin()
        self.seconds += seconds
        self.counted += round(joules * 1e6)
        energy.record(worked)
        energy.take(self.read())

    def task(self, *, tokens: int, seconds: float, joules: float) -> Callable[[], int]:
        """Work to calibrate with."""

        def run() -> int:
            self.seconds += seconds
            self.counted += round(joules * 1e6)
            return tokens

        return run


def some(session: bytes, *, prompt: int = 0, generated: int = 0, blocks: int = BLOCKS) -> Worked:
    return Worked(session, prompt, generated, blocks)
