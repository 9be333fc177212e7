"""A client's side of one job, from opening its session to the end on the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from node.events import Closed, Released, SessionOpened, Settled
from node.pipeline.buying.conversation import Conversation
from node.pipeline.buying.deeds import note_deeds
from node.pipeline.buying.job import ClientSide, Deal, JobResult
from node.pipeline.buying.reclaim import freed_by, worth_having
from node.pipeline.loop_clock import loop_s
from node.pipeline.vouchers import StoredVoucher
from protocol.errors import JoulemeshError, LocalError, RuleError
from protocol.session.messages import SignedDischarge, SignedVoucher
from protocol.session.metering import reserved_caps
from protocol.session.tab import Tab

__all__ = ["Job", "JobClient"]

_SETTLED_BY_OTHERS = ("settled", "closed", "bond")
"""Or, with ``bond``, to be settled by the providers themselves, later: their bonds bound what they are paid now."""
_RELEASED_BY_OTHERS = ("released", "closed")


class JobClient:
    """Runs jobs for one key."""

    def __init__(self, side: ClientSide) -> None:
        self._side = side

    def start(self, deal: Deal) -> Job:
        """A job on these terms, for one ``async with``."""
        return Job(self._side, deal)


class Job:
    """One job: an async context manager, and in it an iterator over the ids of generated tokens as they come.

    Entering opens the session; what stands against that is raised, and nothing is reserved then (RuleError), or it is
    not known (UnreachableError: the journal keeps the session). Errors of the job itself end the iteration and are in
    `result.error`. Leaving pays for what came and takes the rest back, whatever happens meanwhile, and is bounded; a
    caller that was cancelled sees its cancellation again afterwards.

    Whoever stops reading stops paying: legs serve no further than the window that is paid.
    """

    def __init__(self, side: ClientSide, deal: Deal) -> None:
        self._side = side
        tab = Tab(
            deal.session,
            deal.terms,
            side.settlement.domain,
            acceptances={},
            chain=deal.chain,
            prompt=deal.prompt,
            stop_tokens=deal.stop_tokens,
            vocabulary=deal.vocabulary,
        )
        self.result = JobResult(deal, tab)
        self._conversation = Conversation(side, self.result)

    async def __aenter__(self) -> Self:
        side, result = self._side, self.result
        session, identity = result.deal.session, result.tab.id
        result.started_s = loop_s()
        await self._conversation.prepare()
        try:
            result.opened = await side.settlement.open(session, side.key)
        except RuleError:
            # Refused for certain. After any other error the ledger may hold the session: the journal keeps it.
            await side.journal.remove(identity)
            raise
        result.operations += 1
        result.funded_s = loop_s()
        side.events(SessionOpened(session=identity, reserved_micro=reserved_caps(session)))
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> int:
        try:
            token = await self._conversation.next_token()
        except JoulemeshError as error:
            self.result.error, token = error, None
        if token is None:
            raise StopAsyncIteration
        return token

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.result.error is None and not self.result.tab.ended:
            self.result.error = LocalError("stopped before the answer was complete", code="cancelled")
        await _see_through(self._end())

    async def _end(self) -> None:
        try:
            await self._conversation.wind_down()
            await self._settle()
        except JoulemeshError as error:
            self.result.settle_error = error
        finally:
            note_deeds(self.result, self._side.peers)
            await self._conversation.close()

    async def _settle(self) -> None:
        """Redeem the last voucher, show the ledger the discharges, and forget the session once nothing is held."""
        side, result = self._side, self.result
        discharges = tuple(result.discharges.values())
        stored = StoredVoucher(
            session=result.deal.session, opened_at=side.clock(), leg=None, pay=result.pay, discharges=discharges
        )
        # First: if the ledger does not answer now, a later run shows it what the legs have signed.
        await side.journal.put(result.tab.id, stored)
        if result.pay is not None and any(result.pay.voucher.amounts):
            result.settled = await self._settle_voucher(result.pay)
        await self._look(result.settled)
        if result.settled is not None and result.record is not None:
            side.events(Settled(session=result.tab.id, amount_micro=sum(result.record.settled)))
        await self._release(discharges)
        fee = (await side.settlement.rules()).cost
        if result.record is not None and not worth_having(result.record.reserved, fee):
            await side.journal.remove(result.tab.id)
            side.events(Closed(session=result.tab.id))

    async def _look(self, evidence: bytes | None) -> None:
        """At the session on the ledger, as the newest evidence shows it where there is some."""
        settlement, session = self._side.settlement, self.result.deal.session
        shown = None if evidence is None else settlement.shown(session, evidence)
        self.result.record = await settlement.session(self.result.tab.id) if shown is None else shown

    async def _settle_voucher(self, pay: SignedVoucher) -> bytes:
        """Evidence that it is settled; of a provider's doing where that was quicker."""
        settlement = self._side.settlement
        try:
            evidence = await settlement.settle([pay], self._side.key)
        except RuleError as error:
            if error.code not in _SETTLED_BY_OTHERS:
                raise
            return await settlement.evidence(pay.voucher.session)
        self.result.operations += 1
        return evidence

    async def _release(self, discharges: tuple[SignedDischarge, ...]) -> None:
        side, result = self._side, self.result
        record = result.record
        if record is None:
            return
        shown, freed = freed_by(discharges, record)
        if not worth_having(freed, (await side.settlement.rules()).cost):
            return
        try:
            result.released = await side.settlement.release(shown, side.key)
        except RuleError as error:
            if error.code not in _RELEASED_BY_OTHERS:
                raise
            result.released = await side.settlement.evidence(result.tab.id)
        else:
            result.operations += 1
            side.events(Released(session=result.tab.id, amount_micro=freed))
        await self._look(result.released)


async def _see_through(ending: Coroutine[Any, Any, None]) -> None:
    """Run to the end whatever is cancelled meanwhile, and only then raise the cancellation.

    Money is moving, and all waits in it are bounded.
    """
    task = asyncio.create_task(ending, name="end of job")
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
