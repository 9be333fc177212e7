"""The orders of one job: all legs are asked at once, and each takes its own or says why not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from node.pipeline.buying.job import ClientSide, JobResult, tls_address
from protocol.errors import DishonestError, LostPeerError, PeerError, RefusedError, UnreachableError
from protocol.identity.signing import open_envelope, seal
from protocol.session.agreement import make_orders
from protocol.session.messages import Discharge, SignedDischarge, SignedVoucher, session_id
from protocol.session.order import Acceptance, JobOrder, Refusal, check_acceptance

__all__ = ["Orders"]

ANSWER_S = 10.0
"""Seconds that a leg has to answer: it is milliseconds of work, and seconds where its machine's cores are all taken."""
STANDBY_S = 0.5
"""Seconds that standbys have to answer once the route has: a job does not wait for them."""
END_S = 5.0
"""Seconds that answers under way still have, once the job is over."""


class Orders:
    """What is asked of the legs before anything flows.

    Args:
        take_discharge: of a leg that refused.
    """

    def __init__(
        self, side: ClientSide, result: JobResult, take_discharge: Callable[[int, SignedDischarge], bool]
    ) -> None:
        self.acceptances: dict[int, Acceptance] = {}
        """By leg, as they come."""
        self._side = side
        self._result = result
        self._deal = result.deal
        self._session = session_id(result.deal.session)
        self._take_discharge = take_discharge
        self._asked: list[asyncio.Task[None]] = []

    async def ask_all(self, first: SignedVoucher) -> None:
        """Until every leg has answered; `first` is the voucher that goes with the orders.

        Raises RefusedError, or another PeerError, for the first leg that does not take its order by its own doing.
        """
        deal, side = self._deal, self._side
        orders = make_orders(
            deal.terms,
            deal.session,
            pay=first,
            opened=self._result.opened or b"",
            offers=[chosen.sealed for chosen in deal.legs],
            issued_at=side.clock(),
        )
        self._asked = [asyncio.create_task(self._order(order), name=f"order {order.leg}") for order in orders]
        route = len(deal.terms.route)
        await asyncio.wait(self._asked[:route])  # leaves them alone where this is cancelled: `end` sees to them
        if self._result.failures:
            raise self._result.first_failure
        for task in self._asked[:route]:
            task.result()
        if standbys := self._asked[route:]:
            await asyncio.wait(standbys, timeout=STANDBY_S)

    async def end(self) -> None:
        """Wait a little for answers that are under way: a leg that takes its order now is told that it is over."""
        if self._asked:
            await asyncio.wait(self._asked, timeout=END_S)
        for task in self._asked:
            task.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)

    async def _order(self, order: JobOrder) -> None:
        try:
            await self._ask(order)
        except PeerError as error:
            if order.leg < len(self._deal.terms.route):  # without a standby the job begins all the same
                self._result.blame(order.leg, error)

    async def _ask(self, order: JobOrder) -> None:
        leg, deal = order.leg, self._deal
        reply = await self._reply(order)
        answer, signer = open_envelope(reply, Acceptance, Refusal)
        if isinstance(answer, Acceptance):
            self.acceptances[leg] = check_acceptance(reply, deal.session, deal.terms, leg)
            self._result.acceptances[leg] = reply
            return
        if not isinstance(answer, Refusal) or signer != deal.session.legs[leg].provider:
            raise DishonestError(f"the answer of {deal.name(leg)} is not its provider's")
        if (answer.session, answer.leg) != (self._session, leg):
            raise DishonestError(f"the answer of {deal.name(leg)} is to another order")
        if answer.discharge is not None:
            nothing = Discharge(session=self._session, leg=leg, amount=0)
            self._take_discharge(leg, SignedDischarge(discharge=nothing, signature=answer.discharge))
        hint = f"come back in {answer.retry_s} s" if answer.retry_s else None
        reason = f"{deal.name(leg)} refused: {answer.reason}"
        raise RefusedError(reason, code=answer.code, hint=hint, retry_s=answer.retry_s)

    async def _reply(self, order: JobOrder) -> bytes:
        side, offer, named = self._side, self._deal.offer(order.leg), self._deal.name(order.leg)
        try:
            async with asyncio.timeout(ANSWER_S):
                return await side.order(tls_address(offer), offer.public_key, self._session, seal(order, side.key))
        except TimeoutError:
            raise LostPeerError(f"{named} does not answer its order within {ANSWER_S:g} s") from None
        except RefusedError as error:
            raise RefusedError(f"{named} refused: {error.message}", code=error.code) from error
        except (PeerError, UnreachableError) as error:
            raise LostPeerError(f"{named} cannot be ordered from: {error.message}", code=error.code) from error
