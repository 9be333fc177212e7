"""Whether a node takes work now: its ceiling, the grid's signal and its power cap, and what follows from them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from node.events import Events, WorkHeldBack, WorkResumed
from node.pipeline.serving.limits import ProviderLimits
from node.tariff import FollowedSignal, FollowedSupply
from protocol.energy.price_series import STEP_S
from protocol.errors import RefusedError
from protocol.policy.policy import LatencyClass
from protocol.serving.curtailment import Level, Signal, admits, by_ceiling, places_within, strictest
from protocol.units import format_micro

__all__ = ["Holding"]

LOOK_S = 1.0
"""Seconds between looks at the clock, the price and the signal."""


class Holding:
    """Belongs to one event loop.

    Args:
        power: what power costs.
        signal: what a grid asks; None where nobody is listened to.
        limits: whose places are kept within the power cap.
        session_w: watts that a session alone draws at the meter, as (millijoules, microseconds, PUE in thousandths) of
            a generated token; None while they are not known.
        active: jobs that run.
        shed: ends the jobs of classes that are not wanted any more.
        renew: called when a new offer is due.
    """

    def __init__(
        self,
        power: FollowedSupply,
        signal: FollowedSignal | None,
        limits: ProviderLimits,
        *,
        session_w: Callable[[], tuple[int, int, int] | None],
        active: Callable[[], int],
        shed: Callable[[Callable[[LatencyClass], bool], str], None],
        renew: Callable[[], None],
        events: Events,
    ) -> None:
        self._power = power
        self._signal = signal
        self._limits = limits
        self._session_w = session_w
        self._active = active
        self._shed = shed
        self._renew = renew
        self._events = events
        self.ceiling: int | None = None
        """Micro-units per kWh above which there is no work; None for any price."""
        self.cap_w: int | None = None
        """Watts that the node may draw at the meter; None for any."""
        self.most_sessions = limits.max_sessions
        """As it is set."""
        self._holds = Signal(Level.NORMAL)
        self._told = ""
        self._quarter = power.now // STEP_S

    @property
    def offers(self) -> bool:
        """Whether an offer should be out."""
        return self._holds.level is not Level.DRAIN

    def require(self, latency_class: LatencyClass) -> None:
        """Raises RefusedError where no job of this class is taken now."""
        if not admits(self._holds.level, latency_class):
            raise RefusedError(f"this node holds back: {self._holds.reason}", code="paused")

    async def run(self) -> None:
        """Look again and again, and act on what has changed, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Look once."""
        before, self._holds = self._holds, self._wanted()
        quarter = self._power.now // STEP_S
        if self._holds.level is Level.SHED:
            self._shed(lambda each: admits(Level.SHED, each), self._holds.reason)
        if self._holds.level is not before.level or quarter != self._quarter:
            self._quarter = quarter
            self._renew()
        self._tell()

    def _wanted(self) -> Signal:
        """What holds now; the places within the power cap are set on the way."""
        asked = [Signal(Level.NORMAL, limit_w=self.cap_w)]
        if self._signal is not None:
            asked.append(self._signal.signal)
        price = self._power.supply.micro_per_kwh
        if by_ceiling(price, self.ceiling):
            ceiling = format_micro(self.ceiling or 0)
            asked.append(
                Signal(Level.DRAIN, f"power costs {format_micro(price)} per kWh, above the ceiling of {ceiling}")
            )
        held = strictest(asked)
        places = self._places(held.limit_w)
        self._limits.max_sessions = max(1, min(self.most_sessions, places))
        if places == 0 and held.level is not Level.DRAIN:
            return Signal(Level.DRAIN, f"no job fits into {(held.limit_w or 0) / 1000:g} kW", held.until, held.limit_w)
        return held

    def _places(self, limit_w: int | None) -> int:
        figures = self._session_w()
        if limit_w is None or figures is None:
            return self.most_sessions
        return places_within(limit_w, *figures)

    def _tell(self) -> None:
        """Once for each step down, and once when all is well again."""
        level, jobs = self._holds.level, self._active()
        how = "paused" if level is Level.DRAIN and jobs == 0 else level.word
        if how == self._told or (how == "normal" and not self._told):
            return
        self._told = "" if how == "normal" else how
        self._events(WorkResumed() if how == "normal" else WorkHeldBack(how=how, reason=self._holds.reason, jobs=jobs))
