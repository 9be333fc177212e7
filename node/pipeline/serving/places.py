"""The places of a node: which jobs hold one, who is let in, and which have stood still for too long.

The rules are `protocol.serving.places`; this is the table, and what a client's deeds here leave behind. All of it
belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from node.pipeline.loop_clock import loop_s
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.limits import ProviderLimits
from node.pipeline.serving.neighbours import Next
from node.pipeline.serving.outbox import Outbox
from node.pipeline.serving.parts import Parts
from node.pipeline.serving.trail import MOST_OF_SESSION
from node.ports import Clock, PeerMemory
from protocol.encoding.codec import Message
from protocol.errors import LostPeerError, MalformedError
from protocol.reputation.standing import Deed
from protocol.serving.places import POSITION_S, Held, Rank, Waits, free_for_newcomers, make_room, rank_of
from protocol.session.frames import Step
from protocol.session.messages import SignedVoucher

__all__ = ["Places", "Served"]

MOST_STANDBYS = 256
"""Sessions that wait for a call at once: some kilobytes each."""
MOST_EARLY = 512
"""Frames of one session that are kept until its client tells of their route."""
MOST_EARLY_BYTES = MOST_OF_SESSION
"""Of their rows: what a neighbour may send again of all that came before."""


@dataclass(slots=True)
class Served:
    """A job, the links that it goes over, and when it last moved; times are the loop's."""

    job: LegJob
    downstream: Outbox | None
    """Where rows or tokens go next; None for the only leg, and while that one is gone."""
    next_leg: Next | None
    """Who that is."""
    rank: Rank
    """Of its client, when it was taken; it counts as no more than its client does now."""
    begun_s: float
    """When it was taken."""
    moved_s: float
    """When it last got further: it was attached, paid on, served or finished. Frames that bring nothing are not it."""
    due_s: float
    """By when it must be paid on, whatever else happens."""
    kept: SignedVoucher
    """What is on disk of its claim."""
    client: Outbox | None = None
    upstream: Outbox | None = None
    """Where rows or tokens last came from."""
    waited_s: float = 0.0
    """In which it did not wait for the engine, in all."""
    early: list[Callable[[], None]] = field(default_factory=list)
    """What neighbours sent on a route that the client has not told of yet."""
    early_bytes: int = 0
    """Of rows in them."""
    paying: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a voucher is written down: they count one after the other."""

    @property
    def stands_by(self) -> bool:
        """Whether it waits to be called, and holds no place."""
        return self.job.place is None

    def hold(self, take: Callable[[], None], size: int) -> None:
        """Keep a neighbour's rows, of so many bytes, until the client has told of their route.

        Whether they are then for that neighbour to send, `take` has to see.

        Raises MalformedError: too many.
        """
        self.early_bytes += size
        if len(self.early) >= MOST_EARLY or self.early_bytes > MOST_EARLY_BYTES:
            raise MalformedError("more rows on a route that was not told of than can be kept", code="out-of-order")
        self.early.append(take)

    def post(self, frame: Message, payload: bytes = b"") -> None:
        """Queue a frame for the client. Raises LostPeerError where it is gone, or does not read."""
        if self.client is None:
            raise LostPeerError("the client went away", code="client-gone")
        self.client.post(frame, payload)

    def certify(self, position: int) -> None:
        """Rows below this position stand here, and at the legs after this one. A window may have ended with them."""
        item = self.job.certify(position)
        if item is not None and self.downstream is not None:
            with suppress(LostPeerError):  # its reader tells of one that is gone
                self.downstream.post(Step(activations=self.job.terms.activations, items=(item,)))

    def post_receipts(self) -> bool:
        """Give the client the receipts that are due, as long as some are; whether any was. Raises as `post` does."""
        some = False
        while (due := self.job.next_receipt()) is not None:
            self.post(due.frame, due.sketches)
            some = True
        return some


class Places:
    """Who is served here now.

    Args:
        parts: is told, so that their links carry what their jobs need.
        failed: called with a job that could not be looked at, by a fault of this program.
    """

    def __init__(
        self,
        limits: ProviderLimits,
        memory: PeerMemory,
        clock: Clock,
        parts: Parts,
        failed: Callable[[LegJob, Exception], None],
    ) -> None:
        self._failed = failed
        self._limits = limits
        self._memory = memory
        self._clock = clock
        self._parts = parts
        self._served: dict[bytes, Served] = {}
        self._beginning: dict[bytes, Held] = {}

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Served]:
        return (served for served in self.all if not served.stands_by)

    @property
    def all(self) -> list[Served]:
        """Those that stand by included."""
        return list(self._served.values())

    def get(self, session: bytes) -> Served | None:
        """The job of a session; None for one that has ended."""
        return self._served.get(session)

    def pop(self, session: bytes) -> Served | None:
        """Free a place; None where its job has ended before."""
        served = self._served.pop(session, None)
        if served is not None:
            self._parts.end(served.job)
        return served

    @property
    def free(self) -> int:
        """Places that a client without history would find."""
        return free_for_newcomers(self._held(), self._limits.max_sessions)

    def look(self, client: bytes) -> None:
        """Raises RefusedError where a job of this client would find no place now."""
        make_room(self._held(), client, self.rank(client), self._limits.max_sessions)

    @contextmanager
    def taken(self, job: LegJob) -> Iterator[Served | None]:
        """A place for a job that is about to begin, until the block ends; the job that has to give way to it.

        Raises RefusedError where there is none.
        """
        client = job.order.session.client
        rank = self.rank(client)
        loser = make_room(self._held(), client, rank, self._limits.max_sessions)
        self._beginning[job.session] = Held(session=job.session, client=client, rank=rank, still_s=0.0)
        try:
            yield None if loser is None else self._served.get(loser)
        finally:
            del self._beginning[job.session]

    def add(self, job: LegJob, downstream: Outbox | None, next_leg: Next | None) -> None:
        """The job has begun: the place is its own."""
        now = loop_s()
        rank = self._beginning[job.session].rank
        self._served[job.session] = Served(job, downstream, next_leg, rank, now, now, 0.0, job.order.pay)
        self._parts.begin(job)
        self.paid_on(self._served[job.session])

    def add_standby(self, job: LegJob) -> Served | None:
        """The job waits to be called; another one that gives way to it, where there are too many."""
        now, waiting = loop_s(), [served for served in self.all if served.stands_by]
        rank = self.rank(job.order.session.client)
        self._served[job.session] = Served(job, None, None, rank, now, now, 0.0, job.order.pay)
        self._parts.begin(job)
        if len(waiting) < MOST_STANDBYS:
            return None
        return min(waiting, key=lambda served: (served.rank, served.begun_s))

    def reroute(self, served: Served, change: Callable[[], None]) -> None:
        """`change` its route; who may send what follows."""
        self._parts.end(served.job)
        try:
            change()
        finally:
            self._parts.begin(served.job)
        served.moved_s = loop_s()
        self.paid_on(served)

    def got_on(self, served: Served) -> None:
        """Its client has attached, or said that it is over: each happens once."""
        served.moved_s = loop_s()
        served.due_s = max(served.due_s, served.moved_s + self._limits.idle_s)

    def paid_on(self, served: Served) -> None:
        """A voucher has paid for more than those before: the next one has its time from now."""
        served.moved_s = loop_s()
        left = max(0, served.job.claim.may_process - served.job.processed)
        served.due_s = served.moved_s + self._limits.idle_s + POSITION_S * left

    def lapsed(self, since_s: float) -> list[tuple[Served, Waits]]:
        """The jobs that have stood still for too long, and for what; call it every so many seconds."""
        now = loop_s()
        found: list[tuple[Served, Waits]] = []
        for served, waits in self._waiting():
            if waits is Waits.WORK:
                served.moved_s, served.due_s = now, served.due_s + since_s
                continue
            served.waited_s += since_s
            if now - served.moved_s > self._patience_s(waits) or now > served.due_s:
                found.append((served, waits))
        return found

    def note(self, served: Served, deed: Deed, amount: int, about: str) -> None:
        """Take down what a client did in a job; `amount` in micro-units."""
        self._memory.note(served.job.order.session.client, deed, amount=amount, about=about)

    def _waiting(self) -> Iterator[tuple[Served, Waits]]:
        """Each job with what it waits for; one of which that cannot be said ends here."""
        for served in self:
            try:
                waits = served.job.waits_for
            except Exception as error:  # noqa: BLE001 - whatever it is, it is of one session
                self._failed(served.job, error)
            else:
                yield served, waits

    def _patience_s(self, waits: Waits) -> float:
        limits = self._limits
        return {Waits.ATTACH: limits.attach_s, Waits.CLIENT: limits.lapse_s}.get(waits, limits.idle_s)

    def rank(self, client: bytes) -> Rank:
        """How a client stands here now."""
        return rank_of(self._memory.standing(client), self._clock())

    def is_known(self, session: bytes) -> bool:
        """Whether the client of a session had paid here before it was taken."""
        served = self._served.get(session)
        return served is not None and served.rank is Rank.KNOWN

    def _held(self) -> list[Held]:
        now = loop_s()
        return [*(self._held_by(served, waits, now) for served, waits in self._waiting()), *self._beginning.values()]

    def _held_by(self, served: Served, waits: Waits, now: float) -> Held:
        job, client = served.job, served.job.order.session.client
        still_s = 0.0 if waits is Waits.WORK else now - served.moved_s
        rank = min(served.rank, self.rank(client))
        return Held(session=job.session, client=client, rank=rank, still_s=still_s, waited_s=served.waited_s)
