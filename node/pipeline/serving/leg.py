"""One session at one leg: its order, its money, its place on the route, and what is due.

It decides; it sends nothing, stores nothing and knows no clock. `provider` performs what it returns. All of its fields
belong to the event loop. How rows go through is `Flow`'s affair, what is signed for them that of `Windows`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from node.pipeline.serving.catching_up import Fed
from node.pipeline.serving.flow import Flow
from node.pipeline.serving.looking_back import LookingBack
from node.pipeline.serving.masked import Masked
from node.pipeline.serving.meter import Meter
from node.pipeline.serving.on_route import OnRoute
from node.pipeline.serving.rows import Arrived, Known, Onward
from node.pipeline.serving.taking_up import check_beginning, check_going_on
from node.pipeline.serving.trail import Trail, Trails
from node.pipeline.serving.warm import Origin
from node.pipeline.serving.windows import Due, Signer, Sketching, Windows
from node.ports import Activations, StepInput, StepOutput
from protocol.drafting.drafts import Launch
from protocol.errors import MalformedError, RefusedError, UnpaidError, peers_fault
from protocol.identity.eip712 import Domain
from protocol.identity.signing import SigningKey
from protocol.market.offer import Offer
from protocol.models.activations import FORMATS
from protocol.serving.places import Waits
from protocol.session.claim import Claim
from protocol.session.draws import NonceChain
from protocol.session.frames import Discharged, Draw, Joining, StepItem
from protocol.session.job import JobEvent, JobState, next_state
from protocol.session.messages import SignedVoucher, session_id, sign_discharge
from protocol.session.metering import last_position, served, stints, window_end, window_index, windows_between
from protocol.session.order import JobOrder
from protocol.session.terms import Reroute, route_at

__all__ = ["LegJob"]


class LegJob(OnRoute):
    """The state of one accepted order.

    Args:
        order: checked with `protocol.session.order.check_order`.
        offer: this provider's own, which the order came with.
        key: the provider's.
        domain: of the ledger that the session is on.
        chain: this leg's nonces for the job; the acceptance has its anchor.
        trails: keep what it sends on, for replay.
        stop_tokens: ids that end the answer.
    """

    def __init__(
        self,
        order: JobOrder,
        offer: Offer,
        key: SigningKey,
        domain: Domain,
        *,
        chain: NonceChain,
        meter: Meter,
        trails: Trails,
        width: int,
        stop_tokens: tuple[int, ...],
    ) -> None:
        super().__init__(order)
        terms = order.terms
        self.plan = terms.plan
        self.session = session_id(order.session)
        self.state = JobState.ACCEPTED
        self.claim = Claim(domain, order.session, terms, order.leg, order.pay)
        self.millijoules: int | None = 0
        """By its newest receipt; once it is over, in all. None where nobody knows."""
        self.trail = trails.begin(FORMATS[terms.activations].item_bytes * width)
        self._key = key
        self._domain = domain
        self.meter = meter
        ends = self.ends
        signer = Signer(session=self.session, leg=order.leg, key=key, domain=domain, chain=chain, meter=meter)
        self._windows = Windows(
            self.plan, signer, first=ends.first, activations=terms.activations, late_us=offer.late_us, width=width
        )
        draws = terms.legs[order.leg].span.end == terms.route[-1].span.end
        self.looking_back = LookingBack(self.plan, terms.sampling.shaping, draws=draws)
        self._flow = Flow(
            self.plan,
            self.session,
            self._windows,
            self.trail,
            ends,
            activations=terms.activations,
            speculation=terms.speculation,
            show_ids=self._show_ids,
            stop_tokens=stop_tokens,
            looking_back=self.looking_back,
            logprobs=terms.sampling.logprobs,
        )
        drafts = terms.speculation.depth * terms.speculation.flights
        self.kv = self._flow.kv
        self._most_ahead = (self.plan.ahead + 1) * (self.plan.chunk + self.plan.window) + drafts
        """Positions that a neighbour can be ahead by, which may have seen the next vouchers earlier."""
        self._masked = Masked(self.session)
        self._told = 0
        """Positions that the legs between were told of that they stand, without rows."""
        self.rows = 0
        """Computed in all."""
        self.cached = 0
        """Of the session that this one continues, positions that are still in the KV."""
        self.origins: tuple[Origin, ...] = ()
        """The sessions that it begins as, newest first."""
        self._began_at = 0
        """Where the session's first window begins."""
        self._seen = 0
        """Generated tokens that the client has seen, once it has finished."""

    def advance(self, event: JobEvent) -> None:
        """Move the life cycle on. Raises MalformedError where the table forbids it."""
        with peers_fault():
            self.state = next_state(self.state, event)

    # Money

    @property
    def processed(self) -> int:
        """Positions that have gone through this leg's blocks, and stand."""
        return self._flow.processed

    @property
    def served(self) -> tuple[int, int]:
        """Prompt and generated tokens that have gone through."""
        return served(self.plan, self.processed)

    def check_voucher(self, signed: SignedVoucher) -> SignedVoucher:
        """Hold a voucher against the rules; what to keep before it counts (`Claim.check`). Raises PeerError."""
        return self.claim.check(signed, late=self._windows.late, last=self.state is JobState.FINISHED)

    @property
    def claimed(self) -> int:
        """Micro-units that this leg has earned, as far as a voucher promises them."""
        return self.claim.discharge(self.processed, late=self._windows.late, rejected=self._rejected).amount

    @property
    def _rejected(self) -> int:
        """Rows that it computed in vain: what a client pays of them, the leg that counts fewest decides (clause S6)."""
        speculation, stint = self.terms.speculation, self.claim.stint
        most = speculation.depth * speculation.flights * self.served[1]
        return max(0, min(self.rows - (self.processed - stint.cached), most))

    @property
    def unpaid(self) -> int:
        """Micro-units that it has earned and no voucher promises: credit that was not paid."""
        return max(0, self.claim.owed(self.processed, late=self._windows.late) - self.claim.amount)

    @property
    def waits_for(self) -> Waits:
        """Who has to do something next."""
        if self._flow.running or self.kv.aside or self.ready_rows or self.lacks:
            return Waits.WORK
        if self.state is JobState.ACCEPTED:
            return Waits.ATTACH
        paid = min(self.claim.may_process, last_position(self.plan))
        client_next = self.state is JobState.FINISHED or self.ended or self.processed >= paid
        # Its client may wait for the receipts of others; at the last leg these have been there before.
        if client_next or self._windows.blocked:
            return Waits.CLIENT if self.is_last else Waits.OTHERS
        return Waits.CLIENT if self.is_first and self.processed < self.plan.prompt else Waits.OTHERS

    # Rows

    @property
    def ended(self) -> bool:
        """Whether no further position can come: a stop token, the last allowed one, or the client's word."""
        return self._flow.ended

    @property
    def fed_until(self) -> int:
        """Positions whose tokens the client sends to the first leg: the prompt, or what it has to compute again."""
        return self._flow.fed_until

    @property
    def prompt_left(self) -> int:
        """Rows to be computed before its answer goes on: of the prompt, or of what it takes up again."""
        return max(0, self._flow.fed_until - self._flow.computed)

    def arrive(
        self,
        position: int,
        data: tuple[int, ...] | Activations,
        *,
        now_us: int,
        certain: int | None = None,
        flight: int = 0,
        drafts: bytes = b"",
    ) -> None:
        """Take in rows from the client or the leg before.

        Args:
            certain: rows below are of tokens that stand; all of these by default.

        Raises:
            MalformedError: not the next position, or beyond what was ordered.
            UnpaidError: further ahead of the vouchers than any honest sender could be.
        """
        if self.ended:
            return  # on their way when the client or a stop token ended the answer
        end = position + len(data)
        most = max(self.claim.may_process, self._flow.joining.base) + self._most_ahead
        if most < end <= last_position(self.plan) and not self.is_first:
            raise UnpaidError("rows far beyond what is paid")
        stands = end if certain is None else certain
        self._flow.arrive(Arrived.of(position, data, stands, flight, drafts, now_us))
        self.feed_known(now_us)

    def share(self, secret: bytes) -> None:
        """What hides drafted tokens from the legs between the first and the last."""
        self._masked.share(secret)

    def launch(self, launch: Launch, given: tuple[int, ...], certain: int, *, now_us: int) -> None:
        """At the first leg: the tokens that stand and were not computed, and drafts after them, are computed next.

        Args:
            given: the tokens that stand.
            certain: tokens below this position stand.
        """
        flight, drafts = self._masked.hide(launch, route=len(self.reroutes))
        ids = (*given, *launch.guesses)
        self._flow.arrive(Arrived.of(launch.position, ids, certain, flight, drafts, now_us))

    def certify(self, position: int) -> StepItem | None:
        """Not at the last leg: rows below this position are of tokens that stand, as they were drafted.

        Returns:
            What tells the legs between of it, once for each window: they could not sign for it as long as no more
            rows come.
        """
        self._flow.certify(position)
        place = self.place
        if place is None or place >= len(self.route) - 2 or position < window_end(self.plan, self._told):
            return None
        self._told = position
        return StepItem(session=self.session, position=position, length=0, certain=position, route=len(self.reroutes))

    @property
    def idle(self) -> bool:
        """Whether nothing that came is yet to be computed."""
        return self._flow.idle

    def _show_ids(self, rows: Arrived) -> tuple[int, ...]:
        return self._masked.show(rows, route=len(self.reroutes))

    def feed_known(self, now_us: int) -> None:
        """At a first leg that has all below the base: the tokens that stand come next."""
        known = self._flow.known_rows(now_us)
        if known is not None:
            self._flow.arrive(known)

    @property
    def ready_rows(self) -> int:
        """Rows that may run now, in one piece."""
        return self._flow.ready_rows(self.claim.may_process) if self.state is JobState.SERVING else 0

    @property
    def lacks(self) -> int:
        """Positions that it needs pages for, so that rows which may run can; 0 where it has enough."""
        end = self._flow.may_run(self.claim.may_process) if self.state is JobState.SERVING else 0
        return end if end > self.kv.paged else 0

    def next_piece(self, most: int) -> StepInput | None:
        """At most `most` of the rows that may run now; None without any."""
        rows = min(self.ready_rows, most)
        return self._flow.take(rows) if rows > 0 else None

    def complete(self, piece: StepInput, output: StepOutput, *, now_us: int) -> Onward | None:
        """Book what a forward pass did; what is to be sent, None where it was all taken back meanwhile."""
        self.rows += piece.length
        return self._flow.complete(piece, output, now_us=now_us)

    # Receipts

    def finish(self, tokens_out: int) -> None:
        """The client wants no more: a window that was begun ends here."""
        if tokens_out > self.plan.most:
            raise MalformedError("the client has seen more tokens than were ordered")
        self.advance(JobEvent.FINISH)
        self.kv.aside = False  # it has no use for room any more
        self._seen = tokens_out
        self._flow.end()

    def take_draw(self, draw: Draw) -> Sketching:
        """The client has all receipts for a window: what to sketch. Raises MalformedError for another window."""
        return self._windows.take_draw(draw)

    def show(self, sketches: bytes) -> None:
        """The sketches of a window are made: the next receipt shows them."""
        self._windows.show(sketches)

    def next_receipt(self) -> Due | None:
        """The receipt that can go out now; None while there is none, or sketches before it are not made yet."""
        finished = self.state is JobState.FINISHED and not self._flow.running
        if finished:
            self._flow.wind_up(self._seen)
        elif not self._windows.blocked:
            return None
        self.millijoules = self.meter.account.spent(self.session)
        due = self._windows.next_receipt(self.rows, self.millijoules, last=self.is_last, finished=finished)
        if due is not None:
            self._flow.settle()
        return due

    def discharge(self) -> Discharged:
        """Give up every claim beyond what was earned and promised: at the end, or where the job has failed."""
        if self.state is not JobState.FAILED:
            self.advance(JobEvent.DISCHARGE)
        word = self.claim.discharge(self.processed, late=self._windows.late, rejected=self._rejected)
        return Discharged(signed=sign_discharge(self._domain, word, self._key))

    # Taking up a sequence in its middle

    @property
    def replays(self) -> bool:
        """Whether all that it sent of the positions that it holds can be sent again."""
        return self.is_last or self.trail.whole >= self.cached

    @property
    def held(self) -> int:
        """Positions in the KV that are of tokens which stand: what a session that continues this one can have."""
        return self._flow.held

    def take_over(self, trail: Trail, held: int) -> None:
        """It goes on with what this leg holds of an earlier session: the first `held` positions, and what it sent."""
        self.trail, self.cached = trail, held
        self._flow.take_over(trail, held)

    def take_up(self, joining: Joining) -> None:
        """Its client has said where it begins (H3, H8). Raises MalformedError where it cannot begin so."""
        most = 0 if self.terms.continues is None else self.terms.continues.positions
        check_beginning(joining, continues=most, cached=self.cached, replays=self.replays)
        self._began_at = joining.base
        if not most or self.place is None:
            return
        self._windows.begin_at(joining.base, index=0)
        self._flow.join(joining, self.ends)
        self._flow.processed = joining.base if joining.start == joining.base else 0
        self.claim.begin(joining.start)

    def reroute(self, reroutes: Sequence[Reroute], joining: Joining, known: Known) -> None:
        """Go on by another route (clauses H2 to H5). What lies beyond its base is computed again.

        Args:
            reroutes: all of the session, checked with `terms.open_reroutes`; the last one is new.
            known: the generated tokens from the base on that stand.

        Raises:
            RefusedError: this leg has no part in it, or has not signed up to there.
            MalformedError: it cannot begin where it is told to.
        """
        position, joins = reroutes[-1].position, self.place is None
        route = route_at(self.terms, reroutes, position)
        mine = next((each for each in route if each.leg == self.leg), None)
        if mine is None:
            raise RefusedError("this leg has no part in the new route", code="not-mine")
        held = 0 if joins else min(position, self._flow.holds)
        check_going_on(self.plan, position, joining, known=len(known.tokens), held=held, gone=self.kv.gone)
        if mine is route[-1]:
            self.looking_back.take_up(position, known.tokens, joins=joins)
        index = window_index(self.plan, windows_between(self.plan, self._began_at, position), len(reroutes))
        if joins:
            self._windows.begin_at(position, index=index)
            self._windows.first = mine.span.start == 0
        else:
            self._windows.cut(position, index=index)
            self._flow.processed = position
        self.follow(tuple(reroutes), route)
        again = mine.span.start > 0 and joining.start == 0 < position and not self._began_at
        self._flow.fed = Fed(self.plan) if again else None
        self._flow.join(joining, self.ends, known, joins=joins)
        self.claim.reroute(stints(self.terms, reroutes)[self.leg], mine.span)
        if self.state is JobState.PAUSED:
            self.advance(JobEvent.RESUME)

    @property
    def fed(self) -> bytes | None:
        """Once, after it has caught up with rows that were sent to it again: what they were (clause H4)."""
        if self._flow.fed is None or self._flow.catches_up:
            return None
        found, self._flow.fed = self._flow.fed.hash, None
        return found

    def replay(self) -> Iterator[Onward]:
        """What the next leg needs of what was sent before, in pieces. Raises RefusedError: it is not kept any more."""
        return self._flow.replay()

    @property
    def standing(self) -> tuple[int, int, int, bool]:
        """Positions that came in, were computed, were signed for, and whether all of these can be replayed."""
        signed = self._windows.signed
        replays = self.is_last or self.trail.whole >= signed
        return self._flow.arrived, self._flow.holds, signed, replays
