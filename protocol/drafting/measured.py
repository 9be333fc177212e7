"""What guesses, trips and choices were measured to be worth, lately: the latest measurements count most.

Times are seconds, as whoever uses this measured them. Nothing here knows a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ENOUGH", "KEPT", "Came", "Times", "Worth"]

KEPT = 48
"""Guesses in a row whose worth is known one by one; beyond, they are worth what guesses are on the whole."""
_FADES = 0.97
"""What is known of the worth of a guess, and of times, counts by so much less with each further measurement."""
_FADES_SOON = 0.94
"""The same of what came."""
_WEIGHT = 4.0
"""Measurements that what was believed before counts for."""
_SURE = 0.995
"""More than this is not believed of any guess."""
LEAST_S = 1e-6
ENOUGH = 6.0
"""Choices whose outcome tells how fast tokens come with them."""
OUTLIER = 6.0
"""A measurement counts as at most so many times what was expected."""


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

    def lately(self) -> Times:
        """A copy that counts for a few measurements."""
        part = min(1.0, _WEIGHT / self._weight) if self.known else 1.0
        sums = (self._weight, self._rows, self._seconds, self._squares, self._products)
        return Times(self.share if self.known else self.row_share, *(part * each for each in sums))

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


@dataclass(slots=True)
class Came:
    """What came of choices, whatever was expected of them: tokens, and the seconds that they took."""

    _weight: float = 0.0
    _tokens: float = 0.0
    _seconds: float = 0.0

    @property
    def known(self) -> bool:
        """Whether enough came to go by it."""
        return self._weight >= ENOUGH

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self._tokens / self._seconds

    def ratio(self, other: Came) -> float:
        """So many times as fast; 1 where that is not known."""
        return self.speed / other.speed if self.known and other.known else 1.0

    def lost(self, other: Came) -> float:
        """Tokens that the other would have brought meanwhile, beyond those that came, for each choice; at least 0."""
        return max(0.0, self._seconds * other.speed - self._tokens) / self._weight if self._weight else 0.0

    def lately(self, weight: float = ENOUGH + 1.0) -> Came:
        """A copy that counts for little more than enough, or for so many measurements."""
        part = min(1.0, weight / self._weight) if self._weight else 1.0
        return Came(part * self._weight, part * self._tokens, part * self._seconds)

    def note(self, tokens: int, seconds: float) -> None:
        """So many came in so long; that none came tells nothing."""
        if tokens < 1:
            return
        seconds = max(seconds, LEAST_S)
        if self.known:
            seconds = min(seconds, OUTLIER * tokens / self.speed)
        self._weight = self._weight * _FADES_SOON + 1.0
        self._tokens = self._tokens * _FADES_SOON + tokens
        self._seconds = self._seconds * _FADES_SOON + seconds
