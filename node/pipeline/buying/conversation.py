"""A client's talk with the legs of one job: prompt, tokens, receipts, draws, vouchers, discharges.

Trust: it believes no provider. Tokens count once they arrive; windows are paid once every leg's receipt for them is in,
signed, and meets its neighbours'. A hostile provider can cost it what is paid ahead: two windows beyond the last one
that every leg has signed for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator

from node.events import DischargeRefused, VoucherSigned
from node.pipeline.buying.job import ClientSide, JobResult, tls_address
from node.pipeline.buying.orders import Orders
from node.pipeline.loop_clock import loop_s
from node.pipeline.vouchers import StoredVoucher
from node.ports import Allowance, Link, LinkRank
from protocol.codec import Message, decode, encode
from protocol.errors import (
    DishonestError,
    JoulemeshError,
    LostPeerError,
    MalformedError,
    PeerError,
    SignatureError,
    UnreachableError,
    of_legs,
)
from protocol.fingerprint import SKETCH_BYTES
from protocol.frames import LEG_FRAMES, Attach, Discharged, Failed, Finish, Prompt, Receipted, Sampled
from protocol.messages import Receipt, SignedDischarge, SignedVoucher, Voucher, check_discharge, sign_voucher
from protocol.patience import patience_with
from protocol.power import JOB_SLACK_US
from protocol.receipt import check_spent, token_bytes
from protocol.tab import Tab, first_voucher

__all__ = ["Conversation"]

MAX_UNREAD = 256
"""Frames of all legs together that wait to be looked at; a leg that sends more is read no faster."""
STEP_S = 1.0
"""A wait is counted in steps of so many seconds, so that a client that stood still itself blames nobody for it."""
WIND_DOWN_S = 5.0
"""Seconds for one frame to be taken, and for the legs' discharges."""
PROMPT_PART = 4096
"""Token ids in one frame."""
FROM_LEG = Allowance(header=16 * 1024, payload=2 * SKETCH_BYTES, rank=LinkRank.BUSY)
"""What a leg may send: the two sketches of a window, or as many tokens as one message holds."""

_Read = Message | Exception


