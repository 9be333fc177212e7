"""Where each leg takes up a sequence that some of them hold a part of already: who computes what, who sends what again.

Healing with a standby and continuing in a new session are the same question (docs/spec/session.md, clause H3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from protocol.session.frames import ANEW, Joining
from protocol.session.order import Acceptance
from protocol.session.terms import Terms

__all__ = ["continued", "joinings"]


def joinings(cached: Sequence[int], replays: Sequence[bool], want: int, *, proven: bool = False) -> tuple[Joining, ...]:
    """How the legs of a route go on from what they hold, first leg first.

    Receipts begin at the base: as far as the leg that holds most, but for what is not wanted. The others catch up to
    there, fed with what the leg before them sends again; one that cannot send it again computes it anew, which asks the
    same of the leg before it.

    Args:
        cached: positions whose KV each leg holds.
        replays: whether each can send again all rows that it sent for these; of no matter for the last leg.
        want: positions of the old sequence that the new one begins with.
        proven: whether receipts begin there in any case, also where no leg holds as much: the session has some already.
    """
    base = want if proven else max((min(held, want) for held in cached), default=0)
    found: list[Joining] = []
    needed = base  # by the leg after this one; the last one's rows go nowhere
    for held, again in zip(reversed(cached), reversed(replays), strict=True):
        start = min(held, base)
        if not again:
            start = min(start, needed)
        found.append(Joining(base=base, start=start, onward=needed))
        needed = start
    return tuple(reversed(found)) if base else (ANEW,) * len(found)


def continued(terms: Terms, acceptances: Mapping[int, Acceptance]) -> tuple[Joining, ...]:
    """How the legs of a session's first route begin, by what they accepted: one that is not here holds nothing.

    A standby is paid as if it held nothing, whatever it accepted: it may never be called.
    """
    legs = [acceptances.get(leg) for leg in range(len(terms.route))]
    return joinings(
        [0 if each is None else each.cached for each in legs],
        [each is not None and each.replays for each in legs],
        0 if terms.continues is None else terms.continues.positions,
    )
