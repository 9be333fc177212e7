"""What events multiply, epoch by epoch."""

from __future__ import annotations

import numpy as np

from protocol.errors import ConfigurationError
from protocol.units import MICRO
from simulator.exact import LARGEST, Ints, magnitude
from simulator.scenario import Settings
from simulator.timeline import Timeline

__all__ = ["factors", "multiplied"]

MOST = 10**12


def factors(settings: Settings, timeline: Timeline, what: str, names: list[str]) -> Ints:
    """(names, T) millionths: the product of all events of this kind that hold.

    Raises ConfigurationError: over a million.
    """
    found = np.full((len(names), timeline.epochs), MICRO, dtype=np.int64)
    for event in settings.events:
        if event.what != what:
            continue
        start = timeline.before + event.at * timeline.per_hour
        end = min(timeline.epochs, start + event.hours * timeline.per_hour)
        for at, name in enumerate(names):
            if start < end and (not event.where or name in event.where):
                if magnitude(found[at, start:end]) * event.factor // MICRO > MOST:
                    raise ConfigurationError(f"events multiply {what} by over a million", hint="lower their factors")
                found[at, start:end] = found[at, start:end] * event.factor // MICRO
    return found


def multiplied(figure: Ints, by: Ints, what: str) -> Ints:
    """A figure times what events make of it, in millionths. Raises ConfigurationError where that outgrows 62 bits."""
    if magnitude(figure) * magnitude(by) >= LARGEST:
        raise ConfigurationError(f"events make a {what} outgrow 62-bit integers", hint="lower their factors")
    return np.asarray(figure * by // MICRO)
