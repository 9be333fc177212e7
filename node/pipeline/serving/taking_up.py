"""Where a leg may take up a sequence in its middle (docs/spec/session.md, clauses H2, H3 and H8)."""

from __future__ import annotations

from protocol.errors import MalformedError, RefusedError
from protocol.session.frames import Joining
from protocol.session.metering import last_position, paid_limit
from protocol.session.terms import Plan

__all__ = ["check_beginning", "check_going_on"]


def check_beginning(joining: Joining, *, continues: int, cached: int, replays: bool) -> None:
    """Where a session begins. Raises MalformedError where the leg cannot begin so.

    Args:
        continues: positions of an earlier session that its terms let it begin with; 0 for one that begins anew.
        cached: of them, those in the leg's KV.
        replays: whether it can send again what it sent of these.
    """
    holds = joining.base <= continues and joining.start <= min(joining.base, cached)
    if not holds or joining.onward > joining.base or (joining.onward < joining.start and not replays):
        raise MalformedError("a leg cannot take up the session where it is told to")


def check_going_on(plan: Plan, position: int, joining: Joining, *, known: int, held: int, gone: bool) -> None:
    """Where a session goes on by another route, whose base is `position`.

    Args:
        known: tokens from the base on that the client says stand.
        held: positions below the base in the leg's KV.
        gone: whether what it had computed had to make room for others.

    Raises:
        RefusedError: ``set-aside``, for a leg that is told to go on from what is gone.
        MalformedError: the leg cannot begin so, nothing is left, or more is said to stand than can.
    """
    if gone and joining.start:
        raise RefusedError("what was computed had to make room for others", code="set-aside")
    if joining.base != position or joining.start > held or joining.onward > position:
        raise MalformedError("a leg cannot take up the session where it is told to")
    if position >= last_position(plan):
        raise MalformedError("nothing is left to be served from there on")
    if max(position, plan.prompt) + known > paid_limit(plan, position) + 1:
        raise MalformedError("more tokens are said to stand than can have been drawn")
