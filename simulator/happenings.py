"""What events multiply, epoch by epoch."""

from __future__ import annotations

import numpy as np

from protocol.errors import ConfigurationError
from protocol.units import MICRO
from simulator.exact import LARGEST, Ints, magnitude
from simulator.scenario import Settings
from simulator.tables import Event
from simulator.timeline import Timeline

__all__ = ["factors", "multiplied", "span_of"]

MOST = 10**12


def factors(settings: Settings, timeline: Timeline, what: str, names: list[str]) -> Ints:
    """(names, T) millionths: the product of all events of this kind that hold.

    Raises ConfigurationError: over a million.
    """
    found = np.full((len(names), timeline.epochs), MICRO, dtype=np.int64)
    for event in settings.events:
        if event.what != what:
            continue
        some = span_of(event, timeline)
        for at, name in enumerate(names):
            if some.start < some.stop and (not event.where or name in event.where):
                if magnitude(found[at, some]) * event.factor // MICRO > MOST:
                    raise ConfigurationError(f"events multiply {what} by over a million", hint="lower their factors")
                found[at, some] = found[at, some] * event.factor // MICRO
    return found


def span_of(event: Event, timeline: Timeline) -> slice:
    """The epochs in which an event holds; none where it begins after the end."""
    start = timeline.before + event.at * timeline.per_hour
    return slice(start, max(start, min(timeline.epochs, start + event.hours * timeline.per_hour)))


def multiplied(figure: Ints, by: Ints, what: str) -> Ints:
    """A figure times what events make of it, in millionths. Raises ConfigurationError where that outgrows 62 bits."""
    if magnitude(figure) * magnitude(by) >= LARGEST:
        raise ConfigurationError(f"events make a {what} outgrow 62-bit integers", hint="lower their factors")
    return np.asarray(figure * by // MICRO)
