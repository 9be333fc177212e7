"""A client's talk with the legs of one job: prompt, tokens, receipts, draws, vouchers, discharges.

Trust: it believes no provider. Tokens count once they arrive; windows are paid once every leg's receipt for them is in,
signed, and meets its neighbours'. A hostile provider can cost it what is paid ahead: two windows beyond the last one
that every leg has signed for.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Iterator

from node.events import DischargeRefused, VoucherSigned
from node.pipeline.buying.healing import Healing
from node.pipeline.buying.job import ClientSide, JobResult
from node.pipeline.buying.leg_links import LegLinks, Word
from node.pipeline.buying.orders import Orders
from node.pipeline.buying.silence import Silence
from node.pipeline.loop_clock import loop_s
from node.pipeline.vouchers import StoredVoucher
from protocol.energy.power import JOB_SLACK_US
from protocol.errors import (
    DishonestError,
    JoulemeshError,
    LostPeerError,
    MalformedError,
    PeerError,
    SignatureError,
    of_legs,
)
from protocol.receipts.double_receipt import SaidOnce
from protocol.session.frames import Discharged, Failed, Finish, Paused, Prompt, Receipted, Replayed, Sampled, Stands
from protocol.session.logprobs import said_bytes
from protocol.session.messages import (
    Receipt,
    SignedDischarge,
    SignedReceipt,
    SignedVoucher,
    Voucher,
    check_discharge,
    sign_voucher,
)
from protocol.session.receipt import check_spent, token_bytes
from protocol.session.tab import Tab, first_voucher

__all__ = ["Conversation"]

WIND_DOWN_S = 5.0
"""Seconds for what is left of the answer, and as many for the legs' discharges."""
PROMPT_PART = 4096
"""Token ids in one frame."""
PACE_TOKENS = 8
"""So many of the newest say how fast tokens come."""


