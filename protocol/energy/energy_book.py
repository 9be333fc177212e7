"""The books of a node's energy: what a meter counted, told to the last joule (docs/spec/market.md, clauses M60 to M62).

A receipt goes out before the window is over in which its tokens were computed. So a session is told what is known by
then, and for the rest an estimate by the latest figures; when the window is over it gets its share, and what it was
told too much or too little of comes off or on top of what it is told next. Of a session that is over, the difference
goes into the shares of later windows, a quarter of them at most. So at any time

    measured + estimated == idle + told + untold + carried + what sessions that run have got

and what is carried is no more than windows were estimated wrong by.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from protocol.energy.energy_shares import NOBODY, Weights, Worked, idle_part, marginal_of, shares
from protocol.units import ceil_div

__all__ = ["EnergyBook", "Window"]

_MILLI = 1000
"""Microjoules in a millijoule."""
_FINE = 1_000_000_000
"""The rate is kept in billionths of a microjoule."""
_CARRY_SHARE = 4
"""Of a window's energy, the part that may be put right for sessions that are over: an honest receipt stays possible."""
_KEPT = 64
"""Windows that the marginal figure is made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of time between two readings."""

    microjoules: int | None
    """That the meter counted; None where it could not say."""
    us: int
    """How long it was; at least 1."""
    busy_us: int
    """In which something was computed; at most `us`."""
    passes: int
    """That ended in it."""


@dataclass(slots=True)
class _Account:
    """One session's."""

    shared: int = 0
    """Microjoules of windows that are over."""
    pending: int = 0
    """Weight of what it had computed since."""
    told: int = 0
    """Millijoules, as last told; it never falls."""
    silent: bool = False
    """Whether it was told that nothing is known: then it is told so to its end."""
    over: bool = False


class EnergyBook:
    """See above. All sums are microjoules since the beginning."""

    def __init__(self, weights: Weights, *, rate: int | None = None) -> None:
        self.weights = weights
        self.rate = rate
        """Billionths of a microjoule for a unit of weight, averaged over the latest windows; None while unknown."""
        self.measured = 0
        """By the meter."""
        self.idle = 0
        """Of it, what no work took."""
        self.told = 0
        """To sessions that are over, in all."""
        self.untold = 0
        """Of sessions that were told that nothing is known, and of work for those that were over."""
        self.estimated = 0
        """What sessions got for windows that nobody measured."""
        self.carried = 0
        """What sessions that are over were told too little of, for others to come; below 0 where it was too much."""
        self.idle_uw: int | None = None
        """Microwatts that the machine draws when nothing is computed; None while nobody has seen it."""
        self._positions = 0
        """Of the window that is open, times the blocks that each went through."""
        self._busy = 0
        """Microjoules of work in a window, averaged over the latest."""
        self._accounts: dict[bytes, _Account] = {}
        self._recent: deque[tuple[int, int, int]] = deque(maxlen=_KEPT)

    @staticmethod
    def rate_of(microjoules: int, weight: int) -> int:
        """As `rate` is kept."""
        return ceil_div(microjoules * _FINE, weight)

    @property
    def running(self) -> int:
        """Microjoules of windows that are over, of sessions that are not all told."""
        return sum(each.shared for each in self._accounts.values())

    def record(self, worked: Iterable[Worked]) -> None:
        """A pass has ended."""
        for each in worked:
            account = self._accounts.get(each.session) or self._accounts.setdefault(each.session, _Account())
            if account.over or each.session == NOBODY:
                account = self._accounts.setdefault(NOBODY, _Account())
                account.silent = account.over = True
            account.pending += self.weights.of(each)
            self._positions += (each.prompt + each.generated) * each.blocks

    def tell(self, session: bytes) -> int | None:
        """Millijoules of a session so far, rounded up, never less than told before.

        None while nothing is known, and then to its end: what was told cannot be taken back.
        """
        if self.rate is None:
            self._accounts.setdefault(session, _Account()).silent = True
        account = self._accounts.get(session)
        if account is None:
            return 0
        if account.silent:
            return None
        if account.over:
            return account.told
        estimate = account.shared * _FINE + account.pending * self._telling_rate()
        account.told = max(account.told, ceil_div(estimate, _FINE * _MILLI))
        return account.told

    def _telling_rate(self) -> int:
        """For what no window has counted yet: the latest rate, and what the next window will put right."""
        rate = self.rate or 0
        return rate + rate * self._released(self._busy) // self._busy if self._busy else rate

    def _released(self, busy: int) -> int:
        """Of what is carried, the part that goes into a window with so much energy of work."""
        most = busy // _CARRY_SHARE
        return max(-most, min(most, self.carried))

    def end(self, session: bytes) -> int | None:
        """It is over: what it is told at last. A session that is not known had nothing."""
        if session not in self._accounts:
            return None if self.rate is None else 0
        account, told = self._accounts[session], self.tell(session)
        account.over = True
        if not account.pending:
            self._settle(session)
        return told

    def close(self, window: Window) -> None:
        """A window is over: share out what was counted in it."""
        workers = [each for each in self._accounts.values() if each.pending]
        weights = [each.pending for each in workers]
        if window.microjoules is None:
            parts = self._estimate(workers)
        else:
            parts = self._share_out(window, window.microjoules, weights)
        for each, part in zip(workers, parts, strict=True):
            each.shared += part
            each.pending = 0
        self._positions = 0
        for session in [session for session, each in self._accounts.items() if each.over]:
            self._settle(session)

    def _share_out(self, window: Window, microjoules: int, weights: list[int]) -> list[int]:
        self.measured += microjoules
        weight = sum(weights)
        if not weight:
            self.idle += microjoules
            if not window.busy_us:
                self.see_idle(microjoules * 1_000_000 // window.us)
            return []
        idle = idle_part(microjoules, window.us, window.busy_us, self.idle_uw)
        self.idle += idle
        busy = microjoules - idle
        self._recent.append((window.passes, self._positions, busy))
        sample = self.rate_of(busy, weight)
        self.rate = sample if self.rate is None else ceil_div(self.rate + sample, 2)
        self._busy = (self._busy + busy) // 2 if self._busy else busy
        released = self._released(busy)
        self.carried -= released
        return shares(busy + released, weights)

    def _estimate(self, workers: list[_Account]) -> list[int]:
        if self.rate is None:
            for each in workers:
                each.silent = True
            return [0] * len(workers)
        parts = [each.pending * self.rate // _FINE for each in workers]
        self.estimated += sum(parts)
        return parts

    def _settle(self, session: bytes) -> None:
        account = self._accounts.pop(session)
        if account.silent:
            self.untold += account.shared
        else:
            self.told += account.told * _MILLI
            self.carried += account.shared - account.told * _MILLI

    def see_idle(self, microwatts: int) -> None:
        """So much was drawn while nothing was computed."""
        self.idle_uw = microwatts if self.idle_uw is None else (3 * self.idle_uw + microwatts) // 4

    # Figures

    def average(self, worked: Worked) -> int | None:
        """Microjoules of such work by the latest windows, all power at work included; None while nothing is known."""
        return None if self.rate is None else ceil_div(self.weights.of(worked) * self.rate, _FINE)

    def marginal(self, blocks: int) -> int | None:
        """Microjoules that one more position adds to a pass that runs anyway; None while batches were all alike.

        A position that is generated is computed like one of a prompt: it costs more because fewer of them run together.
        """
        slope = marginal_of(self._recent)
        return None if slope is None else ceil_div(blocks * slope.numerator, slope.denominator)
