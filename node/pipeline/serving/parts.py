"""Who has a part in the sessions that are served here, and so what may come on a link of theirs.

A link is shared by sessions, and its peer's bytes are bounded before they are read. So what counts is the peer's key,
and all of its sessions together: a client sends a prompt in parts, a neighbour the rows of one step of each session.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import replace
from math import inf

from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.trail import REPLAY_BYTES
from node.ports import STRANGER, Allowance, LinkRank
from protocol.identity.signing import address_of_public_key
from protocol.models.activations import FORMATS
from protocol.session.frames import MAX_KNOWN_TOKENS
from protocol.session.logprobs import said_bytes
from protocol.session.terms import Plan

__all__ = ["LINGER_S", "PROMPT_PART", "Parts"]

PROMPT_PART = 4096
"""Token ids in one frame of a prompt, at most."""
CLIENT_BYTES = 4 * PROMPT_PART
"""Payload of a client's frame: a part of its prompt, or the tokens that stand of a job with short windows."""
HEADER_BYTES = 64 * 1024
"""Header of a neighbour's frame: it may name as many sessions as a step has."""
LINGER_S = 30.0
"""Seconds for which a neighbour may send as before when a session has ended: what it sent on before it heard of it."""
MAX_KNOWN = 4096
"""Peers whose sessions are over that are remembered; longest ago first, they are strangers again."""


class Parts:
    """The parts of peers, by address. `now` are seconds on a steady clock."""

    def __init__(self, width: int, now: Callable[[], float]) -> None:
        self._width = width
        self._now = now
        self._sessions: Counter[bytes] = Counter()
        """Sessions that are being served, of clients and neighbours."""
        self._rows: Counter[bytes] = Counter()
        """Bytes of rows that a neighbour may send in one step, or of long windows' tokens that a client may name."""
        self._known: OrderedDict[bytes, tuple[float, int]] = OrderedDict()
        """Those who had a part: until when their rows may still come, and how many bytes of them."""
        self._told: dict[bytes, tuple[float, Allowance]] = {}
        """By public key, of those with a session: what was said last, and until when it holds if no session changes."""

    def begin(self, job: LegJob) -> None:
        """A job is served from now on."""
        self._told.clear()
        for address, rows in self._of(job):
            self._sessions[address] += 1
            self._rows[address] += rows

    def end(self, job: LegJob) -> None:
        """It is over."""
        self._told.clear()
        for address, rows in self._of(job):
            before = self._rows[address]
            for counter, count in ((self._sessions, 1), (self._rows, rows)):
                counter[address] -= count
                if counter[address] <= 0:
                    del counter[address]
            until, lingering = self._known.pop(address, (0.0, 0))
            left = lingering if until > self._now() else 0
            self._known[address] = (self._now() + LINGER_S, max(before, left))
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)

    def allowance(self, public_key: bytes) -> Allowance:
        """What the peer with this key may send now."""
        told = self._told.get(public_key)
        if told is not None and self._now() < told[0]:
            return told[1]
        address = address_of_public_key(public_key)
        until, lingering = self._known.get(address, (0.0, 0))
        late = lingering if until > self._now() else 0
        if address in self._sessions:
            allowed = Allowance(HEADER_BYTES, max(CLIENT_BYTES, self._rows[address], late), LinkRank.BUSY)
            self._told[public_key] = (until if late else inf, allowed)
            return allowed
        if until > self._now():
            return Allowance(HEADER_BYTES, max(CLIENT_BYTES, late), LinkRank.KNOWN)
        return replace(STRANGER, rank=LinkRank.KNOWN) if until else STRANGER

    def _of(self, job: LegJob) -> list[tuple[bytes, int]]:
        """The peers that send in a job, and what each may send in one frame where that is more than what all may."""
        known = (4 + said_bytes(job.terms.sampling.logprobs)) * _most_known(job.plan)
        peers = [(job.order.session.client, known if known > CLIENT_BYTES else 0)]
        if job.place is not None and len(job.route) > 1:
            before = address_of_public_key(job.key_at(job.place - 1))
            row_bytes = FORMATS[job.terms.activations].item_bytes * self._width
            most = max(_most_rows(job.plan), 1 + job.terms.speculation.depth) * row_bytes
            if job.reroutes or job.terms.continues is not None:
                most = max(most, REPLAY_BYTES)
            peers.append((before, 0 if job.is_first else most))
        return peers


def _most_rows(plan: Plan) -> int:
    """Rows of one session in one step: no piece crosses the end of a window."""
    return max(min(plan.chunk, plan.prompt), plan.window)


def _most_known(plan: Plan) -> int:
    """Tokens that stand beyond the end of a window that all have signed for, at most: a reroute hands them over."""
    return min(plan.most, (plan.ahead + 1) * plan.window + 1, MAX_KNOWN_TOKENS)
