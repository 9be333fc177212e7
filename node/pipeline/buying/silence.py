"""How long the legs of one job may be silent, and who is at fault where they are for too long.

The seconds are those of `protocol.patience`.
"""

from __future__ import annotations

import asyncio

from node.pipeline.buying.job import JobResult
from node.pipeline.buying.leg_links import LegLinks, Word
from node.pipeline.loop_clock import loop_s
from protocol.errors import LostPeerError
from protocol.patience import patience_with

__all__ = ["Silence"]

STEP_S = 1.0
"""A wait is counted in steps of so many seconds, so that a client that stood still itself blames nobody for it."""


class Silence:
    """Waits for the legs' words, and blames those that may be at fault where none comes."""

    def __init__(self, result: JobResult, links: LegLinks) -> None:
        deal = result.deal
        self._result = result
        self._links = links
        self._legs = tuple(range(len(deal.terms.route)))
        self._patience = patience_with(deal.terms, [deal.offer(leg) for leg in self._legs])
        self._spoke: set[int] = set()
        """Legs that say that they wait for others, or that it is over: they are not silent themselves."""
        self._waited_s = 0.0
        """For the first token."""

    async def next_word(self) -> tuple[int, Word, bytes]:
        """The next of any leg. Raises LostPeerError where none comes in time, and blames who may be at fault."""
        patience, began = self._patience, bool(self._result.tab.generated)
        silent_s, most_s = 0.0, patience.token_s if began else patience.prompt_s
        while silent_s < most_s and (began or self._waited_s < patience.first_s):
            step = loop_s()
            try:
                async with asyncio.timeout(STEP_S):  # not wait_for, which may swallow a cancellation on Python 3.11
                    return await self._links.receive()
            except TimeoutError:
                continue
            finally:
                passed_s = min(STEP_S, loop_s() - step)
                silent_s += passed_s
                self._waited_s += passed_s
        raise self.stalled(
            f"no leg sent anything for {silent_s:.0f} s"
            if silent_s >= most_s
            else f"no token came for {self._waited_s:.0f} s"
        )

    def spoke(self, leg: int) -> None:
        """It has said that it waits for others, or that the session is over."""
        self._spoke.add(leg)

    def stalled(self, what: str) -> LostPeerError:
        """The error of a silence, with all that may be at fault for it blamed; those who spoke are not."""
        suspects = self._suspects()
        legs = tuple(leg for leg in suspects if leg not in self._spoke) or suspects
        error = LostPeerError(f"{what}: {' or '.join(map(self._result.deal.name, legs))}", code="stalled")
        error.legs = legs
        for leg in legs:
            self._result.blame(leg, error)
        return error

    def acquit(self) -> None:
        """Of a silence that may be several legs' fault those are acquitted that have spoken at the end."""
        result = self._result
        if result.error is None or result.error.code != "stalled":
            return
        spoke = self._spoke | result.discharges.keys()
        silent = {leg: error for leg, error in result.failures.items() if leg not in spoke}
        result.failures = silent or result.failures

    def _suspects(self) -> tuple[int, ...]:
        """Legs that may be at fault for a silence: the first that has not signed, and the one that should have fed it.

        Within a window of tokens nobody signs, so it may be any of them. Who answers the end of the job was not silent
        after all (`acquit`).
        """
        legs, tab = self._legs, self._result.tab
        if tab.generated:
            return legs
        awaited = tab.awaited
        first = awaited[0] if awaited else legs[-1]
        return tuple(leg for leg in (first - 1, first) if leg in legs)
