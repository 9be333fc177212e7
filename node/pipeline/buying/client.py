"""A client's side of one job, from opening its session to the end on the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from node.events import Closed, Events, SessionOpened, Settled
from node.pipeline.conversation import ClientSide, Conversation, JobResult, loop_time
from node.pipeline.tab import Tab
from node.pipeline.vouchers import StoredVoucher, VoucherStore
from node.ports import Clock, Connect, Proven, Requests, Settlement
from protocol.errors import JoulemeshError, LostPeerError, RuleError
from protocol.frames import Pay
from protocol.ids import ModelManifest
from protocol.messages import Close, Open, Settle
from protocol.metering import leg_amount
from protocol.order import JobOrder
from protocol.signing import SigningKey, seal

__all__ = ["JobClient", "JobResult"]


class JobClient:
    """Runs jobs for one key.

    Args:
        journal: keeps every open session, so that a later run can claim what a crashed one left reserved.
        peer_id_of: libp2p id of a public key, for requests.
    """

    def __init__(
        self,
        key: SigningKey,
        settlement: Settlement,
        requests: Requests,
        connect: Connect,
        journal: VoucherStore,
        *,
        peer_id_of: Callable[[bytes], str],
        clock: Clock,
        events: Events,
    ) -> None:
        self._side = ClientSide(
            key=key,
            settlement=settlement,
            requests=requests,
            connect=connect,
            journal=journal,
            peer_id_of=peer_id_of,
            clock=clock,
            events=events,
        )

    async def run(
        self, order: JobOrder, manifest: ModelManifest, prompt: Sequence[int], on_token: Callable[[int], None]
    ) -> JobResult:
        """Run one job to its end on the ledger; `order` is the one for leg 0.

        A cancelled run still pays for what came and takes the rest back. Errors of the job itself are in the result;
        only what happens before money is reserved is raised (RuleError, UnreachableError).
        """
        tab = Tab(order.session, self._side.settlement.domain, order.plan, prompt, manifest.stop_tokens)
        orders = [seal(order.replace(leg=leg), self._side.key) for leg in range(len(order.hops))]
        result = JobResult(order, orders, tab, times=[loop_time()])
        stored = StoredVoucher(session=order.session, opened_at=self._side.clock(), pay=None)
        await self._side.journal.put(tab.session, stored)
        try:
            result.opened = await self._side.settlement.submit(Open(session=order.session), self._side.key)
        except RuleError:
            # Refused for certain. After any other error the ledger may hold the session: the journal keeps it.
            await self._side.journal.remove(tab.session)
            raise
        reserved = sum(leg.cap for leg in order.session.legs)
        self._side.events(SessionOpened(session=tab.session, reserved_micro=reserved))
        result.times.append(loop_time())
        conversation = Conversation(self._side, result, on_token)
        try:
            await conversation.talk()
        except JoulemeshError as error:
            result.error = error
        except asyncio.CancelledError:
            result.error = LostPeerError("stopped before the answer was complete", code="cancelled")
        await _see_through(self._end(conversation, result))
        return result

    async def _end(self, conversation: Conversation, result: JobResult) -> None:
        try:
            discharges = await conversation.wind_down()
            await self._settle(result, discharges)
        except JoulemeshError as error:
            result.settle_error = error
        finally:
            await conversation.close()

    async def _settle(self, result: JobResult, discharges: dict[int, bytes]) -> None:
        session, legs = result.tab.session, result.order.session.legs
        if result.pay is not None and any(result.tab.paid):
            result.settled = await self._settle_voucher(result.pay)
            paid = sum(leg_amount(leg, *result.tab.paid) for leg in legs)
            self._side.events(Settled(session=session, amount_micro=paid))
        if len(discharges) == len(legs):
            close = Close(session=session, discharges=tuple(discharges[leg] for leg in range(len(legs))))
            result.closed = await self._side.settlement.submit(close, self._side.key)
            self._side.events(Closed(session=session))
            await self._side.journal.remove(session)

    async def _settle_voucher(self, pay: Pay) -> Proven:
        """Settle the last voucher, unless a provider was quicker; the entry that did."""
        try:
            return await self._side.settlement.submit(
                Settle(voucher=pay.voucher, signature=pay.signature), self._side.key
            )
        except RuleError as error:
            found = None if error.code != "settled" else await self._side.settlement.session(pay.voucher.session)
            if found is None:
                raise
            return found[1]


async def _see_through(ending: Coroutine[Any, Any, None]) -> None:
    """Run to the end whatever is cancelled meanwhile: money is moving, and all waits in it are bounded."""
    task = asyncio.create_task(ending, name="end of job")
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
    task.result()
