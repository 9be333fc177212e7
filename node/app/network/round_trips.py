"""How far away nodes are: measured when somebody asks, one measurement at a time for each node, and remembered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from protocol.market.offer import Offer
from protocol.routing.ways import UNKNOWN_RTT_US

__all__ = ["FRESH_S", "Enough", "RoundTrips"]

FRESH_S = 600.0
"""A node does not move: a round trip serves the jobs of so many seconds, unless the caller wants it newer."""
SILENT_S = 30.0
"""A node that did not answer, or too busily to be measured, is asked again after so many seconds."""
MOST_KNOWN = 4096
MOST_AT_ONCE = 32

GRACE_S = 0.3
"""For the rest, once those who answered are enough."""

Enough = Callable[[Mapping[bytes, int]], bool]
"""Whether these round trips, by public key, are all that the caller needs."""
Measure = Callable[[Offer], Awaitable[int | None]]
"""Microseconds to an offer's node; `UNKNOWN_RTT_US` where it answers but cannot be measured, None if it is silent."""


@dataclass(frozen=True, slots=True)
class _Measured:
    us: int | None
    at: float
    """Seconds of the event loop's clock."""

    def holds(self, now: float, fresh_s: float) -> bool:
        lasts = min(fresh_s, SILENT_S) if self.us in (None, UNKNOWN_RTT_US) else fresh_s
        return now - self.at < lasts


class RoundTrips:
    """Belongs to one event loop. An async context manager, at whose end running measurements are given up."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._known: OrderedDict[bytes, _Measured] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[int | None]] = {}
        self._places = asyncio.Semaphore(MOST_AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = tuple(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def to(
        self,
        offers: Iterable[Offer],
        *,
        fresh_s: float = FRESH_S,
        patience_s: float | None = None,
        enough: Enough | None = None,
    ) -> dict[bytes, int]:
        """Microseconds by public key to the nodes behind these offers, without the silent; none older than `fresh_s`.

        A caller that is cancelled, or does not wait to the end, leaves the measurements to others who want to know.

        Args:
            patience_s: seconds to wait at most; None for as long as a measurement takes.
            enough: whether nobody else has to be waited for; the others then have as long again as it took, or
                `GRACE_S` where that is more.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        until = None if patience_s is None else began + patience_s
        found: dict[bytes, int] = {}
        waiting: dict[asyncio.Task[int | None], bytes] = {}
        for offer in offers:
            known = self._known.get(offer.public_key)
            if known is None or not known.holds(began, fresh_s):
                waiting[self._task(offer)] = offer.public_key
            elif known.us is not None:
                found[offer.public_key] = known.us
        satisfied = False
        while waiting:
            if enough is not None and not satisfied and enough(found):
                satisfied, took = True, loop.time() - began
                soon = began + took + max(GRACE_S, took)
                until = soon if until is None else min(until, soon)
            left = None if until is None else max(0.0, until - loop.time())
            done, _ = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for task in done:
                us, key = task.result(), waiting.pop(task)
                if us is not None:
                    found[key] = us
        return found

    def _task(self, offer: Offer) -> asyncio.Task[int | None]:
        task = self._running.get(offer.public_key)
        if task is None:
            task = asyncio.create_task(self._run(offer), name="round trip")
            self._running[offer.public_key] = task
        return task

    async def _run(self, offer: Offer) -> int | None:
        try:
            async with self._places:
                us = await self._measure(offer)
        finally:
            del self._running[offer.public_key]
        self._known[offer.public_key] = _Measured(us, asyncio.get_running_loop().time())
        self._known.move_to_end(offer.public_key)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return us
