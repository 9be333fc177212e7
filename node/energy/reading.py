"""What meters are, and what one reading of them says."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from protocol.energy.energy_shares import Accuracy
from protocol.market.offer import Provenance

__all__ = ["Gauge", "Meter", "Reading"]


class Reading(NamedTuple):
    """What a meter has counted for this node."""

    microjoules: int
    """Since some moment; it rises as long as `epoch` stays the same."""
    epoch: tuple[int, ...] = ()
    """Another one says that nobody knows what was used since the reading before."""
    sharers: int = 1
    """Nodes that have their part of the same counter, this one included."""


class Meter(Protocol):
    """Counts the energy that this node has used."""

    @property
    def source(self) -> Provenance:
        """How far it can be trusted."""

    @property
    def name(self) -> str:
        """For people; without secrets."""

    @property
    def accuracy(self) -> Accuracy:
        """How far it may be off, as far as that is known by now."""

    @property
    def every_s(self) -> float:
        """Seconds between readings."""

    @property
    def window_s(self) -> float:
        """Seconds below which a difference of two readings says little."""

    @property
    def settle_s(self) -> float:
        """Seconds of one kind of work, or of none, for the figures at start."""

    def read(self) -> Reading:
        """Now. It may wait for a device, for some seconds: give it a thread. Raises MeterError."""


class Gauge(Protocol):
    """A device that shows energy or power, whoever has used it."""

    @property
    def name(self) -> str:
        """The same for everybody on this machine who reads the same device; without secrets."""

    @property
    def is_power(self) -> bool:
        """Whether it shows microwatts, and not microjoules."""

    @property
    def is_own(self) -> bool:
        """Whether it counts from a moment of this process's own, so that others see another number."""

    @property
    def accuracy(self) -> Accuracy:
        """How far it may be off, as far as that is known by now."""

    def value(self) -> int:
        """What it shows now. Raises MeterError."""
