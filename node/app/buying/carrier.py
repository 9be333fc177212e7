"""Several markets and this machine as one: a question is answered here where it may be, else where that costs least.

All markets are asked at once for what an answer would cost within the request's limits; nothing is paid for that. The
cheapest answers, and where it fails, another one does, or goes on from what came. A market that is away is left alone
for a while. What this machine may answer, and what it answers while no market does, is in `node.app.buying.edge`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from node.app.buying.begun import Begun
from node.app.buying.edge import EdgeAnswers
from node.events import Events, MarketAway
from node.gateway import HERE, Answer, Costs, Market, OfferedModel, Piece, ToolStyle, Wanted
from protocol.errors import ConfigurationError, JoulemeshError, RefusedError, RoutingError, UnreachableError

__all__ = ["CarriedAnswer", "Carrier", "Quote", "Sold"]

PATIENCE_S = 1.0
"""The other markets have so long to name their price once one has."""
AWAY_S = 15.0
"""A market that did not answer is not asked for so long, while there are others."""
MODELS_S = 8.0
"""For a market to say what it has."""


class Quote(Answer, Protocol):
    """An answer that is planned at one market, and may be let go."""

    @property
    def root(self) -> str:
        """Of its model, in hex."""

    @property
    def expected_micro(self) -> int:
        """Micro-units that it can cost, with what a chain takes beside: what markets are compared by."""

    def begun(self) -> Begun | None:
        """What came so far, for another market to go on from; None where that cannot be."""

    def forgo(self) -> None:
        """It is not wanted, and was not begun."""


class Sold(Market, Protocol):
    """One market."""

    @property
    def name(self) -> str:
        """For people, and in what callers are told."""

    async def plan(self, wanted: Wanted, *, owner: str, begun: Begun | None = None) -> Quote:
        """As `Market.plan`; the rest of an answer where another market has begun it."""


class Carrier:
    """Belongs to one event loop (`node.gateway.Market`).

    Args:
        markets: at least one, each with a name of its own.
        edge: what this machine answers from; None for nothing.
    """

    def __init__(self, markets: Sequence[Sold], edge: EdgeAnswers | None, events: Events) -> None:
        self._markets = markets
        self._edge = edge
        self._events = events
        self._away: dict[str, float] = {}
        """By name of a market, until when it is left alone, on the loop's clock."""
        self._late: set[asyncio.Task[Quote]] = set()
        """Plans that came too late for their question, and see a market to where the next one is quick."""

    async def close(self) -> None:
        """Wait for nobody any more."""
        await _stopped(self._late)

    def receipt(self, identity: str) -> Path:
        return self._markets[0].receipt(identity)

    async def models(self) -> Sequence[OfferedModel]:
        """Of all markets and of this machine, each once: the cheapest, with the others. Raises JoulemeshError where
        there is nothing to tell."""
        near, far = self._near(())
        found = await asyncio.gather(*map(_told, near or far), return_exceptions=True)
        here = [] if self._edge is None else [await self._edge.models()]
        told = [*here, *(each for each in found if not isinstance(each, BaseException))]
        errors = [each for each in found if isinstance(each, BaseException)]
        if errors and not told:
            raise errors[0]
        by_root: dict[str, list[OfferedModel]] = {}
        for each in (model for models in told for model in models):
            by_root.setdefault(each.root, []).append(each)
        return tuple(map(_cheapest_first, by_root.values()))

    async def plan(self, wanted: Wanted, *, owner: str) -> CarriedAnswer:
        limits, edge = wanted.limits, self._edge
        if limits.latency_class == "device" or limits.edge == "only":
            return CarriedAnswer(self, wanted, owner, await self._only_here(wanted))
        if self._may_be_here(wanted) and edge is not None:
            with suppress(RefusedError):  # there is no room now: it travels
                small = await edge.plan_small(wanted)
                if small is not None:
                    return CarriedAnswer(self, wanted, owner, small)
        return CarriedAnswer(self, wanted, owner, *await self.elsewhere(wanted, owner))

    async def elsewhere(
        self, wanted: Wanted, owner: str, *, without: Sequence[str] = (), begun: Begun | None = None
    ) -> tuple[Quote, int]:
        """The cheapest answer of the other markets, or rest of one that was begun, and the most that one of them can
        cost, in micro-units; one of this machine where there is none, if it may give it.

        Raises JoulemeshError: what stands against it at the market that says most.
        """
        edge = self._edge
        if edge is not None and edge.means(wanted.model):
            wanted = replace(wanted, model=edge.root)  # a name means one model, wherever it is answered
        try:
            return await self._cheapest(wanted, owner, without, begun)
        except JoulemeshError as error:
            here = edge is not None and edge.falls_back and HERE not in without and self._may_be_here(wanted)
            if edge is None or not here or not _may_go_on(error):
                raise
            return await edge.plan(wanted, begun), 0

    def note_away(self, market: str, reason: str) -> None:
        """A market did not answer: the others are asked first."""
        self._away[market] = asyncio.get_running_loop().time() + AWAY_S
        self._events(MarketAway(market=market, reason=reason))

    async def _only_here(self, wanted: Wanted) -> Quote:
        edge = self._edge
        reason = "has no model of its own" if edge is None else edge.why_not(wanted)
        if edge is None or reason or wanted.limits.edge == "never":
            said = reason or "must not answer it"
            raise ConfigurationError(f"this is for the gateway's own machine, which {said}", code="not-here")
        return await edge.plan(wanted)

    def _may_be_here(self, wanted: Wanted) -> bool:
        return self._edge is not None and wanted.limits.edge != "never" and not self._edge.why_not(wanted)

    def _near(self, without: Sequence[str]) -> tuple[list[Sold], list[Sold]]:
        """Markets to ask: those that are there, as far as one knows, and those that were away a moment ago."""
        now_s = asyncio.get_running_loop().time()
        left = [each for each in self._markets if each.name not in without]
        near = [each for each in left if self._away.get(each.name, now_s) <= now_s]
        return near, [each for each in left if each not in near]

    async def _cheapest(
        self, wanted: Wanted, owner: str, without: Sequence[str], begun: Begun | None
    ) -> tuple[Quote, int]:
        near, far = self._near(without)
        quotes, errors = await self._quotes(near, wanted, owner, begun)
        if not quotes and far:
            quotes, errors_there = await self._quotes(far, wanted, owner, begun)
            errors += errors_there
        if not quotes:
            raise max(errors, key=_telling) if errors else RoutingError("no other market", code="no-offers")
        best = min(quotes, key=lambda each: each.expected_micro)
        for each in quotes:
            if each is not best:
                each.forgo()
        if len({each.root for each in quotes}) > 1:
            best.forgo()
            hint = "name it by the beginning of its root: `GET /v1/models` lists them"
            raise ConfigurationError(f"markets mean different models by {wanted.model!r}", code="model", hint=hint)
        return best, max(each.reserved_micro for each in quotes)

    async def _quotes(
        self, markets: Sequence[Sold], wanted: Wanted, owner: str, begun: Begun | None
    ) -> tuple[list[Quote], list[JoulemeshError]]:
        """What markets ask for an answer, and what stands against it at the others."""
        tasks = {
            asyncio.create_task(each.plan(wanted, owner=owner, begun=begun), name="plan"): each for each in markets
        }
        try:
            await _one_and_a_while(tasks)
        except BaseException:
            for quote in await _stopped(tasks):
                quote.forgo()
            raise
        quotes, errors = list[Quote](), list[JoulemeshError]()
        for task, market in tasks.items():
            if not task.done():
                self._let_go_on(task, market)
            elif isinstance(error := task.exception(), JoulemeshError):
                errors.append(error)
                if isinstance(error, UnreachableError):
                    self.note_away(market.name, error.message)
            else:
                quotes.append(task.result())
        return quotes, errors

    def _let_go_on(self, task: asyncio.Task[Quote], market: Sold) -> None:
        """A market that is late is away until it has named its price; what comes then is for nobody."""

        def over(_: asyncio.Task[Quote]) -> None:
            self._late.discard(task)
            if not task.cancelled() and task.exception() is None:
                task.result().forgo()
                self._away.pop(market.name, None)

        self.note_away(market.name, "it named no price in time")
        self._late.add(task)
        task.add_done_callback(over)


