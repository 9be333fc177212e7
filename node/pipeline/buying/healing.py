"""A client's part in healing a job: find out who is gone, call standbys, and tell all how it goes on.

Nothing that a leg says here is signed: it decides whom the client does without, and nothing else. What a replacement is
fed is held against what the leg before has signed for (docs/spec/session.md, clauses H1 to H7).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from node.events import Healed
from node.pipeline.buying.job import ClientSide, HealedLegs, JobResult
from node.pipeline.buying.leg_links import LegLinks, Word
from node.pipeline.buying.silence import SlowError
from node.pipeline.loop_clock import loop_s
from protocol.errors import LostPeerError, PeerError
from protocol.identity.signing import seal
from protocol.session.continuing import joinings
from protocol.session.frames import Failed, Joining, Paused, Probe, Prompt, Rerouted, Stands
from protocol.session.healing import Standing, held_up_at, next_reroute, out_of_step
from protocol.session.receipt import token_bytes
from protocol.session.terms import MAX_REROUTES, Reroute

__all__ = ["Healing"]

PROBE_S = 2.0
"""Seconds in which a leg says where it stands: it is microseconds of work."""
CALL_S = 6.0
"""Seconds in which a leg takes up the new route: it may have to dial its neighbour, and to make room."""
SAME_ROUTE = 2
"""Times that a route is tried once more before a leg of it is left out, where nobody can tell which one fails."""
_OF_NOBODY = ("stalled", "neighbour-lost", "set-aside")
"""Codes of failures that do not say which leg is at fault."""
_STANDS_STILL = ("neighbour-lost", "set-aside")
"""Codes with which a leg says why it stands still: it is not looked for."""
PROMPT_PART = 4096
"""Token ids in one frame."""

Take = Callable[[int, Word, bytes], None]
"""Handles a word as usual. Raises what ends the job."""


class Healing:
    """See above.

    Args:
        take: for what comes from legs meanwhile.
        pay: sends the voucher that is due.
    """

    def __init__(
        self, side: ClientSide, result: JobResult, links: LegLinks, take: Take, pay: Callable[[], Awaitable[None]]
    ) -> None:
        self._side = side
        self._result = result
        self._links = links
        self._take = take
        self._pay = pay
        self._gone: dict[int, LostPeerError] = {}
        """Legs that are done without, and why."""
        self._number = 0
        """Of the newest probe."""
        self._awaited: set[int] = set()
        """Legs that have yet to answer it: what they said before is of the route before."""
        self._standings: dict[int, Standing] = {}
        self._stuck_at = -1
        self._stuck = 0
        """Times that the route was tried once more at that position."""
        self._suspected: Counter[int] = Counter()
        """How often each leg was one of two that fell out of step."""
        self._unheard = 0
        """So many of the newest reroutes only standbys have heard of."""
        self._anew: set[int] = set()
        """Legs that have computed again what had been signed for: what they send of it differs in its last digits."""
        self._still: set[int] = set()
        """Legs that stand still again although they have heard of the newest route."""

    # What legs say

    def takes_stands(self, leg: int, frame: Stands) -> None:
        """A leg says where it stands; late answers to older questions count for nothing."""
        if frame.number == self._number and leg in self._awaited:
            self._awaited.discard(leg)
            self._standings[leg] = Standing(arrived=frame.arrived, processed=frame.processed, replays=frame.replays)

    def takes_paused(self, leg: int, frame: Paused) -> None:
        """A leg stands still. Raises LostPeerError, unless it has yet to hear of the newest route."""
        if leg not in self._awaited or frame.code == "next-unreachable":
            named = self._result.deal.name(leg)
            code = "set-aside" if frame.code == "set-aside" else "neighbour-lost"
            raise LostPeerError(f"{named} stands still: {frame.reason}", code=code)

    def sends_what_was_signed(self, leg: int) -> bool:
        """Whether what a leg sends again are the very bytes that were signed for."""
        return leg not in self._anew

    def lost_standby(self, leg: int, frame: Failed | PeerError) -> None:
        """One that does not serve, or not any more, cannot be called."""
        if isinstance(frame, PeerError):
            self._links.has_ended(leg)
        self._leave((leg,), LostPeerError("a standby has ended the session", code="provider-lost"))

    # Healing

    @property
    def replaceable(self) -> bool:
        """Whether a leg could be replaced: somebody stands by."""
        return bool(self._standbys)

    @property
    def _standbys(self) -> set[int]:
        """Legs that may be called."""
        tab = self._result.tab
        named = {each.leg for one in tab.reroutes for each in one.route} | set(range(len(tab.terms.route)))
        return set(tab.accepted) - named - self._gone.keys()

    async def heal(self, error: LostPeerError) -> bool:
        """Let the job go on without the legs at fault; whether its route has changed.

        Raises `error` where there is no other.
        """
        began, tab = loop_s(), self._result.tab
        # Before the first token, and where nobody stands by, another session is as good.
        comes_back = error.code == "set-aside"
        if tab.ended or len(tab.reroutes) >= MAX_REROUTES or not (tab.generated or self._standbys or comes_back):
            raise error
        before = set(self._gone)
        if error.code not in _OF_NOBODY and not isinstance(error, SlowError):
            self._leave(error.legs, error)
        for leg in self._serving & self._links.lost:
            gone_by = f"{self._result.deal.name(leg)} is gone: its link has ended"
            self._leave((leg,), LostPeerError(gone_by, code="provider-lost"))
        await self._ask(self._serving, PROBE_S)
        if self._gone.keys() == before and not self._find_fault(error):
            return False
        error = self._cause(error, self._gone.keys() - before)
        joined = await self._reroute(error)
        gone = tuple(sorted(self._gone.keys() - before))
        healed = HealedLegs(
            position=tab.proven,
            tokens=tab.generated,
            gone=gone,
            joined=joined,
            seconds=round(loop_s() - began, 3),
            why=error.message,
        )
        self._result.healed.append(healed)
        self._result.gone |= {leg: self._gone[leg] for leg in gone}
        self._result.failures.clear()
        self._side.events(
            Healed(session=tab.id, legs=gone, joined=joined, seconds=healed.seconds, reason=error.message)
        )
        if self._still:
            await self.heal(LostPeerError("a leg stands still on the new route", code="neighbour-lost"))
        return True

    def _cause(self, error: LostPeerError, gone: Collection[int]) -> LostPeerError:
        """What tells most: that a leg is gone, not that its neighbours stand still."""
        if error.code not in _STANDS_STILL or not gone:
            return error
        leg = min(gone)
        self._result.blame(leg, self._gone[leg])
        return self._gone[leg]

    @property
    def _serving(self) -> set[int]:
        """Legs of the route that are not known to be gone."""
        return {each.leg for each in self._result.tab.book.route} - self._gone.keys()

    def _leave(self, legs: Collection[int], error: LostPeerError) -> None:
        for leg in legs:
            self._gone.setdefault(leg, error)
            self._links.give_up(leg)

    def _find_fault(self, error: LostPeerError) -> bool:
        """All legs answer, and nothing comes: who holds it up, or, where a link broke, the same route once more.

        False where it is too early to say.
        """
        tab = self._result.tab
        route = [each.leg for each in tab.book.route]
        slow = None if error.code in _STANDS_STILL else held_up_at(route, self._standings, tab.proven)
        if slow is not None and self._is_replaceable(slow):
            self._leave((slow,), error)
            return True
        if isinstance(error, SlowError):
            return False
        self._stuck = self._stuck + 1 if self._stuck_at == tab.proven else 1
        self._stuck_at = tab.proven
        if self._stuck > SAME_ROUTE:
            # Two legs cannot reach each other, or one lies, and which of them is at fault nobody can tell: the one is
            # left that can be replaced, or that had a part in this before, or else the later one.
            suspects = out_of_step(route, self._standings, tab.terms.plan.prompt) or self._around_still(route) or route
            self._suspected.update(suspects)
            self._leave((max(suspects, key=partial(self._order, route)),), error)
        return True

    def _around_still(self, route: list[int]) -> list[int]:
        """Legs that said that a neighbour is lost, and those after them."""
        around = {(at + step) % len(route) for at, leg in enumerate(route) if leg in self._still for step in (0, 1)}
        return [route[at] for at in sorted(around)]

    def _order(self, route: list[int], leg: int) -> tuple[bool, int, int]:
        return self._is_replaceable(leg), self._suspected[leg], route.index(leg)

    def _is_replaceable(self, leg: int) -> bool:
        return self._next_reroute({leg, *self._gone}) is not None

    def _next_reroute(self, without: Collection[int]) -> Reroute | None:
        tab, deal = self._result.tab, self._result.deal
        standbys = self._standbys
        return next_reroute(deal.terms, deal.session, tab.reroutes, tab.proven, without=without, standbys=standbys)

    async def _reroute(self, error: LostPeerError) -> tuple[int, ...]:
        """Until a route has been taken up by all of its legs: those that joined. Raises `error`: there is none."""
        tab = self._result.tab
        self._unheard = 0
        while True:
            serving = {each.leg for each in tab.book.route}
            reroute = self._next_reroute(self._gone.keys())
            if reroute is None or len(tab.reroutes) >= MAX_REROUTES:
                tab.withdraw(self._unheard)
                raise error
            joining = {each.leg for each in reroute.route} - serving
            if await self._take_up(reroute, joining):
                return tuple(sorted(joining))

    async def _take_up(self, reroute: Reroute, joining: set[int]) -> bool:
        """Whether all legs of the new route have taken it up: first those that join, who may refuse."""
        tab, base = self._result.tab, reroute.position
        legs = [each.leg for each in reroute.route]
        # One that was about to catch up when a route failed begins that anew: it is fed, and shows so, as a whole.
        holds = [leg not in joining and self._standings[leg].processed >= base for leg in legs]
        found = joinings(
            [base if held else 0 for held in holds],
            [held and self._standings[leg].replays for leg, held in zip(legs, holds, strict=True)],
            base,
            proven=True,
        )
        places = dict(zip(legs, found, strict=True))
        self._anew |= {leg for leg, each in places.items() if each.start < base}
        first = {legs[0]}
        tab.reroute(reroute, seal(reroute, self._side.key))
        self._unheard += 1
        await self._links.attach_all(joining)
        unreached = joining - self._links.speaking
        if unreached:
            self._leave(unreached, LostPeerError("a standby cannot be reached", code="unreachable"))
            return False
        # The first leg last: nothing is sent on a route that not all have taken up.
        for some in (joining, set(legs) - joining - first, first - joining):
            if some - joining:
                self._unheard = 0
            for leg in some:
                self._still.discard(leg)
                await self._tell(leg, reroute, places[leg], joins=leg in joining)
            if some and await self._ask(some, CALL_S):
                return False
        await self._send_prompt(legs[0], places[legs[0]].start, max(base, tab.terms.plan.prompt))
        await self._pay()
        return True

    async def _tell(self, leg: int, reroute: Reroute, joining: Joining, *, joins: bool) -> None:
        tab, deal = self._result.tab, self._result.deal
        legs = [each.leg for each in reroute.route]
        after = legs[(legs.index(leg) + 1) % len(legs)]
        if joins and leg == legs[-1] and tab.terms.sampling.looks_back:
            await self._links.tell(leg, token_bytes(tab.tokens[tab.terms.plan.prompt :]), answer=True)
        prompt = tab.terms.plan.prompt
        known = tab.tokens[max(reroute.position, prompt) :] if leg in (legs[0], legs[-1]) else ()
        said = tab.said[max(reroute.position - prompt, 0) :] if leg == legs[-1] else ()
        header = Rerouted(
            session=tab.id,
            sealed=tuple(tab.sealed_reroutes),
            next_offer=deal.legs[after].sealed if len(legs) > 1 else b"",
            joining=joining,
        )
        await self._links.send(leg, header, token_bytes(known) + b"".join(said))

    async def _send_prompt(self, leg: int, start: int, end: int) -> None:
        """What the first leg has to compute, or has not been sent yet, of the prompt and of what came after it."""
        tab = self._result.tab
        for at in range(start, min(end, len(tab.tokens)), PROMPT_PART):
            part = tab.tokens[at : min(at + PROMPT_PART, end)]
            header = Prompt(session=tab.id, position=at, length=len(part))
            await self._links.send(leg, header, token_bytes(part))

    async def _ask(self, legs: Collection[int], within_s: float) -> set[int]:
        """Ask legs where they stand, and hear all that comes meanwhile; those that are gone, or say nothing in time."""
        self._number += 1
        self._awaited = set(legs)
        probe = Probe(session=self._result.tab.id, number=self._number)
        await asyncio.gather(*(self._links.send(leg, probe) for leg in legs))
        deadline = loop_s() + within_s
        while self._awaited - self._gone.keys():
            try:
                async with asyncio.timeout_at(deadline):
                    leg, frame, payload = await self._links.receive()
            except TimeoutError:
                break
            try:
                self._take(leg, frame, payload)
            except LostPeerError as error:
                if isinstance(frame, Paused):
                    self._still.add(leg)
                else:
                    self._leave((leg,), error)
        silent = self._awaited - self._gone.keys()
        self._leave(silent, LostPeerError(f"it said nothing for {within_s:g} s", code="stalled"))
        self._awaited = set()
        return self._gone.keys() & set(legs)