class Conversation:
    """The links of one job. Its methods are called one after the other, `close` last."""

    def __init__(self, side: ClientSide, result: JobResult) -> None:
        self._side = side
        self._result = result
        self._deal = result.deal
        self._fresh: deque[int] = deque()
        """Tokens that came and were not handed out yet."""
        self._begun = False
        self._orders = Orders(side, result, self._take_discharge)
        self._links: dict[int, Link] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._inbox: asyncio.Queue[tuple[int, _Read, bytes]] = asyncio.Queue(MAX_UNREAD)
        self._lost: set[int] = set()
        """Legs that nothing can be sent to."""
        self._silent: set[int] = set()
        """Legs that have said their last."""
        self._said_finish = False
        legs = range(len(self._deal.terms.route))
        self._patience = patience_with(self._deal.terms, [self._deal.offer(leg) for leg in legs])
        self._spoke: set[int] = set()
        """Legs that say that they wait for others, or that it is over: they are not silent themselves."""
        self._waited_s = 0.0
        """For the first token."""

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
        await self._attach_all()
        await self._hear_out()
        await self._finish()
        if self._orders.acceptances:
            lied = isinstance(result.error, DishonestError | SignatureError | MalformedError)
            result.pay = await self._pay(self._tab.last_voucher(honest=not lied))
        await self._collect_discharges()
        self._acquit()

    async def _hear_out(self) -> None:
        """An answer that is whole is signed for to its end, also where its reader has left already."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WIND_DOWN_S):
                while self._tab.ended and not self._tab.complete and self._result.error is None:
                    await self._advance()

    async def close(self) -> None:
        """Close every link. Raises what ended a reader, where nobody had foreseen it."""
        for reader in self._readers:
            reader.cancel()
        ends = await asyncio.gather(*self._readers, return_exceptions=True)
        for link in self._links.values():
            await link.close()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _begin(self) -> None:
        first = await self._keep_and_sign(first_voucher(self._deal.session, self._deal.terms))
        await self._orders.ask_all(first)
        self._result.accepted_s = loop_s()
        self._open_tab()
        await self._attach_all()
        if self._result.failures:
            raise self._result.first_failure
        await self._pay_what_is_due()
        await self._send_prompt()

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
        )

    # Links

    async def _attach_all(self) -> None:
        """Dial every leg that took the order and was not dialled before; those that are not reached count as lost."""
        waiting = sorted(self._orders.acceptances.keys() - self._links.keys() - self._lost)
        await asyncio.gather(*map(self._attach, waiting))

    async def _attach(self, leg: int) -> None:
        offer = self._deal.offer(leg)
        try:
            link = await self._side.connect(tls_address(offer), offer.public_key)
        except (PeerError, UnreachableError) as error:
            self._lost.add(leg)
            why = f"{self._deal.name(leg)} cannot be reached: {error.message}"
            self._result.blame(leg, LostPeerError(why, code=error.code))
            return
        link.allow(lambda: FROM_LEG)
        self._links[leg] = link
        self._readers.append(asyncio.create_task(self._read(leg, link), name=f"leg {leg}"))
        await self._send(leg, Attach(session=self._tab.id))

    async def _read(self, leg: int, link: Link) -> None:
        """Hand on what a leg sends until its link ends, and then why."""
        try:
            while True:
                header, payload = await link.receive()
                frame: Message = decode(header, *LEG_FRAMES)
                await self._inbox.put((leg, frame, payload))
        except PeerError as error:
            await self._inbox.put((leg, error, b""))
        except Exception as error:
            # Nobody has foreseen it: it ends the job, and `close` raises it where the job was over before.
            await self._inbox.put((leg, error, b""))
            raise

    async def _send_all(self, frame: Message) -> None:
        await asyncio.gather(*(self._send(leg, frame) for leg in self._links))

    async def _send(self, leg: int, frame: Message, payload: bytes = b"") -> None:
        """To a leg that is still there; that one is lost is told by its reader, which knows why."""
        if leg in self._lost:
            return
        try:
            async with asyncio.timeout(WIND_DOWN_S):
                await self._links[leg].send(encode(frame), payload)
        except (PeerError, TimeoutError):
            self._lost.add(leg)

    async def _finish(self) -> None:
        """Tell every leg, once, that no more tokens are wanted; each answers with the receipt that it still owes."""
        if not self._said_finish:
            self._said_finish = True
            await self._send_all(Finish(session=self._tab.id, tokens_out=self._tab.generated))

    async def _send_prompt(self) -> None:
        """Prompt tokens go to the first leg at once; it feeds them on as far as each chunk is paid."""
        prompt = self._deal.prompt
        for at in range(0, len(prompt), PROMPT_PART):
            part = prompt[at : at + PROMPT_PART]
            header = Prompt(session=self._tab.id, position=at, length=len(part))
            await self._send(0, header, token_bytes(part))

    # Money

    async def _pay_what_is_due(self) -> None:
        voucher = self._tab.next_voucher()
        if voucher is not None:
            await self._pay(voucher)

    async def _pay(self, voucher: Voucher) -> SignedVoucher:
        signed = await self._keep_and_sign(voucher)
        await self._send_all(signed)
        return signed

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
            await self._step()
            while (draw := self._tab.next_draw()) is not None:
                await asyncio.gather(*(self._send(leg, draw) for leg in range(len(self._deal.terms.route))))
            if self._tab.ended:
                # From here the next voucher is the last one: a leg answers it with its discharge.
                await self._finish()
            else:
                await self._pay_what_is_due()
        except JoulemeshError as error:
            self._result.error = error

    async def _step(self) -> None:
        leg, frame, payload = await self._next_frame()
        with self._blaming(leg):
            self._take(leg, frame, payload)

    async def _next_frame(self) -> tuple[int, _Read, bytes]:
        """The next frame of any leg. Raises LostPeerError where none comes in time, and blames who may be at fault."""
        patience, began = self._patience, bool(self._tab.generated)
        silent_s, most_s = 0.0, patience.token_s if began else patience.prompt_s
        while silent_s < most_s and (began or self._waited_s < patience.first_s):
            step = loop_s()
            try:
                async with asyncio.timeout(STEP_S):  # not wait_for, which may swallow a cancellation on Python 3.11
                    return await self._inbox.get()
            except TimeoutError:
                continue
            finally:
                passed_s = min(STEP_S, loop_s() - step)
                silent_s += passed_s
                self._waited_s += passed_s
        raise self._stalled(
            f"no leg sent anything for {silent_s:.0f} s"
            if silent_s >= most_s
            else f"no token came for {self._waited_s:.0f} s"
        )

    def _stalled(self, what: str) -> LostPeerError:
        """The error of a silence, with all that may be at fault for it blamed; those who spoke are not."""
        suspects = self._suspects()
        legs = tuple(leg for leg in suspects if leg not in self._spoke) or suspects
        error = LostPeerError(f"{what}: {' or '.join(map(self._deal.name, legs))}", code="stalled")
        error.legs = legs
        for leg in legs:
            self._result.blame(leg, error)
        return error

    def _suspects(self) -> tuple[int, ...]:
        """Legs that may be at fault for a silence: the first that has not signed, and the one that should have fed it.

        Within a window of tokens nobody signs, so it may be any of them. Who answers the end of the job was not silent
        after all (`_acquit`).
        """
        legs = tuple(range(len(self._deal.terms.route)))
        if self._tab.generated:
            return legs
        awaited = self._tab.awaited
        first = awaited[0] if awaited else legs[-1]
        return tuple(leg for leg in (first - 1, first) if leg in legs)

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

    def _take(self, leg: int, frame: _Read, payload: bytes) -> None:
        """Raises what ends the job."""
        named = self._deal.name(leg)
        match frame:
            case Sampled():
                self._take_tokens(leg, frame)
            case Receipted():
                self._check_spent(leg, frame.signed.receipt)
                self._tab.take_receipt(leg, frame.signed, payload)
            case Discharged():
                self._take_discharge(leg, frame.signed)
            case Failed():  # it has ended the session, and says what it claims
                self._lost.add(leg)
                if frame.code == "idle":
                    self._spoke.add(leg)
                    raise self._stalled(f"{named} gave up: {frame.reason}")
                raise LostPeerError(f"{named} gave up: {frame.reason}", code=frame.code)
            case LostPeerError():
                self._end_of(leg)
                raise self._gone(leg, frame)
            case PeerError():
                self._end_of(leg)
                raise MalformedError(f"{named} sent what cannot be read: {frame.message}")
            case Exception():
                raise frame

    def _check_spent(self, leg: int, receipt: Receipt) -> None:
        began_s = self._result.funded_s or self._result.started_s
        since_us = int((loop_s() - began_s) * 1_000_000)
        check_spent(receipt, self._deal.offer(leg).hardware, since_us + JOB_SLACK_US)

    def _take_tokens(self, leg: int, frame: Sampled) -> None:
        if leg != len(self._deal.terms.route) - 1:
            raise DishonestError(f"{self._deal.name(leg)} sent tokens; only the last leg draws them")
        for token in frame.tokens:
            if token.session == self._tab.id:
                self._tab.take_token(token)
                self._result.token_times_s.append(loop_s())
                self._fresh.append(token.token)

    # The end

    def _end_of(self, leg: int) -> None:
        self._lost.add(leg)
        self._silent.add(leg)

    def _gone(self, leg: int, error: LostPeerError) -> LostPeerError:
        return LostPeerError(f"{self._deal.name(leg)} is gone: {error.message}", code="provider-lost")

    async def _collect_discharges(self) -> None:
        """Discharges of every leg that gives one in time; what else still comes in is of no use any more."""
        deadline = loop_s() + WIND_DOWN_S
        wanted = set(self._links) - self._silent  # also of those that are lost: their readers have yet to say how
        while wanted - set(self._result.discharges):
            try:
                async with asyncio.timeout_at(deadline):
                    leg, frame, _ = await self._inbox.get()
            except TimeoutError:
                break
            match frame:
                case Discharged():
                    if not self._take_discharge(leg, frame.signed):
                        wanted.discard(leg)
                case Failed():
                    self._spoke.add(leg)
                case Exception():
                    wanted.discard(leg)
                    self._blame(leg, frame)

    def _acquit(self) -> None:
        """Of a silence that may be several legs' fault those are acquitted that have spoken at the end."""
        result = self._result
        if result.error is None or result.error.code != "stalled":
            return
        spoke = self._spoke | result.discharges.keys()
        silent = {leg: error for leg, error in result.failures.items() if leg not in spoke}
        result.failures = silent or result.failures

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
