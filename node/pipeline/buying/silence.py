"""How long the legs of one job may be silent, and who is at fault where they are for too long.

The seconds are those of `protocol.session.patience`.
"""

from __future__ import annotations

import asyncio

from node.pipeline.buying.job import JobResult
from node.pipeline.buying.leg_links import LegLinks, Word
from node.pipeline.loop_clock import loop_s
from protocol.errors import LostPeerError
from protocol.session.frames import Replayed
from protocol.session.patience import patience_with
from protocol.units import ceil_div

__all__ = ["Silence", "SlowError"]

STEP_S = 1.0
"""A wait is counted in steps of so many seconds, so that a client that stood still itself blames nobody for it."""


class SlowError(LostPeerError):
    """It is time to look for a leg that holds up the others."""


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
        self._silent_s = 0.0
        """Since the last word."""
        self._suspect_s = self._patience.suspect_s
        """After so many, who holds up the others is looked for."""
        self._grace_s = 0.0
        """For what a new route has to compute before anything can come."""

    async def next_word(self, *, replaceable: bool) -> tuple[int, Word, bytes]:
        """The next of any leg.

        Args:
            replaceable: whether a leg that holds up the others could be replaced: then it is looked for early.

        Raises LostPeerError: none comes in time, and whoever may be at fault is blamed; SlowError before that.
        """
        patience, began = self._patience, bool(self._result.tab.generated)
        most_s = (patience.token_s if began else patience.prompt_s) + self._grace_s
        while self._silent_s < most_s and (began or self._waited_s < patience.first_s):
            if replaceable and began and self._silent_s >= self._suspect_s + self._grace_s:
                self._suspect_s *= 2
                raise SlowError(f"no leg sent anything for {self._silent_s:.0f} s")
            step = loop_s()
            try:
                async with asyncio.timeout(STEP_S):  # not wait_for, which may swallow a cancellation on Python 3.11
                    word = await self._links.receive()
                    self._silent_s, self._suspect_s = 0.0, patience.suspect_s
                    self._grace_s = self._grace_s if isinstance(word[1], Replayed) else 0.0
                    return word
            except TimeoutError:
                passed_s = min(STEP_S, loop_s() - step)
                self._silent_s += passed_s
                self._waited_s += passed_s
        raise self.stalled(
            f"no leg sent anything for {self._silent_s:.0f} s"
            if self._silent_s >= most_s
            else f"no token came for {self._waited_s:.0f} s"
        )

    def restart(self) -> None:
        """The route has changed: its legs have to compute again what was not signed for, or all of it."""
        deal, tab = self._result.deal, self._result.tab
        self._legs = tuple(each.leg for each in tab.book.route)
        self._spoke.clear()
        self._silent_s, self._suspect_s = 0.0, self._patience.suspect_s
        again = ceil_div(tab.proven, deal.terms.plan.chunk)
        self._grace_s = float(again * self._patience.prompt_s)

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
        place = legs.index(first)
        return legs[max(0, place - 1) : place + 1]
