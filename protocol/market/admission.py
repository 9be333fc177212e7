"""How long a new job's first rows would wait here, and who is told to come back later (clause O13).

Clients share a leg's passes, not sessions: what a client waits for is its own rows, and of every other client as many
as it is served itself meanwhile. Integers only; `node.pipeline.serving` keeps the queue and measures the time of a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from protocol.errors import RefusedError
from protocol.units import ceil_div

__all__ = ["MAX_RETRY_S", "UNIT", "Queued", "charge", "require_soon", "wait_us"]

UNIT = 1024
"""What a row of a known client counts."""
MAX_RETRY_S = 3600
"""No leg tells anybody to come back later than this."""


class Queued(NamedTuple):
    """Prompt rows of one session that are to be computed."""

    client: bytes
    """Its address."""
    known: bool
    """Whether it has paid here before."""
    rows: int


def charge(is_known: bool, *, known: int, guests: int) -> int:
    """What one row counts, where so many known clients and others wait.

    Where the others are more, theirs count for so much more that all of them together get what the known ones get.
    """
    return UNIT if is_known or guests <= known or known == 0 else ceil_div(UNIT * guests, known)


class _Share(NamedTuple):
    """One client's rows before those of a newcomer."""

    rows: int
    charge: int
    most: int
    """That can come before."""


def _shares(queued: Sequence[Queued], job: Queued) -> list[_Share]:
    rows: Counter[tuple[bytes, bool]] = Counter()
    for each in queued:
        rows[each.client, each.known] += each.rows
    clients = {*rows, (job.client, job.known)}
    known = sum(each for _, each in clients)
    charges = {is_known: charge(is_known, known=known, guests=len(clients) - known) for is_known in (True, False)}
    found = []
    for (client, is_known), left in rows.items():
        # Its own come in order; of others as many as are served to it meanwhile.
        most = left if client == job.client else ceil_div(job.rows * charges[job.known], charges[is_known])
        found.append(_Share(left, charges[is_known], most))
    return found


def _before(shares: Sequence[_Share], served: int) -> int:
    """Rows that come before the newcomer's, once each client was served rows that count `served` in all."""
    return sum(min(each.most, max(0, each.rows - served // each.charge)) for each in shares)


def wait_us(queued: Sequence[Queued], job: Queued, row_us: int) -> int:
    """Microseconds that the first rows of a new job would wait, at so many microseconds a row."""
    return row_us * _before(_shares(queued, job), 0)


def require_soon(queued: Sequence[Queued], job: Queued, *, row_us: int, bound_us: int) -> None:
    """Hold a new job against the bound on its wait.

    Args:
        queued: the prompt rows of the sessions that are served, of each as many as are left.
        job: whose it is, and the rows of its first window.
        row_us: microseconds that a prompt row takes as things are.
        bound_us: the longest that those rows may wait.

    Raises RefusedError with code ``busy`` and the seconds after which it would not have to wait for longer.
    """
    shares = _shares(queued, job)
    if row_us * _before(shares, 0) <= bound_us:
        return
    low, high = 0, max(each.rows * each.charge for each in shares)
    while low < high:
        middle = (low + high) // 2
        if row_us * _before(shares, middle) <= bound_us:
            high = middle
        else:
            low = middle + 1
    done = sum(min(each.rows, ceil_div(low, each.charge)) for each in shares)
    retry_s = min(MAX_RETRY_S, max(1, ceil_div(row_us * done, 1_000_000)))
    raise RefusedError(
        f"too many prompts wait here now: yours would begin after {ceil_div(row_us * _before(shares, 0), 1_000_000)} s",
        code="busy",
        retry_s=retry_s,
    )
