"""Nodes that refused an order and said when to come back: they are left alone until then, and asked again after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from node.app.buying.planning import JobPlan
from node.events import Events, WaitingForBusy
from node.pipeline.buying.job import JobResult
from node.ports import Clock
from protocol.errors import RefusedError
from protocol.routing.routes import NoRouteError

__all__ = ["MOST_WAIT_S", "BusyNodes"]

MOST_WAIT_S = 60
"""A job waits for a busy node no longer than this; beyond it, whoever wants it is told when to come back."""
MAX_KNOWN = 1024
"""Nodes that are remembered; those that were told of first are forgotten first."""


class BusyNodes:
    """By public key. What they said is their own word: it costs this client no more than a wait."""

    def __init__(self, clock: Clock, events: Events) -> None:
        self._clock = clock
        self._events = events
        self._until: dict[bytes, int] = {}

    def note(self, result: JobResult) -> None:
        """Take down which legs of a job said when to come back."""
        for leg, error in result.failures.items():
            if isinstance(error, RefusedError) and error.retry_s:
                node = result.deal.offer(leg).public_key
                self._until.pop(node, None)
                self._until[node] = self._clock() + error.retry_s
        while len(self._until) > MAX_KNOWN:
            del self._until[next(iter(self._until))]

    @property
    def until(self) -> Mapping[bytes, int]:
        """By public key of those that said so: when to come back, in Unix seconds. The time may have passed."""
        return self._until

    async def planned(self, plan: Callable[[], Awaitable[JobPlan]]) -> JobPlan:
        """What `plan` makes, once no node of its route is to be left alone any more.

        Raises what `plan` raises, and NoRouteError with code ``busy`` where that is not in `MOST_WAIT_S`.
        """
        while True:
            made = await plan()
            wait_s = self._wait_s(leg.offer.public_key for leg in made.route.legs)
            if wait_s <= 0:
                return made
            if wait_s > MOST_WAIT_S:
                hint = f"come back in {wait_s} s"
                raise NoRouteError("the nodes that there is no way round are busy", code="busy", hint=hint)
            self._events(WaitingForBusy(wait_s=wait_s))
            await asyncio.sleep(wait_s)

    def _wait_s(self, nodes: Iterable[bytes]) -> int:
        now = self._clock()
        return max((self._until.get(node, now) - now for node in nodes), default=0)
