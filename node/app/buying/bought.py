"""A client as the market of a gateway: plans, answers and receipts of others' questions, with this client's money."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from node.app.buying.begun import Begun
from node.app.buying.calling import grammar_wanted
from node.app.buying.client import Client
from node.app.buying.continuing import Earlier
from node.app.buying.execution import Execution
from node.app.buying.offered import OfferedModels
from node.app.buying.request import Request
from node.app.buying.requirements import OPERATIONS
from node.app.buying.saying import said_in
from node.app.buying.warm import Held, Warm, without_stop
from node.app.buying.written import Written, write
from node.app.models.obtaining import Text
from node.gateway import Costs, OfferedModel, Piece, Wanted
from node.pipeline.buying.reclaim import worth_having
from protocol.identity.ids import ModelManifest
from protocol.session.shaping import shaping_of
from protocol.session.terms import SamplingTerms

__all__ = ["BoughtAnswer", "BoughtAnswers"]

T = TypeVar("T")

OVER_S = 5.0
"""A question waits so long for the session that it goes on from to be over; then it begins anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A prompt as text and as token ids, what it goes on from, and what its answer is held to."""

    written: Written
    ids: tuple[int, ...]
    held: Held | None
    grammar: bytes


class BoughtAnswers:
    """Answers with one client's money (`node.gateway.Market`).

    Args:
        receipts: the folder that receipts go to.
        name: of the market that the client buys at.
    """

    def __init__(self, client: Client, receipts: Path, *, name: str) -> None:
        self.name = name
        self._client = client
        self._receipts = receipts
        self._warm = Warm()
        self._offered = OfferedModels(client, name)

    async def models(self) -> Sequence[OfferedModel]:
        return await self._offered.now()

    async def plan(self, wanted: Wanted, *, owner: str, begun: Begun | None = None) -> BoughtAnswer:
        """An answer, or the rest of one that another market began. Raises as `Market.plan`."""
        client = self._client
        manifest = await client.model(wanted.model)
        if begun is not None:
            request = begun.request(model=manifest.root.hex(), limits=wanted.limits)
            asked = _Asked(written=begun.written, ids=begun.prompt, held=None, grammar=begun.grammar)
            return BoughtAnswer(self, await client.execute(await client.plan(request)), asked, begun.text, owner, begun)
        text = await client.text(manifest)
        asked = await self._asked(wanted, manifest, text, owner)
        earlier = None if asked.held is None else await _over(asked.held)
        request = Request(
            prompt=asked.ids,
            model=manifest.root.hex(),
            most=wanted.most,
            sampling=self.sampling(wanted),
            grammar=asked.grammar,
            policy=wanted.limits.as_policy(),
            **wanted.limits.as_ends(),
            earlier=earlier,
        )
        try:
            job = await client.execute(await client.plan(request))
        except BaseException:
            self._give_back(owner, manifest, asked)
            raise
        return BoughtAnswer(self, job, asked, text, owner)

    def forgo(self, answer: BoughtAnswer) -> None:
        """An answer that was planned, and is not wanted: another question may go on from what it would have."""
        self._give_back(answer.owner, answer.job.plan.manifest, answer.asked)

    def _give_back(self, owner: str, manifest: ModelManifest, asked: _Asked) -> None:
        if asked.held is not None:
            self._warm.put(owner, manifest.root, asked.held)

    def receipt(self, identity: str) -> Path:
        return self._receipts / f"{identity}.json"

    def sampling(self, wanted: Wanted) -> SamplingTerms:
        config = self._client.config
        warmth = _either(wanted.temperature_milli, config.temperature_milli)
        seed = wanted.seed
        if seed is None:
            seed = secrets.randbits(63) if warmth else config.seed
        return SamplingTerms(
            temperature_milli=warmth,
            seed=seed,
            top_p_ppm=_either(wanted.top_p_ppm, config.top_p_ppm),
            top_k=_either(wanted.top_k, config.top_k),
            shaping=shaping_of(
                repetition_milli=_either(wanted.repetition_milli, config.repetition_penalty_milli),
                frequency_milli=_either(wanted.frequency_milli, config.frequency_penalty_milli),
                presence_milli=_either(wanted.presence_milli, config.presence_penalty_milli),
                biases=_either(wanted.biases, config.logit_bias),
            ),
            logprobs=wanted.logprobs,
        )

    async def _asked(self, wanted: Wanted, manifest: ModelManifest, text: Text, owner: str) -> _Asked:
        written = await write(wanted, text)
        grammar = grammar_wanted(wanted, written.tool_style)
        held = self._warm.take(owner, manifest.root, written.text)
        ids = await asyncio.to_thread(_ids, text, written, held)
        return _Asked(written=written, ids=tuple(ids), held=held, grammar=grammar)

    async def keep(self, answer: BoughtAnswer) -> tuple[Path, ...]:
        """Write the receipts of an answer's sessions."""
        client, found = self._client, []
        *broken_off, last = answer.job.answering
        for number, result in enumerate((*broken_off, last), 1):
            name = answer.id if result is last else f"{answer.id}-{number}"
            tokens, asked = result.tab.tokens, result.deal.terms.plan.prompt
            before = answer.text.decode(tokens[answer.tokens_in : asked])
            words = (answer.asked.written.prompt.shown + before, answer.text.decode(tokens[asked:]).strip())
            self._receipts.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept = await client.keep(result, answer.job.plan.manifest, text=words, file=self.receipt(name))
            found += [] if kept.file is None else [kept.file]
        return tuple(found)

    def remember(self, answer: BoughtAnswer) -> asyncio.Future[Earlier | None]:
        """What another question of the same owner may go on from; to be told the session once that is over."""
        earlier: asyncio.Future[Earlier | None] = asyncio.get_running_loop().create_future()
        manifest, tokens = answer.job.plan.manifest, answer.tokens
        if tokens:
            kept = without_stop(tokens, manifest.stop_tokens)
            written = answer.asked.written.text + answer.said
            held = Held(written=written, ids=(*answer.asked.ids, *kept), earlier=earlier)
            self._warm.put(answer.owner, manifest.root, held)
        return earlier


