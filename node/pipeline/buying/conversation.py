"""A client's talk with the legs of one job: orders, prompt chunks, tokens, receipts, vouchers, discharges.

Trust: it believes no provider. Tokens count once they arrive; windows are paid once every leg's receipt for them is in,
signed, and meets its neighbours'. A hostile provider can cost it one window of paid, unserved tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from node.events import DischargeRefused, Events, VoucherSigned
from node.pipeline.tab import Tab
from node.pipeline.vouchers import StoredVoucher, VoucherStore
from node.ports import Clock, Connect, Link, Proven, Requests, Settlement
from protocol.codec import Message, decode, encode
from protocol.eip712 import recover_typed, sign_typed
from protocol.errors import (
    DishonestError,
    JoulemeshError,
    LostPeerError,
    MalformedError,
    PeerError,
    RefusedError,
    SignatureError,
    UnreachableError,
)
from protocol.frames import LEG_FRAMES, Attach, Discharged, Failed, Finish, Pay, Prompt, Receipted, Sampled
from protocol.ids import keccak256
from protocol.messages import Discharge, Voucher
from protocol.metering import leg_amount
from protocol.names import ORDER_PROTOCOL
from protocol.order import Acceptance, Hop, JobOrder, Refusal
from protocol.receipt import token_bytes
from protocol.signing import SigningKey, open_envelope

__all__ = ["ClientSide", "Conversation", "JobResult", "loop_time"]

MAX_UNREAD = 256
"""Frames of all legs together that wait to be looked at; a leg that sends more is read no faster."""
STALL_S = 30.0
"""Seconds without a frame from any leg after which a job is given up."""
WIND_DOWN_S = 5.0
"""Seconds that the legs have for their last receipts, and again for their discharges."""


@dataclass(slots=True)
class JobResult:
    """Everything that is left of a job: what the receipt bundle is made from."""

    order: JobOrder
    sealed_orders: list[bytes]
    tab: Tab
    pay: Pay | None = None
    opened: Proven | None = None
    settled: Proven | None = None
    closed: Proven | None = None
    error: JoulemeshError | None = None
    """Why the answer is not complete; None when it is."""
    settle_error: JoulemeshError | None = None
    """Why the session is not settled or closed yet; None when it is."""
    times: list[float] = field(default_factory=list)
    """Seconds on the loop's clock: start, funded, accepted, then each token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSide:
    """One key as a client, and what it acts through."""

    key: SigningKey
    settlement: Settlement
    requests: Requests
    connect: Connect
    journal: VoucherStore
    """Keeps every open session, so that a later run can claim what a crashed one left reserved."""
    peer_id_of: Callable[[bytes], str]
    """libp2p id of a public key, for requests."""
    clock: Clock
    events: Events


