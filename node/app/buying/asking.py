"""From text to text: one question, its answer piece by piece, and the report. `joule run`, chats and the demo are this.

An answer that broke off is gone on with at once where there is a way (`execution`); where there is none, what a later
run needs is kept beside the receipt, and `Question.resume` takes it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from node.app.buying.client import Client
from node.app.buying.continuing import Earlier
from node.app.buying.execution import Execution
from node.app.buying.receipts import Kept, require_writable
from node.app.buying.report import JobReport, build_report
from node.app.buying.request import Request
from node.app.buying.sampling import sampling_of
from node.app.buying.saying import SaidToken, said_tokens
from node.app.buying.unfinished import Unfinished, keep_unfinished
from node.app.models.obtaining import Text
from node.app.models.prompt import Prompt
from node.pipeline.buying.job import JobResult
from protocol.errors import JoulemeshError
from protocol.receipts.bundle import Bundle

__all__ = ["Asked", "Question"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question as token ids."""

    shown: str
    """For people."""
    request: Request
    given: tuple[int, ...] = ()
    """The end of its prompt: tokens of the answer that came in an earlier run."""


class Question:
    """A question that is planned. `plan` makes it, `answer` pays for the answer, `report` says what came of it."""

    def __init__(self, client: Client, asked: Asked, text: Text, job: Execution, file: Path | None) -> None:
        self._client = client
        self._asked = asked
        self._text = text
        self._job = job
        self._file = file

    @classmethod
    async def plan(
        cls,
        client: Client,
        prompt: Prompt,
        *,
        model: str | None = None,
        most: int | None = None,
        logprobs: int | None = None,
        grammar: bytes = b"",
        receipt_file: Path | None = None,
    ) -> Self:
        """All that can be known to stand against a question comes up here, before anything is paid.

        Args:
            model: a name, or the beginning of a root; None for the only one that can be served.
            most: generated tokens at most; None for what the settings say.
            logprobs: so many of the likeliest tokens are named in the place of each, with its own log probability.
            grammar: that the answer is held to (`grammars`); empty for none.
            receipt_file: where the receipt goes; a new file.

        Raises:
            LocalError: the receipt cannot be written there.
            ConfigurationError, ModelError: the prompt does not suit the model, or several models are meant.
            RoutingError, FundsError, UnreachableError: as `Client.plan`.
        """
        if receipt_file is not None:
            require_writable(receipt_file)
        await client.require_ready()
        manifest = await client.model(model)
        text = await client.text(manifest)
        ids = await asyncio.to_thread(text.prompt_ids, prompt)
        sampling = None if logprobs is None else sampling_of(client.config).replace(logprobs=logprobs)
        request = Request(prompt=tuple(ids), model=manifest.root.hex(), most=most, sampling=sampling, grammar=grammar)
        asked = Asked(shown=prompt.shown, request=request)
        return await cls.of(client, asked, text, receipt_file=receipt_file)

    @classmethod
    async def resume(cls, client: Client, unfinished: Unfinished, *, receipt_file: Path | None = None) -> Self:
        """Go on with an answer that broke off. Raises as `plan`."""
        if receipt_file is not None:
            require_writable(receipt_file)
        await client.require_ready()
        request = unfinished.request()
        text = await client.text(await client.model(request.model))
        asked = Asked(shown=unfinished.question, request=request, given=unfinished.answer)
        return await cls.of(client, asked, text, receipt_file=receipt_file)

    @classmethod
    async def of(cls, client: Client, asked: Asked, text: Text, *, receipt_file: Path | None = None) -> Self:
        """A question that is token ids already. Raises as `plan`."""
        return cls(client, asked, text, await client.execute(await client.plan(asked.request)), receipt_file)

    @property
    def paid_for(self) -> bool:
        """Whether money was reserved, so that there is something to report."""
        return self._job.result is not None

    @property
    def tokens(self) -> tuple[int, ...]:
        """Ids of the whole answer, as far as it came."""
        return (*self._asked.given, *self._job.tokens)

    @property
    def earlier(self) -> Earlier | None:
        """What another question may go on from; None where nobody took this one."""
        served = [found for result in self._job.results if (found := Earlier.of(result)) is not None]
        return served[-1] if served else None

    async def pieces(self) -> AsyncGenerator[str]:
        """The answer piece by piece, paid for as it comes; whoever reads no further has paid for what came.

        A reader that is cancelled has paid for what came when the cancellation reaches it, and can still `report`.
        Raises RuleError, UnreachableError: the ledger refuses or does not answer, and nothing is reserved.
        """
        begun = False
        async with self._job as tokens:
            async for token in _all(self._asked.given, tokens):
                piece = self._text.piece(token)
                piece = piece if begun else piece.lstrip()
                begun = begun or bool(piece)
                yield piece

    async def answer(self, write: Callable[[str], None]) -> None:
        """Hand the answer to `write` piece by piece. Raises as `pieces`."""
        async for piece in self.pieces():
            write(piece)

    async def report(self) -> tuple[JobReport, Bundle | None]:
        """The report, and the last session's bundle where there is one; writes the receipts, and what is needed to go
        on where the answer broke off. Raises LocalError where that fails.
        """
        *broken_off, last = self._job.answering
        earlier = [await self._keep(result, number) for number, result in enumerate(broken_off, 1)]
        kept = await self._keep(last)
        report = build_report(
            self._job,
            text=(self._asked.shown, self._text.decode(self.tokens).strip()),
            kept=kept,
            balance_after_micro=await self._balance(),
            places=self._client.places(last),
            earlier=earlier,
            unfinished=self._keep_unfinished(),
            said=self._said(),
        )
        return report, kept.bundle

    def _said(self) -> tuple[SaidToken, ...] | None:
        """Of the tokens that came now: of those of an earlier run the receipts of that one tell."""
        result = self._job.result
        if result is None or result.deal.terms.sampling.logprobs is None:
            return None
        return said_tokens(self._text, self._job.said)

    async def _keep(self, result: JobResult, number: int | None = None) -> Kept:
        """The receipt of a session; with its number where another one went on from there."""
        file = self._file
        if file is not None and number is not None:
            file = file.with_stem(f"{file.stem}-{number}")
        prompt = result.deal.terms.plan.prompt
        # What came before is a part of what was asked now.
        before = self._text.decode(result.tab.tokens[self._prompt : prompt])
        text = (self._asked.shown + before, self._text.decode(result.tab.tokens[prompt:]).strip())
        return await self._client.keep(result, self._job.plan.manifest, text=text, file=file)

    @property
    def _prompt(self) -> int:
        return len(self._asked.request.prompt) - len(self._asked.given)

    def unfinished(self) -> Unfinished | None:
        """What a later run needs to go on from here; None for an answer that is whole, or has not begun."""
        result, earlier = self._job.result, self.earlier
        if result is None or earlier is None or not self.tokens or result.tab.ended:
            return None
        terms = result.deal.terms
        return Unfinished(
            model=terms.model,
            question=self._asked.shown,
            prompt=self._asked.request.prompt[: self._prompt],
            answer=self.tokens,
            most=len(self.tokens) - result.tab.generated + terms.plan.most,
            sampling=terms.sampling,
            grammar=result.deal.grammar,
            earlier=earlier,
        )

    def _keep_unfinished(self) -> Path | None:
        """Where it was kept; None also for an answer whose reader had enough."""
        result, unfinished = self._job.result, self.unfinished()
        if self._file is None or unfinished is None or result is None:
            return None
        if result.error is None or result.error.code == "cancelled":
            return None
        file = self._file.with_suffix(".unfinished.json")
        keep_unfinished(unfinished, file)
        return file

    async def _balance(self) -> int | None:
        try:
            return (await self._client.balance()).free
        except JoulemeshError:
            return None


async def _all(given: Sequence[int], tokens: AsyncIterable[int]) -> AsyncIterator[int]:
    for token in given:
        yield token
    async for token in tokens:
        yield token