class BoughtAnswer:
    """One answer (`node.gateway.Answer`).

    Args:
        begun: what came of it at another market; it is neither sold nor said again.
    """

    def __init__(
        self,
        market: BoughtAnswers,
        job: Execution,
        asked: _Asked,
        text: Text,
        owner: str,
        begun: Begun | None = None,
    ) -> None:
        self.id = secrets.token_hex(16) if begun is None else f"{begun.id}-at-{market.name}"
        self.model = job.plan.manifest.name
        self.root = job.plan.manifest.root.hex()
        self.made = market.name
        self.tokens_in = len(asked.ids)
        self.reserved_micro = job.plan.reserved_micro + OPERATIONS * job.plan.rules.fee
        self.job = job
        self.asked = asked
        self.text = text
        self.owner = owner
        self.tool_style = asked.written.tool_style
        self.said = "" if begun is None else begun.said
        """The answer as its reader has it, who sends it again with the next question."""
        self.expected_micro = self.reserved_micro + OPERATIONS * job.plan.rules.gas
        """What markets are compared by: with what a chain takes beside."""
        self._market = market
        self._given = () if begun is None else begun.tokens
        self._stream = self._pieces()

    @property
    def tokens_held(self) -> int:
        answering = self.job.answering
        return min((each.start for each in answering[0].tab.joinings), default=0) if answering else 0

    @property
    def tokens(self) -> tuple[int, ...]:
        """Ids of those that were generated, here and before."""
        return (*self._given, *self.job.tokens)

    @property
    def tokens_out(self) -> int:
        return len(self._given) + len(self.job.tokens)

    @property
    def finished(self) -> str:
        tokens = self.job.tokens
        return "stop" if tokens and tokens[-1] in self.job.plan.manifest.stop_tokens else "length"

    def begun(self) -> Begun | None:
        """What came so far, for another market to go on from; None while there is nothing."""
        result = self.job.result
        if result is None or not self.tokens:
            return None
        terms, tokens = result.deal.terms, self.tokens
        return Begun(
            id=self.id,
            prompt=self.asked.ids,
            tokens=tokens,
            most=len(tokens) - result.tab.generated + terms.plan.most,
            sampling=terms.sampling,
            grammar=result.deal.grammar,
            written=self.asked.written,
            text=self.text,
            said=self.said,
        )

    def forgo(self) -> None:
        """It is not wanted, and was not begun."""
        self._market.forgo(self)

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self._stream

    async def _pieces(self) -> AsyncGenerator[Piece]:
        count = 0
        async for token in self.job:
            piece = self.text.piece(token)
            self.said += piece
            yield Piece(piece, said_in(self.text, self.job.said[count : count + 1]))
            count += 1
            if self.job.results[-1].tab.ended:
                return  # what follows is about money, and `close` sees to it
        result = self.job.result
        if result is not None and result.error is not None:
            raise result.error

    async def close(self) -> Costs:
        job, earlier = self.job, self._market.remember(self)
        try:
            await self._stream.aclose()
            await job.__aexit__(None, None, None)
        finally:
            found = [each for result in job.results if (each := Earlier.of(result)) is not None]
            earlier.set_result(found[-1] if found else None)
        if not job.results:
            return Costs(tokens_in=self.tokens_in, tokens_held=0, tokens_out=0, micro=0, receipts=())
        paid = sum(sum(each.paid) for each in job.results)
        claimed = sum(sum(each.unreleased) - sum(each.held) for each in job.results)
        rules = job.plan.rules
        to_close = sum(worth_having(sum(each.held), rules.cost) for each in job.results)  # once the grace is over
        return Costs(
            tokens_in=self.tokens_in,
            tokens_held=self.tokens_held,
            tokens_out=self.tokens_out,
            micro=paid + claimed + job.fees_micro + to_close * rules.fee,
            receipts=await self._market.keep(self),
        )


def _either(wanted: T | None, usual: T) -> T:
    """What a request says, or what the settings do."""
    return usual if wanted is None else wanted


async def _over(held: Held) -> Earlier | None:
    """The session of a sequence, which a quick reader asks about before it is over."""
    try:
        async with asyncio.timeout(OVER_S):
            return await asyncio.shield(held.earlier)
    except TimeoutError:
        return None


def _ids(text: Text, written: Written, held: Held | None) -> list[int]:
    """Token ids of a prompt, those that are held as they are."""
    if held is not None and written.text.startswith(held.written):
        return [*held.ids, *text.encode_on(written.text[len(held.written) :])]
    return written.ids(text)
