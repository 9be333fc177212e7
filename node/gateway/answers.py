"""Answering one request: plan, hold the money, hand out what comes, settle. Whole, or as a stream of events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace

from aiohttp import web

from node.events import AnswerNotBooked, Events, RequestAnswered
from node.gateway.answering import HERE, Answer, Market
from node.gateway.entrance import Caller, Entrance
from node.gateway.keys import Hold, Keys
from node.gateway.limits import Limits
from node.gateway.moderation import Moderate
from node.gateway.refusals import refusal_of
from node.gateway.replies import DONE, Choice, Reply, Usage, event
from node.gateway.saying import Piece, Tokens
from node.gateway.stops import Stops
from node.gateway.tools import ToolCall, ToolCalls
from node.gateway.wanted import Wanted
from node.ports import Clock
from node.tasks import Tasks
from protocol.errors import JoulemeshError

__all__ = ["MADE", "READ_S", "RECEIPT", "Answers", "Running"]

RECEIPT = "x-joule-receipt"
NO_RECEIPT = "none"
MADE = "x-joule-made"
READ_S = 30.0
"""Seconds in which a reader has to make room for what comes next."""
SETTLED_S = 60.0
"""Whoever asks for a receipt waits so long for it."""


class Running:
    """One answer of a request, from when its money is held until that is settled."""

    def __init__(self, answer: Answer, hold: Hold, wanted: Wanted, index: int, asked_s: float) -> None:
        self.answer = answer
        self.hold = hold
        self.index = index
        self.finished = ""
        """Why it ended; empty while it has not, or where its reader went away."""
        self.asked_s = asked_s
        self.first_s: float | None = None
        self.last_s = asked_s
        self.calls: tuple[ToolCall, ...] = ()
        """Of tools, once it is over."""
        self._wanted = wanted

    async def pieces(self) -> AsyncIterator[Piece]:
        """Its text as it comes, as far as the request wants it. Raises JoulemeshError where it breaks off."""
        stops, style, tokens = Stops(self._wanted.stop), self.answer.tool_style, Tokens()
        tools = None if style is None else ToolCalls(style, self._wanted.tool_names)
        if self._wanted.echo and self._wanted.raw:
            yield Piece(self._wanted.raw)
        try:
            async for piece in self.answer:
                self.last_s = time.monotonic()
                if self.first_s is None:
                    self.first_s = self.last_s
                tokens.take(piece)
                text = stops.take(piece.text)
                if text := text if tools is None else tools.take(text):
                    yield tokens.hand(text)
                if stops.found:
                    break
        except JoulemeshError as error:
            self.finished = error.code
            raise
        text = stops.rest()
        if tools is not None:
            text = tools.take(text)
            rest, self.calls = tools.end()
            text += rest
        if text:
            yield tokens.hand(text)
        self.finished = "tool_calls" if self.calls else "stop" if stops.found else self.answer.finished


class Answers:
    """Belongs to one event loop.

    Args:
        bounds: what holds for every request.
        moderate: says which may be answered.
        tasks: own the settling of answers.
        clock: Unix seconds.
    """

    def __init__(
        self,
        market: Market,
        keys: Keys,
        entrance: Entrance,
        *,
        bounds: Limits,
        moderate: Moderate,
        tasks: Tasks,
        clock: Clock,
        events: Events,
        read_s: float,
    ) -> None:
        self._market = market
        self._keys = keys
        self._entrance = entrance
        self._bounds = bounds
        self._moderate = moderate
        self._tasks = tasks
        self._clock = clock
        self._events = events
        self._read_s = read_s
        self._settling: dict[str, asyncio.Task[None]] = {}

    async def give(self, request: web.Request, wanted: Wanted, caller: Caller) -> web.StreamResponse:
        """The answer to a request. Raises ApiError."""
        with self._entrance.running(caller, wanted.choices):
            running = await self.begin(wanted, caller)
            try:
                if wanted.stream:
                    return await self._stream(request, wanted, running)
                return await self._whole(wanted, running)
            finally:
                # Also where the caller has gone: what came is paid for, and nothing more.
                for each in running:
                    self.settle(each)

    async def begin(self, wanted: Wanted, caller: Caller) -> list[Running]:
        """Plan each choice, and hold its money. Raises ApiError, and then nothing is held."""
        asked_s, begun = time.monotonic(), list[Running]()
        limits = self._bounds
        if caller.key is not None:
            caller.key.require_model(wanted.model)
            limits = limits.narrowed(caller.key.terms.limits)
        wanted = replace(wanted, limits=limits.narrowed(wanted.limits))
        await self._moderate(wanted)
        try:
            for index in range(wanted.choices):
                seed = None if wanted.seed is None else (wanted.seed + index) % 2**63
                answer = await self._market.plan(replace(wanted, seed=seed), owner=caller.owner)
                hold = await self._keys.hold(caller.key, answer.reserved_micro)
                begun.append(Running(answer, hold, wanted, index, asked_s))
        except BaseException as error:
            for each in begun:
                self.settle(each)
            if isinstance(error, JoulemeshError):
                raise refusal_of(error, wanted.held_by) from None
            raise
        return begun

    def settle(self, running: Running) -> None:
        """See to the money and the receipt of an answer, beside whatever comes next."""
        identity = running.answer.id
        self._settling[identity] = task = self._tasks.spawn(self._settle(running), f"settle {identity[:12]}")
        task.add_done_callback(lambda _: self._settling.pop(identity, None))

    async def settled(self, identity: str) -> None:
        """Wait for an answer that is being settled; not for ever."""
        if (task := self._settling.get(identity)) is not None:
            await asyncio.wait([task], timeout=SETTLED_S)

    async def end(self) -> None:
        """Wait until all that was begun is settled: each of them is bounded."""
        while self._settling:
            await asyncio.wait(list(self._settling.values()))

    async def _settle(self, running: Running) -> None:
        answer = running.answer
        try:
            costs = await answer.close()
            tokens = (costs.tokens_in, costs.tokens_out)
            await self._keys.settle(running.hold, answer.id, model=answer.model, tokens=tokens, micro=costs.micro)
        except JoulemeshError as error:
            self._events(AnswerNotBooked(receipt=answer.id, reason=error.message))
            return
        self._events(
            RequestAnswered(
                receipt=answer.id,
                key=running.hold.key,
                model=answer.model,
                made=answer.made,
                outcome=running.finished or "gone",
                tokens_in=costs.tokens_in,
                tokens_held=costs.tokens_held,
                tokens_out=costs.tokens_out,
                cost_micro=costs.micro,
                seconds=running.last_s - running.asked_s,
                first_s=None if running.first_s is None else running.first_s - running.asked_s,
            )
        )

    # Whole

    async def _whole(self, wanted: Wanted, running: Sequence[Running]) -> web.Response:
        choices = await self.whole_choices(running)
        reply = self._reply(wanted, running)
        return web.json_response(reply.whole(choices, _usage(running)), headers=_origins(running))

    async def whole_choices(self, running: Sequence[Running]) -> list[Choice]:
        """All answers of a request, once they are over. Raises ApiError where one breaks off."""
        tasks = [asyncio.create_task(_read(each), name="answer") for each in running]
        try:
            return await asyncio.gather(*tasks)
        except JoulemeshError as error:
            raise refusal_of(error) from None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _reply(self, wanted: Wanted, running: Sequence[Running]) -> Reply:
        answer = running[0].answer
        said = wanted.logprobs is not None
        return Reply(answer.id, answer.model, self._clock(), wanted.is_chat, wanted.include_usage, said)

    def reply(self, wanted: Wanted, running: Sequence[Running], choices: Sequence[Choice]) -> dict[str, object]:
        """The body of a whole answer."""
        return self._reply(wanted, running).whole(choices, _usage(running))

    # As a stream

    async def _stream(self, request: web.Request, wanted: Wanted, running: Sequence[Running]) -> web.StreamResponse:
        merged = _merged(running)
        try:
            first = await anext(merged)  # a refusal before the first token is an answer of its own
        except JoulemeshError as error:
            await merged.aclose()
            raise refusal_of(error) from None
        response = web.StreamResponse(headers={**_origins(running), "Cache-Control": "no-store"})
        response.content_type = "text/event-stream"
        reply = self._reply(wanted, running)
        try:
            await response.prepare(request)
            for each in running:
                await self._write(response, reply.first(each.index))
            await self._write(response, _shown(reply, *first))
            async for each, piece in merged:
                await self._write(response, _shown(reply, each, piece))
            await self._write(response, reply.usage(_usage(running)) + DONE)
        except JoulemeshError as error:
            await self._write(response, event(refusal_of(error).to_json()))
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()  # its reader does not read
            return response
        finally:
            await merged.aclose()
        await response.write_eof()
        return response

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        if data:
            async with asyncio.timeout(self._read_s):
                await response.write(data)


def _shown(reply: Reply, running: Running, piece: Piece | None) -> bytes:
    """A piece of an answer; None is its end."""
    if piece is not None:
        return reply.piece(running.index, piece)
    return reply.calls(running.index, running.calls) + reply.last(running.index, running.finished)


def _usage(running: Sequence[Running]) -> Usage:
    answers = [each.answer for each in running]
    return Usage(answers[0].tokens_in, answers[0].tokens_held, sum(each.tokens_out for each in answers))


def _origins(running: Sequence[Running]) -> dict[str, str]:
    """Where each choice was made, and its receipt: what no market sold has none."""
    answers = [each.answer for each in running]
    return {
        RECEIPT: ", ".join(NO_RECEIPT if each.made == HERE else each.id for each in answers),
        MADE: ", ".join(each.made for each in answers),
    }


async def _read(running: Running) -> Choice:
    pieces = [piece async for piece in running.pieces()]
    said = tuple(said for piece in pieces for said in piece.said)
    return Choice(running.index, "".join(piece.text for piece in pieces), running.finished, running.calls, said)


async def _merged(running: Sequence[Running]) -> AsyncGenerator[tuple[Running, Piece | None]]:
    """The pieces of several answers as they come, and None at the end of each. Raises what the first fails with."""
    if len(running) == 1:
        (one,) = running
        async for piece in one.pieces():
            yield one, piece
        yield one, None
        return
    queue: asyncio.Queue[tuple[Running, Piece | None] | BaseException] = asyncio.Queue(maxsize=len(running))

    async def feed(each: Running) -> None:
        try:
            async for piece in each.pieces():
                await queue.put((each, piece))
            await queue.put((each, None))
        except JoulemeshError as error:
            await queue.put(error)

    tasks = [asyncio.create_task(feed(each), name="answer") for each in running]
    try:
        left = len(tasks)
        while left:
            found = await queue.get()
            if isinstance(found, BaseException):
                raise found
            left -= found[1] is None
            yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
