"""How far to guess ahead: chosen from what guesses were worth so far, and from what rows and trips cost.

A token alone takes a trip round the ring. With a guess right with probability `a`, one pass that verifies `k` guesses
brings ``(1 - a**(k + 1)) / (1 - a)`` tokens on average (Leviathan, Kalman, Matias 2023, "Fast inference from
transformers via speculative decoding", equation 1); without an end to the guesses it is ``1 / (1 - a)``. Where a trip
is longer than a pass, several passes are under way at once: then a wrong guess costs one trip, however many passes were
launched before it was found out, and ``1 / (1 - a)`` tokens come in each time of a trip and of the launches before.

Times are seconds, as whoever uses this measured them. Nothing here knows a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from protocol.drafting.measured import ENOUGH, KEPT, Came, Times, Worth

__all__ = ["NONE", "Costs", "Pace", "Pacer", "Prior", "speed"]

GAIN = 1.04
"""Guessing has to promise so much more speed to be done at all; another choice, to be taken instead of the last one."""
WORTH_ROWS = 1.01
"""More rows under way have to bring so much more speed: others share the passes."""
DEPTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
FLIGHTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class Pace(NamedTuple):
    """A choice: guesses in one launch, and launches under way at once."""

    depth: int
    flights: int


NONE = Pace(0, 0)
"""One token after the other."""


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


PROBE_LEAST = 8
"""Launches between two probes, at first."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What one session has taught, for the next one to begin with."""

    worth: float = 0.5
    """Of any guess."""
    known: bool = False
    """Whether a session has taught what rows cost."""
    trips: Times = field(default_factory=Times)
    passes: Times = field(default_factory=Times)
    guesses: Times = field(default_factory=lambda: Times(row_share=1.0))
    plain: Came = field(default_factory=Came)
    guessed: Came = field(default_factory=Came)
    """See `Pacer`."""
    rest: int = PROBE_LEAST
    barred: int = 0
    count: int = 0


