"""What waits for this node's passes, and so how long a new job's first rows would (`protocol.market.admission`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from node.pipeline.loop_clock import loop_s
from node.pipeline.serving.compute import ComputeLoop
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.limits import ProviderLimits
from node.pipeline.serving.pace import Pace
from node.pipeline.serving.places import Places
from protocol.market.admission import Queued, require_soon, wait_us
from protocol.serving.places import GIVE_WAY_S, Rank, Waits

__all__ = ["Queueing"]

STRANGER = bytes(20)
"""A client that has no job here: for what an offer says."""
FEW_ROWS = 128
"""Rows of the first window of a job as clients order it, for what an offer says."""


class Queueing:
    """The prompt rows of the jobs that are served, and of those that are about to be.

    Args:
        held: positions of a job that is about to begin which need not be computed.
    """

    def __init__(
        self,
        places: Places,
        compute: ComputeLoop,
        pace: Pace,
        limits: ProviderLimits,
        *,
        held: Callable[[LegJob], int],
    ) -> None:
        self._places = places
        self._compute = compute
        self._pace = pace
        self._limits = limits
        self._held = held
        self._coming: dict[bytes, Queued] = {}
        self._busy = False

    def look(self, job: LegJob) -> None:
        """Raises RefusedError with code ``busy`` where a job's first rows would wait for too long now."""
        require_soon(
            self._queued(), self._of(job, min(job.plan.chunk, self._to_compute(job))),
            row_us=self._row_us, bound_us=self._bound_us,
        )  # fmt: skip

    @contextmanager
    def coming(self, job: LegJob) -> Iterator[None]:
        """A job is about to begin: until the block ends it is counted already. Raises as `look` does."""
        self.look(job)
        self._coming[job.session] = self._of(job, self._to_compute(job))
        try:
            yield
        finally:
            del self._coming[job.session]

    @property
    def busy(self) -> bool:
        """Whether a client without history would be told to come back later.

        Once that is so it stays so until the wait is half of what it may be: an offer should not change to and fro.
        """
        job = Queued(STRANGER, False, min(FEW_ROWS, self._limits.max_chunk))
        most = self._bound_us // 2 if self._busy else self._bound_us
        self._busy = wait_us(self._queued(), job, self._row_us) > most
        return self._busy

    @property
    def _row_us(self) -> int:
        return self._pace.prompt_row_us(beside=self._compute.answering)

    @property
    def _bound_us(self) -> int:
        return round(self._limits.wait_s * 1_000_000)

    def _to_compute(self, job: LegJob) -> int:
        return job.plan.prompt - min(self._held(job), job.plan.prompt - 1)

    def _of(self, job: LegJob, rows: int) -> Queued:
        client = job.order.session.client
        return Queued(client, self._places.rank(client) is Rank.KNOWN, rows)

    def _queued(self) -> list[Queued]:
        """What stands still is not in anybody's way, and neither holds up what is new."""
        now, found = loop_s(), list(self._coming.values())
        for served in self._places:
            job = served.job
            rows = job.prompt_left
            if rows and (now - served.moved_s < GIVE_WAY_S or job.waits_for is Waits.WORK):
                found.append(Queued(job.order.session.client, served.rank is Rank.KNOWN, rows))
        return found
