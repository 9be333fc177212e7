"""Carrying a plan out: one job, or a few where providers do not take the first, or one breaks off."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from node.app.buying.planning import JobPlan
from node.events import Events, NoWayOn, Retrying
from node.pipeline.buying.client import JobClient
from node.pipeline.buying.job import JobResult
from protocol.errors import JoulemeshError
from protocol.session.metering import reserved_caps

__all__ = ["Execution"]

ATTEMPTS = 8
"""Sessions that are opened for one answer, at most."""
RISKED_TIMES = 4
"""Attempts that came to nothing may cost and hold so many times what the first one reserved, all together."""

Elsewhere = Callable[[JobPlan, Sequence[JobResult]], Awaitable[JobPlan | JoulemeshError | None]]
"""Another plan for what is left of an answer whose last job has failed; why there is none; None where it would not
help."""


class Execution:
    """One answer: an async context manager, and in it an iterator over token ids.

    Where a job fails it is tried with a newer offer or elsewhere, and where tokens came before, gone on with in another
    session: until the answer is whole, no route is left, or too much money is held for providers that fell silent. What
    a failed session held returns as far as its legs gave it up. Errors of a job are in `result.error`; what stands
    against opening a session is raised (RuleError, UnreachableError). Leaving pays for what came, however it is left; a
    caller that is cancelled sees its cancellation again once the money is where it belongs, and finds `results` filled.
    """

    def __init__(
        self,
        plan: JobPlan,
        jobs: JobClient,
        elsewhere: Elsewhere,
        events: Events,
        ended: Callable[[JobResult], None] = lambda _: None,
    ) -> None:
        self.plan = plan
        """The one that is carried out now, or was last."""
        self.results: list[JobResult] = []
        """Of each session that was opened, in order."""
        self._jobs = jobs
        self._elsewhere = elsewhere
        self._events = events
        self._ended = ended
        self._asked = len(plan.request.prompt)
        self._stream = self._run()

    @property
    def result(self) -> JobResult | None:
        """Of the last session; None while there is none."""
        return self.results[-1] if self.results else None

    @property
    def tokens(self) -> list[int]:
        """Ids of the generated tokens that came, in all sessions, also those that nobody has read."""
        return [] if self.result is None else self.result.tab.tokens[self._asked :]

    @property
    def said(self) -> list[bytes]:
        """What was said of each of these (`protocol.session.logprobs`), where the terms ask for it."""
        return [each for result in self.results for each in result.tab.said]

    @property
    def answering(self) -> list[JobResult]:
        """Of the sessions that tokens came in, in order; of the last one where none came at all."""
        return [result for result in self.results if result.tab.generated] or self.results[-1:]

    @property
    def fees_micro(self) -> int:
        """Micro-units that the ledger took for this client's operations so far."""
        return self.plan.rules.fee * sum(result.operations for result in self.results)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> AsyncIterator[int]:
        return self._stream

    async def _run(self) -> AsyncGenerator[int]:
        while True:
            job = self._jobs.start(self.plan.deal)
            try:
                async with job:
                    self.results.append(job.result)
                    async for token in job:
                        yield token
            finally:
                self._ended(job.result)
            reason = job.result.error
            other = None if reason is None else await self._other_plan()
            if reason is None or other is None:
                return
            held = sum(job.result.held)
            self._events(
                Retrying(
                    code=reason.code,
                    reason=reason.message,
                    attempt=len(self.results) + 1,
                    held_micro=held,
                    held_until=job.result.deal.session.expiry + self.plan.rules.grace_s if held else None,
                )
            )
            self.plan = other

    async def _other_plan(self) -> JobPlan | None:
        """For what is left; None where it ends here."""
        if len(self.results) == ATTEMPTS:
            found: object = f"{ATTEMPTS} sessions were opened for it"
        elif self._risked_micro > self._most_risked_micro:
            found = "more would be held for providers that fell silent than one answer is worth risking"
        else:
            plan = await self._elsewhere(self.plan, self.results)
            if plan is None or isinstance(plan, JobPlan):
                return plan
            found = plan.message
        self._events(NoWayOn(reason=str(found)))
        return None

    @property
    def _risked_micro(self) -> int:
        """Micro-units that the attempts so far have cost without a token, or hold."""
        spent = sum(sum(result.paid) for result in self.results if not result.tab.generated)
        return spent + sum(sum(result.unreleased) for result in self.results)

    @property
    def _most_risked_micro(self) -> int:
        return RISKED_TIMES * reserved_caps(self.results[0].deal.session)