class Conversation:
    """What is said about one job. Its methods are called one after the other, `close` last."""

    def __init__(self, side: ClientSide, result: JobResult) -> None:
        self._side = side
        self._result = result
        self._deal = result.deal
        self._fresh: deque[int] = deque()
        """Tokens that came and were not handed out yet."""
        self._begun = False
        self._first: SignedVoucher | None = None
        self._orders = Orders(side, result, self._take_discharge)
        self._links = LegLinks(side, result)
        self._silence = Silence(result, self._links)
        self._healing = Healing(side, result, self._links, self._take_blaming, self._pay_what_is_due)
        self._said_finish = False
        self._said_once = SaidOnce(side.settlement.domain, result.deal.session)

    @property
    def _tab(self) -> Tab:
        return self._result.tab

    async def next_token(self) -> int | None:
        """The next token of the answer; None once it is complete and every leg has signed for all of it.

        Raises JoulemeshError, which ends the job; tokens that came before it are handed out first.
        """
        if not self._begun:
            self._begun = True
            await self._begin()
        while not self._fresh:
            if self._tab.complete:
                return None
            if self._result.error is not None:
                raise self._result.error
            await self._advance()
        return self._fresh.popleft()

    async def wind_down(self) -> None:
        """Say that it is over, pay what came, and collect the legs' discharges; bounded."""
        result = self._result
        await self._orders.end()
        if self._orders.acceptances and not self._links:
            self._open_tab()
        self._take_late_acceptances()
        await self._links.attach_all(self._orders.acceptances)
        await self._hear_out()
        await self._finish()
        if self._orders.acceptances:
            lied = isinstance(result.error, DishonestError | SignatureError | MalformedError)
            result.pay = await self._keep_and_sign(self._tab.last_voucher(honest=not lied))
            await self._links.send_all(result.pay)
        await self._collect_discharges()
        self._silence.acquit()

    async def _hear_out(self) -> None:
        """An answer that is whole is signed for to its end, also where its reader has left already."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WIND_DOWN_S):
                while self._tab.ended and not self._tab.complete and self._result.error is None:
                    await self._advance()

    async def close(self) -> None:
        """Close every link. Raises what ended a reader, where nobody had foreseen it."""
        await self._links.close()

    async def prepare(self) -> None:
        """Write the session down, with the voucher that goes with its orders: before it is opened, and at one go."""
        self._first = await self._keep_and_sign(first_voucher(self._deal.session, self._deal.terms))

    async def _begin(self) -> None:
        if self._first is None:
            raise RuntimeError("a conversation is prepared before it begins")
        await self._orders.ask_all(self._first)
        self._result.accepted_s = loop_s()
        self._open_tab()
        await self._links.attach_all(self._orders.acceptances)
        if self._result.failures:
            raise self._result.first_failure
        await self._send_prompt()  # its first window is paid by the orders
        await self._pay_what_is_due()

    def _open_tab(self) -> None:
        deal = self._deal
        self._result.tab = Tab(
            deal.session,
            deal.terms,
            self._side.settlement.domain,
            acceptances=self._orders.acceptances,
            chain=deal.chain,
            prompt=deal.prompt,
            stop_tokens=deal.stop_tokens,
            vocabulary=deal.vocabulary,
        )

    def _take_late_acceptances(self) -> None:
        for leg, acceptance in self._orders.acceptances.items():
            self._tab.accept(leg, acceptance)

    async def _finish(self) -> None:
        """Tell every leg, once, that no more tokens are wanted; each answers with the receipt that it still owes."""
        if not self._said_finish:
            self._said_finish = True
            await self._links.send_all(Finish(session=self._tab.id, tokens_out=self._tab.generated))

    async def _send_prompt(self) -> None:
        """Prompt tokens that the first leg does not hold go to it at once; it feeds them on as each chunk is paid."""
        prompt = self._deal.prompt
        for at in range(self._tab.joinings[0].start, len(prompt), PROMPT_PART):
            part = prompt[at : at + PROMPT_PART]
            header = Prompt(session=self._tab.id, position=at, length=len(part))
            await self._links.send(0, header, token_bytes(part))

    # Money

    async def _pay_what_is_due(self) -> None:
        voucher = self._tab.next_voucher(self._under_way())
        if voucher is not None:
            signed = await self._keep_and_sign(voucher)
            # A standby has no use for it: it would not know of which route it speaks.
            await asyncio.gather(*(self._links.send(leg, signed) for leg in self._serving))

    def _under_way(self) -> int | None:
        """Tokens that come while a voucher is on its way to the farthest leg, at the pace of the newest ones; None
        where that was not measured.
        """
        measured, times = self._deal.measured, self._result.token_times_s[-PACE_TOKENS:]
        trips = [us for leg in self._serving if leg < len(measured) and (us := measured[leg]) is not None]
        if len(trips) < len(self._serving) or len(times) < 2 or times[-1] <= times[0]:
            return None
        return math.ceil(max(trips) / 1_000_000 * (len(times) - 1) / (times[-1] - times[0]))

    @property
    def _serving(self) -> list[int]:
        """Legs of the route, first block to last."""
        return [each.leg for each in self._tab.book.route]

    async def _keep_and_sign(self, voucher: Voucher) -> SignedVoucher:
        """In the journal before it is sent: what was promised is known after a crash."""
        side = self._side
        signed = sign_voucher(side.settlement.domain, voucher, side.key)
        stored = StoredVoucher(
            session=self._deal.session,
            opened_at=side.clock(),
            leg=None,
            pay=signed,
            discharges=tuple(self._result.discharges.values()),
        )
        await side.journal.put(self._tab.id, stored)
        side.events(
            VoucherSigned(
                session=self._tab.id,
                tokens_in=voucher.tokens_in,
                tokens_out=voucher.tokens_out,
                amount_micro=sum(voucher.amounts),
            )
        )
        return signed

    # What comes

    async def _advance(self) -> None:
        """Take in one frame, and answer it. What ends the job is kept: tokens before it are still handed out."""
        try:
            try:
                await self._step()
            except LostPeerError as error:
                self._take_late_acceptances()
                if await self._healing.heal(error):
                    self._silence.restart()
            await self._answer()
        except JoulemeshError as error:
            self._result.error = error

    async def _answer(self) -> None:
        while (due := self._tab.next_draw()) is not None:
            draw, signers = due
            await asyncio.gather(*(self._links.send(leg, draw) for leg in self._serving if leg in signers))
        if self._tab.ended:
            # From here the next voucher is the last one: a leg answers it with its discharge.
            await self._finish()
        else:
            await self._pay_what_is_due()

    async def _step(self) -> None:
        self._take_blaming(*await self._silence.next_word(replaceable=self._healing.replaceable))

    def _take_blaming(self, leg: int, frame: Word, payload: bytes) -> None:
        with self._blaming(leg):
            self._take(leg, frame, payload)

    @contextlib.contextmanager
    def _blaming(self, *legs: int) -> Iterator[None]:
        """What is raised within is the fault of these legs, unless it names others; is taken down as such."""
        try:
            with of_legs(*legs):
                yield
        except PeerError as error:
            for leg in error.legs:
                self._result.blame(leg, error)
            raise

    def _take(self, leg: int, frame: Word, payload: bytes) -> None:
        """Raises what ends the job, or stops it until it is healed. A leg that does not serve has little to say."""
        if isinstance(frame, Receipted):
            self._hold_to(leg, frame.signed)
        if leg not in self._serving and not isinstance(frame, Discharged | Failed | Exception):
            return
        match frame:
            case Sampled():
                self._take_tokens(leg, frame, payload)
            case Receipted():
                self._check_spent(leg, frame.signed.receipt)
                self._tab.take_receipt(leg, frame.signed, payload)
            case Discharged():
                self._take_discharge(leg, frame.signed)
            case Stands():
                self._healing.takes_stands(leg, frame)
            case Paused():
                self._healing.takes_paused(leg, frame)
            case Replayed():
                self._check_fed(leg, frame)
            case _:
                self._take_end(leg, frame)

    def _hold_to(self, leg: int, signed: SignedReceipt) -> None:
        """What a leg has signed before; two that contradict each other are kept. Raises DishonestError."""
        before = self._said_once.take(leg, signed)
        if before is None:
            return
        self._result.twice = self._result.twice or (before, signed)
        if leg in self._serving:
            raise DishonestError(f"leg {leg} has signed two receipts for one window, and they say different things")

    def _take_end(self, leg: int, frame: Word) -> None:
        """A leg has ended the session, or its link has. Raises what that comes to, where it has a part in the route."""
        named = self._deal.name(leg)
        if leg not in self._serving and isinstance(frame, Failed | PeerError):
            self._healing.lost_standby(leg, frame)
            return
        match frame:
            case Failed():  # it has ended the session, and says what it claims
                self._links.give_up(leg)
                if frame.code == "idle":
                    self._silence.spoke(leg)
                    raise self._silence.stalled(f"{named} gave up: {frame.reason}")
                raise LostPeerError(f"{named} gave up: {frame.reason}", code=frame.code)
            case LostPeerError():
                self._links.has_ended(leg)
                raise self._gone(leg, frame)
            case PeerError():
                self._links.has_ended(leg)
                raise MalformedError(f"{named} sent what cannot be read: {frame.message}")
            case Exception():
                raise frame

    def _check_spent(self, leg: int, receipt: Receipt) -> None:
        began_s = self._result.funded_s or self._result.started_s
        since_us = int((loop_s() - began_s) * 1_000_000)
        check_spent(receipt, self._deal.offer(leg).hardware, since_us + JOB_SLACK_US)

    def _check_fed(self, leg: int, frame: Replayed) -> None:
        """What a leg was fed again is what the one before it has signed for, or one of the two lies."""
        route = self._serving
        if leg == route[0]:
            raise MalformedError(f"{self._deal.name(leg)} was fed by nobody, and says what it was fed")
        before = route[route.index(leg) - 1]
        signed_for = self._tab.fed_hash(leg) if self._healing.sends_what_was_signed(before) else None
        if signed_for is not None and frame.fed != signed_for:
            with self._blaming(before, leg):
                raise DishonestError(f"{self._deal.name(leg)} was fed other rows than were signed for before")

    def _take_tokens(self, leg: int, frame: Sampled, payload: bytes) -> None:
        size = said_bytes(self._deal.terms.sampling.logprobs)
        if len(payload) != size * len(frame.tokens):
            raise MalformedError(f"{self._deal.name(leg)} did not send what was asked for of each token")
        if leg != self._serving[-1]:
            raise DishonestError(f"{self._deal.name(leg)} sent tokens; only the last leg draws them")
        brought = self._tab.generated
        for at, token in enumerate(frame.tokens):
            before = self._tab.generated
            if token.session == self._tab.id:
                self._tab.take_token(token, payload[size * at : size * (at + 1)])
            if self._tab.generated > before:  # not one of an older route
                self._result.token_times_s.append(loop_s())
                self._fresh.append(token.token)
        self._result.passes += self._tab.generated > brought

    # The end

    def _gone(self, leg: int, error: LostPeerError) -> LostPeerError:
        return LostPeerError(f"{self._deal.name(leg)} is gone: {error.message}", code="provider-lost")

    async def _collect_discharges(self) -> None:
        """Discharges of every leg that gives one in time; what else still comes in is of no use any more."""
        deadline = loop_s() + WIND_DOWN_S
        wanted = self._links.speaking  # also of those that are lost: their readers have yet to say how
        while wanted - set(self._result.discharges):
            try:
                async with asyncio.timeout_at(deadline):
                    leg, frame, _ = await self._links.receive()
            except TimeoutError:
                break
            match frame:
                case Discharged():
                    if not self._take_discharge(leg, frame.signed):
                        wanted.discard(leg)
                case Failed():
                    self._silence.spoke(leg)
                case Exception():
                    wanted.discard(leg)
                    self._blame(leg, frame)

    def _blame(self, leg: int, frame: Exception) -> None:
        """A leg may have told of its neighbour's end before that end was seen here: name the one that is gone."""
        error = self._result.error
        if isinstance(frame, LostPeerError) and error is not None and error.code == "neighbour-lost":
            self._result.error = self._gone(leg, frame)
            self._result.failures = {leg: self._result.error}

    def _take_discharge(self, leg: int, signed: SignedDischarge) -> bool:
        """Whether it is one. Without it the leg's reserve stays until the grace ends; all else goes on as it should."""
        try:
            check_discharge(self._side.settlement.domain, self._deal.session, signed)
        except PeerError:
            valid = False
        else:
            valid = signed.discharge.leg == leg
        if valid:
            self._result.discharges[leg] = signed
        else:
            self._side.events(DischargeRefused(session=self._tab.id, leg=leg))
        return valid