async def _one_and_a_while(tasks: Collection[asyncio.Task[Quote]]) -> None:
    """Wait until one market has named its price, and then not much longer for the others."""
    pending = set(tasks)
    while pending:
        is_one = any(task.done() and task.exception() is None for task in tasks)
        wait_s = PATIENCE_S if is_one else None
        done, pending = await asyncio.wait(pending, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return


async def _stopped(tasks: Collection[asyncio.Task[Quote]]) -> list[Quote]:
    """End them; what came of them nevertheless."""
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    return [each for each in ended if not isinstance(each, BaseException)]


class CarriedAnswer:
    """One answer (`node.gateway.Answer`), of whichever market gives it.

    Args:
        most: micro-units that it can cost wherever it is given; nothing dearer takes its place.
    """

    def __init__(self, carrier: Carrier, wanted: Wanted, owner: str, answer: Quote, most: int = 0) -> None:
        self.reserved_micro = most
        self._carrier = carrier
        self._wanted = replace(wanted, model=answer.root)
        self._owner = owner
        self._answer = answer
        self._began: Quote | None = None
        """Who gave the first token; None while nobody has, or where that is who answers."""
        self._failed: dict[str, Quote] = {}
        """By market, what came to nothing, or broke off."""
        self._stream = self._pieces()

    @property
    def id(self) -> str:
        return (self._began or self._answer).id

    @property
    def model(self) -> str:
        return self._answer.model

    @property
    def made(self) -> str:
        return (self._began or self._answer).made

    @property
    def tokens_in(self) -> int:
        return self._answer.tokens_in

    @property
    def tokens_held(self) -> int:
        return (self._began or self._answer).tokens_held

    @property
    def tokens_out(self) -> int:
        return self._answer.tokens_out

    @property
    def tool_style(self) -> ToolStyle | None:
        return self._answer.tool_style

    @property
    def finished(self) -> str:
        return self._answer.finished

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self._stream

    async def _pieces(self) -> AsyncGenerator[Piece]:
        while True:
            try:
                async for piece in self._answer:
                    yield piece
            except JoulemeshError as error:
                if not _may_go_on(error) or not await self._went_elsewhere(error):
                    raise
            else:
                return

    async def _went_elsewhere(self, error: JoulemeshError) -> bool:
        """Whether another market has it now, or what is left of it. What the last one was paid is paid."""
        failed = self._answer
        begun = failed.begun()
        if begun is None and failed.tokens_out:
            return False
        if self._wanted.limits.edge == "only" or self._wanted.limits.latency_class == "device":
            return False
        if isinstance(error, UnreachableError):
            self._carrier.note_away(failed.made, error.message)
        without = (*self._failed, failed.made)
        try:
            answer, _ = await self._carrier.elsewhere(self._wanted, self._owner, without=without, begun=begun)
        except JoulemeshError:
            return False
        if answer.reserved_micro > self.reserved_micro:
            answer.forgo()
            return False
        self._answer, self._failed[failed.made] = answer, failed
        if begun is not None:
            self._began = self._began or failed
        return True

    async def close(self) -> Costs:
        await self._stream.aclose()
        ended = await asyncio.gather(*(each.close() for each in self._failed.values()), return_exceptions=True)
        costs = await self._answer.close()
        wasted = 0
        for answer, each in zip(self._failed.values(), ended, strict=True):
            if isinstance(each, JoulemeshError):
                wasted += answer.reserved_micro  # nobody knows: it counts as spent
            elif isinstance(each, BaseException):
                raise each
            else:
                wasted += each.micro
        return replace(costs, tokens_held=self.tokens_held, micro=costs.micro + wasted)


def _may_go_on(error: JoulemeshError) -> bool:
    """Whether another market may answer what one did not: not where the question itself is wrong."""
    return not isinstance(error, ConfigurationError)


def _telling(error: JoulemeshError) -> int:
    """How much an error says of why nobody answers."""
    match error:
        case ConfigurationError():
            return 3
        case UnreachableError() | RoutingError(code="no-offers"):
            return 1
    return 2


async def _told(market: Sold) -> Sequence[OfferedModel]:
    try:
        async with asyncio.timeout(MODELS_S):
            return await market.models()
    except TimeoutError:
        raise UnreachableError(f"the market {market.name} does not answer") from None


def _cheapest_first(found: Sequence[OfferedModel]) -> OfferedModel:
    first, *others = sorted(found, key=lambda each: (each.price_in_micro + each.price_out_micro, each.market))
    return replace(first, elsewhere=tuple(others))