class Conversation:
    """The links of one running job. Belongs to the task that runs it."""

    def __init__(self, side: ClientSide, result: JobResult, on_token: Callable[[int], None]) -> None:
        self._side = side
        self._result = result
        self._tab = result.tab
        self._on_token = on_token
        self._links: dict[int, Link] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._inbox: asyncio.Queue[tuple[int, Message | PeerError, bytes]] = asyncio.Queue(MAX_UNREAD)
        self._accepted: list[int] = []
        self._discharges: dict[int, bytes] = {}
        self._lost: set[int] = set()
        """Legs that nothing can be sent to."""
        self._silent: set[int] = set()
        """Legs that have said their last."""
        self._said_finish = False

    async def talk(self) -> None:
        """From the orders to the last token and its receipts."""
        await self._order_all()
        self._result.times.append(loop_time())
        await self._attach_all()
        await self._pay(self._tab.next_voucher())
        await self._send_prompt()
        while not self._tab.complete:
            await self._step(STALL_S)
            if self._tab.ended:
                # From here the next voucher is the last one: a leg answers it with its discharge.
                await self._finish()
            else:
                await self._pay(self._tab.next_voucher())

    async def wind_down(self) -> dict[int, bytes]:
        """Say that it is over, pay what came, and collect the legs' discharges: signatures by leg."""
        result, tab = self._result, self._tab
        if not self._links and self._accepted:
            await self._attach_all(tolerant=True)
        await self._finish()
        lied = isinstance(result.error, DishonestError | SignatureError | MalformedError)
        await self._pay(tab.last_voucher(honest=not lied))
        return await self._collect_discharges()

    async def close(self) -> None:
        """Close every link."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        for link in self._links.values():
            await link.close()

    # Orders

    async def _order_all(self) -> None:
        hops = self._result.order.hops
        answers = await asyncio.gather(*(self._order(leg) for leg in range(len(hops))), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    async def _order(self, leg: int) -> None:
        side, sealed = self._side, self._result.sealed_orders[leg]
        hop = self._result.order.hops[leg]
        peer = side.peer_id_of(hop.public_key)
        try:
            reply = await side.requests.request(peer, ORDER_PROTOCOL, sealed, timeout_s=20.0)
        except RefusedError as error:
            raise RefusedError(f"leg {leg} (blocks {hop.span}) refused: {error.message}", code=error.code) from error
        except (PeerError, UnreachableError) as error:
            raise _of_leg(leg, hop, "cannot be ordered from", error) from error
        answer, signer = open_envelope(reply, Acceptance, Refusal)
        provider = self._result.order.session.legs[leg].provider
        if signer != provider or getattr(answer, "order", b"") != keccak256(sealed):
            raise DishonestError(f"the answer of leg {leg} is not its provider's, or to another order")
        if isinstance(answer, Refusal):
            if answer.discharge is not None:
                self._take_discharge(leg, answer.discharge, (0, 0))
            raise RefusedError(f"leg {leg} (blocks {hop.span}) refused: {answer.reason}", code=answer.code)
        self._accepted.append(leg)

    # Links

    async def _attach_all(self, *, tolerant: bool = False) -> None:
        hops = self._result.order.hops
        legs = self._accepted
        links = await asyncio.gather(
            *(self._side.connect(hops[leg].data_address, hops[leg].public_key) for leg in legs),
            return_exceptions=True,
        )
        failures: list[BaseException] = []
        for leg, link in zip(legs, links, strict=True):
            if isinstance(link, BaseException):
                failures.append(_of_leg(leg, hops[leg], "cannot be reached", link))
                self._lost.add(leg)
                continue
            self._links[leg] = link
            self._readers.append(asyncio.create_task(self._read(leg, link), name=f"leg {leg}"))
        # Also where another leg is lost: what follows is the end of the job, and that begins with an attached client.
        await self._send_all(Attach(session=self._tab.session))
        if failures and not tolerant:
            raise failures[0]

    async def _read(self, leg: int, link: Link) -> None:
        try:
            while True:
                header, payload = await link.receive()
                frame: Message = decode(header, *LEG_FRAMES)
                await self._inbox.put((leg, frame, payload))
        except PeerError as error:
            await self._inbox.put((leg, error, b""))

    async def _send_all(self, frame: Message) -> None:
        for leg in self._links:
            await self._send(leg, frame)

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
            await self._send_all(Finish(session=self._tab.session, tokens_out=self._tab.generated))

    async def _send_prompt(self) -> None:
        """Prompt tokens go to the first leg at once; it feeds them on as far as each chunk is paid."""
        prompt = self._tab.tokens[: self._tab.plan.prompt]
        for at in range(0, len(prompt), 4096):
            part = prompt[at : at + 4096]
            header = Prompt(session=self._tab.session, position=at, length=len(part))
            await self._send(0, header, token_bytes(part))

    async def _pay(self, voucher: Voucher | None) -> None:
        if voucher is None:
            return
        side = self._side
        pay = Pay(voucher=voucher, signature=sign_typed(side.settlement.domain, voucher, side.key))
        # In the journal before it is sent: what was promised is known after a crash.
        stored = StoredVoucher(session=self._tab.terms, opened_at=side.clock(), pay=pay)
        await side.journal.put(self._tab.session, stored)
        self._result.pay = pay
        counts = (voucher.tokens_in, voucher.tokens_out)
        amount = sum(leg_amount(leg, *counts) for leg in self._tab.terms.legs)
        side.events(
            VoucherSigned(session=self._tab.session, tokens_in=counts[0], tokens_out=counts[1], amount_micro=amount)
        )
        await self._send_all(pay)

    async def _step(self, timeout_s: float) -> None:
        """Take in one frame. Raises what ends the job."""
        try:
            async with asyncio.timeout(timeout_s):  # not wait_for, which may swallow a cancellation on Python 3.11
                leg, frame, payload = await self._inbox.get()
        except TimeoutError:
            raise LostPeerError(f"no leg sent anything for {timeout_s:.0f} s", code="stalled") from None
        hop = self._result.order.hops[leg]
        match frame:
            case Sampled():
                if leg != len(self._result.order.hops) - 1:
                    raise DishonestError(f"leg {leg} sent tokens; only the last one draws them")
                for token in frame.tokens:
                    if token.session == self._tab.session:
                        self._tab.take_token(token)
                        self._result.times.append(loop_time())
                        self._on_token(token.token)
            case Receipted():
                self._tab.take_receipt(leg, frame, payload)
            case Failed():
                self._end_of(leg)  # it has ended the session, and answers nothing more
                raise LostPeerError(f"leg {leg} (blocks {hop.span}) gave up: {frame.reason}", code=frame.code)
            case LostPeerError():
                self._end_of(leg)
                raise _gone(leg, hop, frame)
            case PeerError():
                self._end_of(leg)
                raise MalformedError(f"leg {leg} (blocks {hop.span}) sent what cannot be read: {frame.message}")

    # The end

    def _end_of(self, leg: int) -> None:
        self._lost.add(leg)
        self._silent.add(leg)

    async def _collect_discharges(self) -> dict[int, bytes]:
        """Discharges of every leg that gives one in time; what else still comes in is of no use any more."""
        deadline = loop_time() + WIND_DOWN_S
        wanted = set(self._links) - self._silent  # also of those that are lost: their readers have yet to say how
        while wanted - set(self._discharges):
            try:
                async with asyncio.timeout_at(deadline):
                    leg, frame, _ = await self._inbox.get()
            except TimeoutError:
                break
            match frame:
                case Discharged():
                    if not self._take_discharge(leg, frame.signature, self._tab.paid):
                        wanted.discard(leg)
                case PeerError() | Failed():
                    wanted.discard(leg)
                    self._blame(leg, frame)
        return self._discharges

    def _blame(self, leg: int, frame: Message | PeerError) -> None:
        """A leg may have told of its neighbour's end before that end was seen here: name the one that is gone."""
        error = self._result.error
        if isinstance(frame, LostPeerError) and error is not None and error.code == "neighbour-lost":
            self._result.error = _gone(leg, self._result.order.hops[leg], frame)

    def _take_discharge(self, leg: int, signature: bytes, counts: tuple[int, int]) -> bool:
        """Whether it is one. Without it the session stays open until its grace ends; all else goes on as it should."""
        word = Discharge(session=self._tab.session, tokens_in=counts[0], tokens_out=counts[1])
        try:
            valid = recover_typed(self._side.settlement.domain, word, signature) == self._tab.terms.legs[leg].provider
        except SignatureError:
            valid = False
        if valid:
            self._discharges[leg] = signature
        else:
            self._side.events(DischargeRefused(session=self._tab.session, leg=leg))
        return valid


def _gone(leg: int, hop: Hop, error: LostPeerError) -> LostPeerError:
    return LostPeerError(f"leg {leg} (blocks {hop.span}) is gone: {error.message}", code="provider-lost")


def _of_leg(leg: int, hop: Hop, what: str, error: BaseException) -> BaseException:
    """The same error with the leg in its message, where it is one of ours."""
    if not isinstance(error, JoulemeshError):
        return error
    return LostPeerError(f"leg {leg} (blocks {hop.span}) {what}: {error.message}", code=error.code)


def loop_time() -> float:
    """Seconds on the running loop's clock."""
    return asyncio.get_running_loop().time()
