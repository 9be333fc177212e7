"""How jobs end: what is said, what is claimed, what is remembered of their clients, and what is freed.

Trust: a client gets a discharge once what this leg still claims is on disk, and never for more than it was promised.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from node.events import DiskRefused, Events, JobFailed, JobServed
from node.pipeline.loop_clock import loop_s
from node.pipeline.serving.compute import ComputeLoop
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.places import Places, Served
from node.pipeline.serving.redeem import Redeemer
from node.pipeline.serving.rooms import Rooms
from node.pipeline.vouchers import StoredVoucher
from node.ports import Clock, Spawn
from protocol.encoding.text import to_plain_text
from protocol.errors import LocalError, LostPeerError, PeerError
from protocol.reputation.standing import Deed
from protocol.session.frames import Failed
from protocol.session.job import JobEvent
from protocol.session.messages import SignedVoucher

__all__ = ["Endings"]

_log = logging.getLogger(__name__)


class Endings:
    """Ends jobs, each once."""

    def __init__(
        self,
        places: Places,
        redeemer: Redeemer,
        compute: ComputeLoop,
        rooms: Rooms,
        clock: Clock,
        events: Events,
        spawn: Spawn,
    ) -> None:
        self._places = places
        self._redeemer = redeemer
        self._compute = compute
        self._rooms = rooms
        self._clock = clock
        self._events = events
        self._spawn = spawn
        self._under_way: set[asyncio.Task[None]] = set()

    async def wait(self) -> None:
        """Until all that have ended are done with."""
        await asyncio.gather(*self._under_way)

    async def keep(self, served: Served, signed: SignedVoucher) -> None:
        """What is redeemed from here on is this voucher: durable when this returns. Raises LocalError."""
        if signed is not served.kept:
            await self._redeemer.remember(served.job.session, self._stored(served.job, signed))
            served.kept = signed

    async def serve_out(self, served: Served) -> None:
        """The last voucher is in: say what this leg claims, and be done. Raises LocalError, and nothing has changed."""
        job = served.job
        claimed = await self._give_up(served)
        if self._places.pop(job.session) is None:
            return
        tokens_in, tokens_out = job.served
        self._write_down(job, "served", claimed)
        self._events(
            JobServed(
                client=job.order.session.client,
                session=job.session,
                leg=job.leg,
                tokens_in=tokens_in,
                tokens_out=tokens_out,
                earned_micro=claimed,
                millijoules=job.millijoules,
                seconds=round(loop_s() - served.begun_s, 3),
            )
        )
        if job.unpaid:
            self._places.note(served, Deed.DEFAULTED, job.unpaid, "its last voucher pays less than was served")
        elif tokens_out:
            # An opening charge alone is not enough to be known by.
            self._places.note(served, Deed.PAID, claimed, "paid for a job to its end")
        self._free_soon(served, claims=False)

    def fail(self, served: Served, error: Exception, *, blame: Deed | None = None) -> asyncio.Task[None] | None:
        """End a job before its time, telling its client; the task that frees what it held, None where it had ended.

        Args:
            error: what no peer is to blame for is a fault of this program: it ends this session, and nobody else's.
            blame: LAPSED where the client let its place lapse, DEFAULTED where it ended the job, which matters only if
                credit is left unpaid; None where it is not its client's doing.
        """
        job = served.job
        if not isinstance(error, PeerError):
            error, blame = _defect("a session has ended by", error), None
        if self._places.pop(job.session) is None:
            return None
        job.advance(JobEvent.FAIL)
        if served.client is not None:
            failed = Failed(session=job.session, leg=job.leg, code=error.code, reason=to_plain_text(error.message, 512))
            with contextlib.suppress(LostPeerError):  # its reader tells of a client that is gone
                served.client.post(failed)
        if blame is not None and job.unpaid:
            self._places.note(served, Deed.DEFAULTED, job.unpaid, error.message)
        elif blame is Deed.LAPSED:
            self._places.note(served, Deed.LAPSED, 0, error.message)
        tokens_in, tokens_out = job.served
        self._write_down(job, error.code, job.claimed)
        self._events(
            JobFailed(
                client=job.order.session.client,
                session=job.session,
                leg=job.leg,
                tokens_in=tokens_in,
                tokens_out=tokens_out,
                paid_micro=job.claim.amount,
                code=error.code,
                reason=error.message,
            )
        )
        return self._free_soon(served, claims=True)

    def _write_down(self, job: LegJob, outcome: str, earned: int) -> None:
        tokens_in, tokens_out = job.served
        job.millijoules = job.meter.account.end(job.session)
        self._redeemer.journal.ended(
            job.session,
            outcome=outcome,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            rows=job.rows,
            millijoules=job.millijoules,
            source=str(job.meter.account.source),
            earned=earned,
        )

    async def _give_up(self, served: Served) -> int:
        """Tell the client what this leg claims, in micro-units, which frees the rest. Raises LocalError before."""
        job, claimed = served.job, served.job.claimed
        # What is claimed is on disk before the rest is given up.
        await self.keep(served, job.claim.redeemable(claimed))
        word = job.discharge()
        if served.client is not None:
            with contextlib.suppress(LostPeerError):  # a client that is gone has the rest back after the grace
                served.client.post(word)
        return claimed

    def _free_soon(self, served: Served, *, claims: bool) -> asyncio.Task[None]:
        leave = self._rooms.leave(served.job)
        task = self._spawn(self._free(served, leave, claims), "end of job")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _free(self, served: Served, leave: Callable[[], None], claims: bool) -> None:
        """Free what the job held, and redeem what it earned; with its claims still to be told where it failed."""
        job = served.job
        try:
            await self._compute.with_engine(leave)
        except Exception as error:  # noqa: BLE001 - of one session, which is over
            _defect("what a session held could not be freed, by", error)
        if claims:
            try:
                async with served.paying:  # a voucher may be on its way to the disk
                    await self._give_up(served)
            except LocalError as error:
                # Without a word the client waits for the grace; what is redeemed is what was earned all the same.
                self._redeemer.redeem_instead(job.session, self._stored(job, job.claim.redeemable(job.claimed)))
                self._events(DiskRefused(reason=error.message))
            except Exception as error:  # noqa: BLE001 - of one session, which is over: what it earned is redeemed
                _defect("the end of a session could not be told, by", error)
        self._redeemer.redeem_soon(job.session)

    def _stored(self, job: LegJob, signed: SignedVoucher) -> StoredVoucher:
        return StoredVoucher(session=job.order.session, opened_at=self._clock(), leg=job.leg, pay=signed, discharges=())


def _defect(what: str, error: Exception) -> PeerError:
    """Write down a fault of this program for its makers; what a client hears of it."""
    _log.error("%s a fault of this program", what, exc_info=error)
    return LostPeerError("a fault of this node's program", code="internal")
