"""The life of a job, as a table: what may follow what, for the client and for every leg.

A leg enters at ACCEPTED. Anything that the table does not name is an error; FAILED absorbs everything.
`scripts/gen_diagrams.py` draws docs/reference/job-states.md from this table.
"""

from __future__ import annotations

from enum import StrEnum

from protocol.errors import InvalidError

__all__ = ["TRANSITIONS", "JobEvent", "JobState", "next_state"]


class JobState(StrEnum):
    """Where a job stands."""

    ROUTED = "routed"
    """A route is chosen; nothing is promised yet."""
    FUNDED = "funded"
    """The session is open on the ledger: the caps are reserved."""
    ACCEPTED = "accepted"
    """Every leg (or this one) has signed that it will serve."""
    SERVING = "serving"
    """Prompt chunks and generated tokens flow, each window paid by voucher."""
    FINISHED = "finished"
    """No more tokens; the last receipts and the last voucher are due."""
    DISCHARGED = "discharged"
    """The legs have signed that they claim nothing more."""
    SETTLED = "settled"
    """The last voucher is on the ledger."""
    FAILED = "failed"
    """Ended before its answer was complete; what was served is still settled."""


class JobEvent(StrEnum):
    """What moves a job on."""

    OPEN = "open"
    ACCEPT = "accept"
    ATTACH = "attach"
    FINISH = "finish"
    DISCHARGE = "discharge"
    SETTLE = "settle"
    FAIL = "fail"


_PATH = {
    (JobState.ROUTED, JobEvent.OPEN): JobState.FUNDED,
    (JobState.FUNDED, JobEvent.ACCEPT): JobState.ACCEPTED,
    (JobState.ACCEPTED, JobEvent.ATTACH): JobState.SERVING,
    (JobState.SERVING, JobEvent.FINISH): JobState.FINISHED,
    (JobState.FINISHED, JobEvent.DISCHARGE): JobState.DISCHARGED,
    (JobState.FINISHED, JobEvent.SETTLE): JobState.SETTLED,
    (JobState.DISCHARGED, JobEvent.SETTLE): JobState.SETTLED,
}

_FAILURES = {(state, JobEvent.FAIL): JobState.FAILED for state in JobState if state is not JobState.SETTLED}

TRANSITIONS: dict[tuple[JobState, JobEvent], JobState] = _PATH | _FAILURES
"""Every transition there is."""


def next_state(state: JobState, event: JobEvent) -> JobState:
    """The state after `event`. Raises InvalidError where the table has no such transition."""
    following = TRANSITIONS.get((state, event))
    if following is None:
        raise InvalidError(f"a {state} job cannot {event}", code="out-of-order")
    return following
