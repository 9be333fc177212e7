"""How far to guess ahead: chosen from what guesses were worth so far, and from what rows and trips cost.

A token alone takes a trip round the ring. With a guess right with probability `a`, one pass that verifies `k` guesses
brings ``(1 - a**(k + 1)) / (1 - a)`` tokens on average (Leviathan, Kalman, Matias 2023, "Fast inference from
transformers via speculative decoding", equation 1); without an end to the guesses it is ``1 / (1 - a)``. Where a trip
is longer than a pass, several passes are under way at once: then a wrong guess costs one trip, however many passes were
launched before it was found out, and ``1 / (1 - a)`` tokens come in each time of a trip and of the launches before.

Times are seconds, as whoever uses this measured them. Nothing here knows a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

__all__ = ["NONE", "Costs", "Pace", "Pacer", "Prior", "Times", "Worth", "speed"]

KEPT = 48
"""Guesses in a row whose worth is known one by one; beyond, they are worth what guesses are on the whole."""
_FADES = 0.97
"""What is known of the worth of a guess, and of times, counts by so much less with each further measurement."""
_WEIGHT = 4.0
"""Measurements that what was believed before counts for."""
_SURE = 0.995
"""More than this is not believed of any guess."""
GAIN = 1.04
"""Guessing has to promise so much more speed to be done at all; another choice, to be taken instead of the last one."""
WORTH_ROWS = 1.01
"""More rows under way have to bring so much more speed: others share the passes."""
DEPTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
FLIGHTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
LEAST_S = 1e-6
OUTLIER = 6.0
"""A measurement counts as at most so many times what was expected."""


class Pace(NamedTuple):
    """A choice: guesses in one launch, and launches under way at once."""

    depth: int
    flights: int


NONE = Pace(0, 0)
"""One token after the other."""


@dataclass(slots=True)
class _Mean:
    """The mean of what was measured lately."""

    weight: float = 0.0
    total: float = 0.0

    def note(self, value: float) -> None:
        self.weight = self.weight * _FADES + 1.0
        self.total = self.total * _FADES + value

    def value(self, before: float) -> float:
        """With what was believed before any measurement."""
        return (self.total + before * _WEIGHT) / (self.weight + _WEIGHT)


@dataclass(slots=True)
class Worth:
    """How often guesses were right: by how many stood right before them, since the last wrong one."""

    believed: float = 0.5
    """Before anything is known."""
    _all: _Mean = field(default_factory=_Mean)
    _each: list[_Mean] = field(default_factory=lambda: [_Mean() for _ in range(KEPT)])

    def note(self, right_before: int, right: bool) -> None:
        """A guess was found right or wrong, after so many right ones in a row."""
        self._all.note(right)
        if right_before < KEPT:
            self._each[right_before].note(right)

    @property
    def overall(self) -> float:
        """Of any guess."""
        return min(_SURE, self._all.value(self.believed))

    def survival(self) -> list[float]:
        """The probability that the first 0, 1, 2, ... guesses are all right."""
        overall = self.overall
        survives = [1.0]
        for each in self._each:
            survives.append(survives[-1] * min(_SURE, each.value(overall)))
        return survives


@dataclass(slots=True)
class Times:
    """Seconds that something takes, as a line over its rows: the latest measurements count most."""

    row_share: float = 0.1
    """What one more row costs, as a share of the time for one, before anything is known."""
    _weight: float = 0.0
    _rows: float = 0.0
    _seconds: float = 0.0
    _squares: float = 0.0
    _products: float = 0.0

    @property
    def known(self) -> bool:
        """Whether anything was measured."""
        return self._weight > 0

    @property
    def seasoned(self) -> bool:
        """Whether enough is known of what rows cost to go by it."""
        spread = self._squares - self._rows * self._rows / self._weight if self.known else 0.0
        return spread >= _WEIGHT

    def note(self, rows: int, seconds: float) -> None:
        """So many rows took so long."""
        seconds = max(seconds, LEAST_S)
        if self.known:
            seconds = min(seconds, OUTLIER * self.of(rows))
            self._learn(rows, seconds)
        self._weight = self._weight * _FADES + 1.0
        self._rows = self._rows * _FADES + rows
        self._seconds = self._seconds * _FADES + seconds
        self._squares = self._squares * _FADES + rows * rows
        self._products = self._products * _FADES + rows * seconds

    def _learn(self, rows: int, seconds: float) -> None:
        """What a row costs is kept when launches of one length have made the others fade."""
        apart = rows - self._rows / self._weight
        if abs(apart) >= 1.0:
            row_s = (seconds - self._seconds / self._weight) / apart
            self.row_share += (max(0.0, row_s / self.of(1)) - self.row_share) / _WEIGHT

    def of(self, rows: float) -> float:
        """For so many rows; 0 while nothing is known."""
        if not self.known:
            return 0.0
        mean_rows, mean_s = self._rows / self._weight, self._seconds / self._weight
        return max(mean_s / OUTLIER, mean_s + self._slope(mean_rows, mean_s) * (rows - mean_rows))

    @property
    def share(self) -> float:
        """What one more row costs, as a share of the time for one row."""
        mean_rows, mean_s = self._rows / self._weight if self.known else 1.0, self.of(1)
        return self._slope(mean_rows, self._seconds / self._weight) / mean_s if mean_s else self.row_share

    def _slope(self, mean_rows: float, mean_s: float) -> float:
        """As measured where rows differed, drawn towards what was believed before where they hardly did."""
        believed = self.row_share * mean_s / (1.0 + self.row_share * (mean_rows - 1.0))
        spread = max(0.0, self._squares - mean_rows * mean_rows * self._weight)
        together = self._products - mean_rows * mean_s * self._weight
        return max(0.0, (together + believed * _WEIGHT) / (spread + _WEIGHT))


class Costs(NamedTuple):
    """What a launch costs in seconds."""

    alone_s: float
    """A trip of one row."""
    trip_s: float
    """A trip of a launch."""
    spacing_s: float
    """From one launch to the next, where none is waited for: the slowest pass, or the making of the guesses."""
    guessing_s: float = 0.0
    """To make the guesses of one launch."""


def speed(survival: list[float], overall: float, pace: Pace, costs: Costs) -> float:
    """Tokens a second to expect of a pace (see the head of this module).

    Args:
        survival: the probability that the first 0, 1, 2, ... guesses are right.
        overall: that of one more guess beyond them.
    """
    if pace == NONE:
        return 1.0 / costs.alone_s
    beyond = len(survival) - 1

    def survives(guesses: int) -> float:
        return survival[guesses] if guesses <= beyond else survival[beyond] * overall ** (guesses - beyond)

    trip_s = costs.guessing_s + costs.trip_s
    if pace.flights == 1:
        return sum(survives(each) for each in range(pace.depth + 1)) / trip_s
    tokens = sum(survival) + survival[beyond] * overall / (1.0 - overall)
    # Launches before the one that brings the wrong guess to light; what is in the first leg's blocks then holds up the
    # new beginning by half a pass.
    full = costs.spacing_s * pace.flights
    launches_s = min(1.0, full / costs.trip_s) * costs.spacing_s / 2
    wait_s = max(costs.spacing_s, costs.trip_s - full + costs.spacing_s)
    flight = 1
    while flight < 2 * KEPT and (share := survives(flight * pace.depth + 1)) > 0.005:
        launches_s += share * (costs.spacing_s if flight % pace.flights else wait_s)
        flight += 1
    return tokens / (trip_s + launches_s)


@dataclass(frozen=True, slots=True)
class Prior:
    """What one session has taught, for the next one to begin with."""

    worth: float = 0.5
    row_share: float = 0.1
    known: bool = False
    """Whether a session has taught anything."""


class Pacer:
    """Chooses the pace of one session, again and again.

    Args:
        most: what the terms allow.
        prior: what sessions before it have taught.
    """

    def __init__(self, most: Pace, prior: Prior = Prior()) -> None:
        self.most = most
        self.worth = Worth(believed=prior.worth)
        self.trips = Times(row_share=prior.row_share)
        """A launch's way round the ring."""
        self.passes = Times(row_share=prior.row_share)
        """From one launch to the next: the first leg's own pass, or the time between two that come back."""
        self.guesses = Times(row_share=1.0)
        """The making of guesses."""
        self._prior = prior
        self._pace = NONE
        self._gain = 1.0
        self._due = 0
        """Launches until the choice is looked at again."""
        self._every = LOOK_EVERY
        self._count = 0
        self._rest = PROBE_LEAST
        """Launches without guesses between two probes, while it does not pay."""
        self._rested = PROBE_LEAST // 2

    @property
    def pace(self) -> Pace:
        """What was chosen last."""
        return self._pace

    def learned(self) -> Prior:
        """For the next session."""
        share = self.trips.share if self.trips.known else self._prior.row_share
        known = self._prior.known or self.trips.seasoned
        return replace(self._prior, worth=self.worth.overall, row_share=share, known=known)

    def next_pace(self, *, sharing: int = 1) -> Pace:
        """For a launch now, after a wrong guess or without any under way; to be asked once for each.

        Args:
            sharing: sessions that share the passes: what this one adds to a pass, each of them may add.
        """
        self._count += 1
        self._due -= 1
        if self._due <= 0:
            before = self._pace
            self._choose(max(1, sharing))
            self._every = LOOK_EVERY if self._pace != before else min(LOOK_MOST, 2 * self._every)
            self._due = self._every
        if self._pace == NONE:
            return self._probe()
        # Now and then another number of rows: what a row costs, and one alone takes, is known by this only.
        every = 8 if self._gain < 1.5 else 16
        if self._count % every == 0:
            return NONE if self._gain < 1.5 else Pace(max(1, self._pace.depth // 2), self._pace.flights)
        return self._pace

    def _probe(self) -> Pace:
        self._rested += 1
        if self._rested < self._rest or not self.most.depth:
            return NONE
        self._rested = 0
        depth = min(PROBE_DEPTH, self.most.depth)
        least = int((self.trips.of(1 + depth) / self.trips.of(1) - 1.0) / PROBE_SHARE) if self.trips.known else 0
        self._rest = min(max(PROBE_MOST, least), self._rest * 2)
        return Pace(depth, 1)

    def _choose(self, sharing: int) -> None:
        if not self.trips.known or not self.most.depth:
            return
        survival, overall = self.worth.survival(), self.worth.overall
        none = 1.0 / self.trips.of(1)
        best, best_speed = NONE, none * GAIN
        for pace in self._candidates():
            found = speed(survival, overall, pace, self._costs(pace, sharing))
            if found > best_speed * (GAIN if best == self._pace != NONE else WORTH_ROWS):
                best, best_speed = pace, found
        if best != NONE and self._pace == NONE:
            self._rest = PROBE_LEAST
        self._pace, self._gain = best, best_speed / none

    def _candidates(self) -> list[Pace]:
        seasoned = self._prior.known or self.trips.seasoned
        deepest = self.most.depth if seasoned else min(PROBE_DEPTH, self.most.depth)
        depths = [each for each in (*DEPTHS, deepest) if each <= deepest]
        flights = [each for each in FLIGHTS if each <= self.most.flights and (each == 1 or self.passes.known)]
        found = [Pace(depth, each) for depth in sorted(set(depths)) for each in flights]
        # The last choice comes first: others have to be better by more than a measurement's error.
        # Then those that waste least.
        return sorted(found, key=lambda pace: (pace != self._pace, pace.depth * pace.flights))

    def _costs(self, pace: Pace, sharing: int) -> Costs:
        rows = 1 + pace.depth * sharing
        guessing_s = self.guesses.of(pace.depth)
        spacing_s = max(self.passes.of(pace.depth * sharing), guessing_s)
        return Costs(self.trips.of(1), self.trips.of(rows), spacing_s, guessing_s)


LOOK_EVERY = 4
"""Launches between two looks at the choice, at first and after a change: a look takes as long as a short pass."""
LOOK_MOST = 32
"""The same where looks have changed nothing for long."""
PROBE_DEPTH = 2
PROBE_LEAST = 8
PROBE_MOST = 64
"""Launches between two probes at last; more, where rows are so dear that probes would take more than their share."""
PROBE_SHARE = 0.01
"""Of the time."""
