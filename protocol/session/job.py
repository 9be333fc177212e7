"""The life of a job at one leg, as a table: what may follow what.

A leg enters at ACCEPTED. Anything that the table does not name is an error; FAILED absorbs everything.
`scripts/gen_diagrams.py` draws docs/reference/job-states.md from this table.
"""

from __future__ import annotations

from enum import StrEnum

from protocol.errors import InvalidError

__all__ = ["TRANSITIONS", "JobEvent", "JobState", "next_state"]


class JobState(StrEnum):
    """Where a job stands."""

    ACCEPTED = "accepted"
    """The leg has signed that it will serve, and holds the first voucher. A standby waits here until it is called."""
    SERVING = "serving"
    """The client is attached: prompt chunks and generated tokens flow, each window paid by voucher."""
    PAUSED = "paused"
    """A neighbour is gone, or what was computed: nothing is, until the client names a route or says that it is over."""
    FINISHED = "finished"
    """No more tokens; the last receipts and the last voucher are due."""
    DISCHARGED = "discharged"
    """The leg has signed that it claims nothing more."""
    FAILED = "failed"
    """Ended before its answer was complete; what was served is still settled."""


class JobEvent(StrEnum):
    """What moves a job on."""

    ATTACH = "attach"
    PAUSE = "pause"
    RESUME = "resume"
    FINISH = "finish"
    DISCHARGE = "discharge"
    FAIL = "fail"


_PATH = {
    (JobState.ACCEPTED, JobEvent.ATTACH): JobState.SERVING,
    (JobState.SERVING, JobEvent.PAUSE): JobState.PAUSED,
    (JobState.PAUSED, JobEvent.RESUME): JobState.SERVING,
    (JobState.SERVING, JobEvent.FINISH): JobState.FINISHED,
    (JobState.PAUSED, JobEvent.FINISH): JobState.FINISHED,
    (JobState.FINISHED, JobEvent.DISCHARGE): JobState.DISCHARGED,
}

_FAILURES = {(state, JobEvent.FAIL): JobState.FAILED for state in JobState if state is not JobState.DISCHARGED}

TRANSITIONS: dict[tuple[JobState, JobEvent], JobState] = _PATH | _FAILURES
"""Every transition there is."""


def next_state(state: JobState, event: JobEvent) -> JobState:
    """The state after `event`. Raises InvalidError where the table has no such transition."""
    following = TRANSITIONS.get((state, event))
    if following is None:
        raise InvalidError(f"a {state} job cannot {event}", code="out-of-order")
    return following