class Pacer:
    """Chooses the pace of one session, again and again.

    Args:
        most: what the terms allow.
        prior: what sessions before it have taught.
    """

    def __init__(self, most: Pace, prior: Prior = Prior()) -> None:
        self.most = most
        self.worth = Worth(believed=prior.worth)
        self.trips = prior.trips.lately()
        """A launch's way round the ring."""
        self.passes = prior.passes.lately()
        """From one launch to the next: the first leg's own pass, or the time between two that come back."""
        self.guesses = prior.guesses.lately()
        """The making of guesses."""
        self._plain = prior.plain.lately()
        self._guessed = prior.guessed.lately()
        """What came without guesses, and with them."""
        self._prior = prior
        self._pace = NONE
        self._gain = 1.0
        self._due = 0
        """Launches until the choice is looked at again."""
        self._every = LOOK_EVERY
        self._count = prior.count
        self._before = self._last = NONE
        """The choices before the next one."""
        self._rest = prior.rest
        """Launches without guesses between two probes, while it does not pay."""
        self._rested = 0 if prior.known else PROBE_LEAST // 2
        self._barred = prior.barred
        """Launches for which nothing is guessed, whatever is expected of it."""

    @property
    def pace(self) -> Pace:
        """What was chosen last."""
        return self._pace

    def learned(self) -> Prior:
        """For the next session."""
        known = self._prior.known or self.trips.seasoned
        return Prior(
            worth=self.worth.overall,
            known=known,
            trips=self.trips,
            passes=self.passes,
            guesses=self.guesses,
            plain=self._plain,
            guessed=self._guessed,
            rest=self._rest,
            barred=self._barred,
            count=self._count,
        )

    def came(self, tokens: int, seconds: float) -> None:
        """What came of the last choice until there is another one to make, all that was waited for included."""
        if self._last != NONE:
            self._guessed.note(tokens, seconds)
        elif self._before == NONE:  # else what was launched before it, and refuted, may have been in its way
            self._plain.note(tokens, seconds)

    def next_pace(self, *, sharing: int = 1) -> Pace:
        """For a launch now, after a wrong guess or without any under way; to be asked once for each.

        Args:
            sharing: sessions that share the passes: what this one adds to a pass, each of them may add.
        """
        self._before, self._last = self._last, self._next(sharing)
        return self._last

    def _next(self, sharing: int) -> Pace:
        self._count += 1
        self._due -= 1
        if self._barred or not self._plain.known:
            self._barred = max(0, self._barred - 1)
            return NONE
        if self._due <= 0 or (self._pace != NONE and self._guessed.ratio(self._plain) < 1.0):
            before = self._pace
            self._choose(max(1, sharing))
            self._every = LOOK_EVERY if self._pace != before else min(LOOK_MOST, 2 * self._every)
            self._due = self._every
        if self._pace == NONE:
            return self._probe()
        # Now and then none, some in a row: what comes without is known by this only.
        every, alone = ALONE_OFTEN if self._guessed.ratio(self._plain) < 2.5 else ALONE_RARELY
        if self._count % every < alone:
            return NONE
        # And another number of rows, which tells what a row costs.
        return self._pace if self._count % 16 else Pace(max(1, self._pace.depth // 2), self._pace.flights)

    def _probe(self) -> Pace:
        self._rested += 1
        if self._rested < self._rest or not self.most.depth:
            return NONE
        self._rested = 0
        depth = min(PROBE_DEPTH, self.most.depth)
        lost = self.trips.of(1 + depth) / self.trips.of(1) - 1.0 if self.trips.known else 0.0
        least = int(max(lost, self._guessed.lost(self._plain)) / PROBE_SHARE)
        self._rest = min(max(PROBE_MOST, least), self._rest * 2)
        return Pace(depth, 1)

    def _choose(self, sharing: int) -> None:
        if not self.trips.known or not self.most.depth:
            return
        survival, overall = self.worth.survival(), self.worth.overall
        # What came is surer than a trip's time, which launches and guesses beside it lengthen.
        none = self._plain.speed
        best, best_speed = NONE, none * GAIN
        for pace in self._candidates():
            found = speed(survival, overall, pace, self._costs(pace, sharing))
            if found > best_speed * (GAIN if best == self._pace != NONE else WORTH_ROWS):
                best, best_speed = pace, found
        if best != NONE and self._disappoints():
            best = NONE
        elif best != NONE and self._pace == NONE:
            self._rest = PROBE_LEAST
        self._pace, self._gain = best, best_speed / none

    def _disappoints(self) -> bool:
        """Whether less came with guesses than without, whatever was expected: then for a while there are none.

        What a launch and its guesses take is measured, but not all that they hold up: a drafter's reading in of a long
        text, cores that it takes from others.
        """
        if self._guessed.ratio(self._plain) >= 1.0:
            return False
        lost = ENOUGH * self._guessed.lost(self._plain)  # each time that it is tried again
        self._barred = max(BARRED_LEAST, min(BARRED_MOST, int(lost / PROBE_SHARE)))
        self._guessed = self._guessed.lately(ENOUGH / 2)
        return True

    def _candidates(self) -> list[Pace]:
        seasoned = self._prior.known or self.trips.seasoned
        deepest = self.most.depth if seasoned else min(PROBE_DEPTH, self.most.depth)
        depths = [each for each in (*DEPTHS, deepest) if each <= deepest]
        several = self.passes.known and self._guessed.known  # what they hold up, each of several does
        flights = [each for each in FLIGHTS if each <= self.most.flights and (each == 1 or several)]
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
PROBE_MOST = 64
"""Launches between two probes at last; more, where rows are so dear that probes would take more than their share."""
ALONE_OFTEN, ALONE_RARELY = (48, 4), (96, 3)
"""Of so many choices so many are for none, where guesses bring little or nothing, and where they bring much."""
PROBE_SHARE = 0.01
"""Of the time."""
BARRED_LEAST = 64
BARRED_MOST = 2048
"""Launches without guesses once less came with them than without."""
