"""Pages of the attention cache by and by: who has how many, who gives up its own when there are none left, and when it
has them back. It decides; `rooms` performs it.

Where a node promises more room than it has (`overcommit`), a job takes pages for its prompt and an eighth of its answer
at a time. Jobs rank by what all legs of a session know and have signed, so that every leg sets the same ones aside:
wherever jobs wait for one another's pages, the first of them all waits nowhere. (docs/spec/session.md, clause O14.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from node.pipeline.serving.leg import LegJob
from protocol.policy.policy import LatencyClass
from protocol.session.job import JobEvent, JobState
from protocol.units import ceil_div

__all__ = ["EVERYTHING", "Pages", "room_of", "set_aside"]

EVERYTHING = 100
"""Percent of the room there is: each job has pages for its whole plan from its beginning."""
PARTS = 8
"""An answer's pages are taken in so many parts, or fewer: each may have to be moved to lie in one run."""
LEAST = 16
"""Positions that are taken at a time, at least."""

Order = tuple[bool, int, bytes]


class Pages:
    """The jobs that have a place in the cache.

    Args:
        overcommit: positions that may be promised, in percent of those that there are.
    """

    def __init__(self, overcommit: int) -> None:
        self._percent = overcommit
        self._jobs: dict[bytes, LegJob] = {}
        self._short: set[bytes] = set()
        """Jobs that wait for pages, as they were found last."""

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: LegJob) -> bool:
        return self._jobs.get(job.session) is job

    @property
    def on_demand(self) -> bool:
        """Whether jobs have pages by and by."""
        return self._percent > EVERYTHING

    @property
    def pressed(self) -> bool:
        """Whether any job waits for pages, so that no other should begin."""
        return any(session in self._jobs for session in self._short) or any(job.kv.aside for job in self._jobs.values())

    @property
    def awaited(self) -> int:
        """Positions that are kept free for jobs that were called back and are not here yet: for them it is up to their
        clients, who hold up nobody else.
        """
        back = [job for job in self._jobs.values() if job.kv.gone and not job.kv.aside]
        return sum(room_of(job) for job in back if job.state is JobState.PAUSED)

    def left(self, capacity: int) -> int:
        """Positions that may still be promised."""
        return capacity * self._percent // 100 - sum(map(room_of, self._jobs.values()))

    def first_of(self, job: LegJob) -> int:
        """Positions that a job has pages for from its beginning."""
        return self.part(job, job.plan.prompt + 1) if self.on_demand else room_of(job)

    def part(self, job: LegJob, wanted: int) -> int:
        """Positions that it should have pages for, which needs so many now."""
        step = max(LEAST, ceil_div(job.plan.most, PARTS))
        parts = ceil_div(max(0, wanted - job.plan.prompt), step)
        return min(room_of(job), job.plan.prompt + parts * step)

    def begin(self, job: LegJob, paged: int) -> None:
        """It has a place, and pages for so many positions."""
        self._jobs[job.session] = job
        job.kv.paged = paged

    def end(self, job: LegJob) -> None:
        """It is over, or never began."""
        self._jobs.pop(job.session, None)

    def in_order(self, short: Iterable[LegJob]) -> list[LegJob]:
        """Those that wait for pages: who has some first."""
        waiting = sorted((job for job in short if job in self), key=_order)
        self._short = {job.session for job in waiting}
        return waiting

    def has_enough(self, job: LegJob) -> None:
        """It waits no more."""
        self._short.discard(job.session)

    def last_after(self, job: LegJob) -> LegJob | None:
        """Who gives up its pages to a job: one that needs none any more, else the last of those that come after it.

        One whose client has yet to attach keeps them: its acceptance says what it holds.
        """
        holding = [
            each for each in self._jobs.values() if each.kv.paged and each.state in _MAY_GIVE and each is not job
        ]
        over = [each for each in holding if each.state is JobState.FINISHED]
        after = [each for each in holding if _order(each) > _order(job)]
        return max(over or after, key=_order, default=None)

    def back(self, free: int) -> Iterator[LegJob]:
        """Those that were set aside and for whose whole plan there is room by now, the first ones first."""
        free -= self.awaited
        for job in sorted((job for job in self._jobs.values() if job.kv.aside), key=_order):
            free -= room_of(job)
            if free < 0:
                return
            yield job


_MAY_GIVE = (JobState.SERVING, JobState.PAUSED, JobState.FINISHED)


def set_aside(job: LegJob) -> None:
    """It has no pages any more, and computes nothing until it begins anew."""
    job.kv.paged, job.kv.gone = 0, True
    if job.state is JobState.SERVING:
        job.advance(JobEvent.PAUSE)
        job.kv.aside = True


def room_of(job: LegJob) -> int:
    """Positions that its whole plan needs."""
    return job.plan.prompt + job.plan.most


def _order(job: LegJob) -> Order:
    """Who can wait comes after who cannot; then by when the session has to be over: as a rule, the newest last."""
    session = job.order.session
    return job.terms.policy.latency_class is LatencyClass.BATCH, session.expiry, job.session
