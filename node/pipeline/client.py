"""A client's side of one job: orders, prompt chunks, tokens, receipts, vouchers, and the end on the ledger.

Trust: it believes no provider. Tokens count once they arrive; windows are paid once every leg's receipt for them is in,
signed, and meets its neighbours'. A hostile provider can cost it one window of paid, unserved tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from node.pipeline.tab import Tab
from node.pipeline.vouchers import StoredVoucher, VoucherStore
from node.ports import Clock, Connect, Events, Link, Proven, Requests, Settlement
from protocol.codec import Message, decode, encode
from protocol.eip712 import recover_typed, sign_typed
from protocol.errors import (
    DishonestError,
    JoulemeshError,
    LostPeerError,
    PeerError,
    RefusedError,
    RuleError,
    SignatureError,
)
from protocol.frames import LEG_FRAMES, Attach, Discharged, Failed, Finish, Pay, Prompt, Receipted, Sampled
from protocol.ids import ModelManifest, keccak256
from protocol.messages import Close, Discharge, Open, Settle, Voucher
from protocol.order import Acceptance, JobOrder, Refusal
from protocol.receipt import token_bytes
from protocol.signing import SigningKey, open_envelope, seal

__all__ = ["ORDER_PROTOCOL", "JobClient", "JobResult"]

ORDER_PROTOCOL = "/joulemesh/order/1"
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


class JobClient:
    """Runs jobs for one key.

    Args:
        journal: keeps every open session, so that a later run can claim what a crashed one left reserved.
        peer_id_of: libp2p id of a public key, for requests.
    """

    def __init__(
        self,
        key: SigningKey,
        settlement: Settlement,
        requests: Requests,
        connect: Connect,
        journal: VoucherStore,
        *,
        peer_id_of: Callable[[bytes], str],
        clock: Clock,
        events: Events,
    ) -> None:
        self._key = key
        self._settlement = settlement
        self._requests = requests
        self._connect = connect
        self._journal = journal
        self._peer_id_of = peer_id_of
        self._clock = clock
        self._events = events

    async def run(
        self, order: JobOrder, manifest: ModelManifest, prompt: Sequence[int], on_token: Callable[[int], None]
    ) -> JobResult:
        """Run one job to its end on the ledger; `order` is the one for leg 0.

        A cancelled run still pays for what came and takes the rest back. Errors of the job itself are in the result;
        only what happens before money is reserved is raised (RuleError, UnreachableError).
        """
        tab = Tab(order.session, self._settlement.domain, order.plan, prompt, manifest.stop_tokens)
        orders = [seal(order.replace(leg=leg), self._key) for leg in range(len(order.hops))]
        result = JobResult(order, orders, tab, times=[_now()])
        stored = StoredVoucher(session=order.session, opened_at=self._clock(), pay=None)
        await self._journal.put(tab.session, stored)
        try:
            result.opened = await self._settlement.submit(Open(session=order.session), self._key)
        except RuleError:
            # Refused for certain. After any other error the ledger may hold the session: the journal keeps it.
            await self._journal.remove(tab.session)
            raise
        self._events("session open", {"session": tab.session.hex(), "entry": result.opened.index})
        result.times.append(_now())
        conversation = _Conversation(self, result, on_token)
        try:
            await conversation.talk()
        except JoulemeshError as error:
            result.error = error
        except asyncio.CancelledError:
            result.error = LostPeerError("stopped before the answer was complete", code="cancelled")
        await asyncio.shield(self._end(conversation, result))
        return result

    async def _end(self, conversation: _Conversation, result: JobResult) -> None:
        try:
            discharges = await conversation.wind_down()
            await self._settle(result, discharges)
        except JoulemeshError as error:
            result.settle_error = error
        finally:
            await conversation.close()

    async def _settle(self, result: JobResult, discharges: dict[int, bytes]) -> None:
        session, legs = result.tab.session, result.order.session.legs
        if result.pay is not None and any(result.tab.paid):
            result.settled = await self._settle_voucher(result.pay)
            self._events("settled", {"session": session.hex(), "entry": result.settled.index})
        if len(discharges) == len(legs):
            close = Close(session=session, discharges=tuple(discharges[leg] for leg in range(len(legs))))
            result.closed = await self._settlement.submit(close, self._key)
            self._events("closed", {"session": session.hex(), "entry": result.closed.index})
            await self._journal.remove(session)

    async def _settle_voucher(self, pay: Pay) -> Proven:
        """Settle the last voucher, unless a provider was quicker; the entry that did."""
        try:
            return await self._settlement.submit(Settle(voucher=pay.voucher, signature=pay.signature), self._key)
        except RuleError as error:
            found = None if error.code != "settled" else await self._settlement.session(pay.voucher.session)
            if found is None:
                raise
            return found[1]

    async def reclaim(self, grace_s: int) -> int:
        """Close sessions whose grace has ended, left open by runs that could not; how many were closed."""
        closed = 0
        for session, stored in (await self._journal.all()).items():
            found = await self._settlement.session(session)
            if found is None and stored.session.expiry + grace_s > self._clock():
                continue
            if found is not None and not found[1].entry.sessions[0].closed:
                if stored.session.expiry + grace_s >= self._clock():
                    continue
                await self._settlement.submit(Close(session=session, discharges=()), self._key)
                closed += 1
            await self._journal.remove(session)
        return closed


class _Conversation:
    """The links of one running job. Belongs to the task that runs it."""

    def __init__(self, client: JobClient, result: JobResult, on_token: Callable[[int], None]) -> None:
        self._client = client
        self._result = result
        self._tab = result.tab
        self._on_token = on_token
        self._links: dict[int, Link] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._inbox: asyncio.Queue[tuple[int, Message | PeerError, bytes]] = asyncio.Queue()
        self._accepted: list[int] = []
        self._discharges: dict[int, bytes] = {}
        self._lost: set[int] = set()
        self._said_finish = False

    async def talk(self) -> None:
        """From the orders to the last token and its receipts."""
        await self._order_all()
        self._result.times.append(_now())
        await self._attach_all()
        await self._pay(self._tab.next_voucher())
        await self._send_prompt()
        while not self._tab.complete:
            await self._step(STALL_S)
            if self._tab.ended:
                await self._finish()
            await self._pay(self._tab.next_voucher())

    async def wind_down(self) -> dict[int, bytes]:
        """Say that it is over, pay what came, and collect the legs' discharges: signatures by leg."""
        result, tab = self._result, self._tab
        if not self._links and self._accepted:
            await self._attach_all(tolerant=True)
        await self._finish()
        lied = isinstance(result.error, DishonestError | SignatureError)
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
        self._accepted = [leg for leg, answer in enumerate(answers) if answer is None]
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    async def _order(self, leg: int) -> None:
        client, sealed = self._client, self._result.sealed_orders[leg]
        hop = self._result.order.hops[leg]
        peer = client._peer_id_of(hop.public_key)
        reply = await client._requests.request(peer, ORDER_PROTOCOL, sealed, timeout_s=20.0)
        answer, signer = open_envelope(reply, Acceptance, Refusal)
        provider = self._result.order.session.legs[leg].provider
        if signer != provider or getattr(answer, "order", b"") != keccak256(sealed):
            raise DishonestError(f"the answer of leg {leg} is not its provider's, or to another order")
        if isinstance(answer, Refusal):
            if answer.discharge is not None:
                self._take_discharge(leg, answer.discharge, (0, 0))
            raise RefusedError(f"leg {leg} (blocks {hop.span}) refused: {answer.reason}", code=answer.code)

    # Links

    async def _attach_all(self, *, tolerant: bool = False) -> None:
        hops = self._result.order.hops
        legs = self._accepted
        links = await asyncio.gather(
            *(self._client._connect(hops[leg].data_address, hops[leg].public_key) for leg in legs),
            return_exceptions=True,
        )
        failure: BaseException | None = None
        for leg, link in zip(legs, links, strict=True):
            if isinstance(link, BaseException):
                failure = failure or link
                self._lost.add(leg)
                continue
            self._links[leg] = link
            self._readers.append(asyncio.create_task(self._read(leg, link), name=f"leg {leg}"))
        if failure is not None and not tolerant:
            raise failure
        await self._send_all(Attach(session=self._tab.session))

    async def _read(self, leg: int, link: Link) -> None:
        try:
            while True:
                header, payload = await link.receive()
                frame: Message = decode(header, *LEG_FRAMES)
                self._inbox.put_nowait((leg, frame, payload))
        except PeerError as error:
            self._inbox.put_nowait((leg, error, b""))

    async def _send_all(self, frame: Message, payload: bytes = b"") -> None:
        data = encode(frame)
        for leg, link in self._links.items():
            if leg in self._lost:
                continue
            try:
                async with asyncio.timeout(WIND_DOWN_S):
                    await link.send(data, payload)
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
            header = encode(Prompt(session=self._tab.session, position=at, length=len(part)))
            await self._links[0].send(header, token_bytes(part))

    async def _pay(self, voucher: Voucher | None) -> None:
        if voucher is None:
            return
        client = self._client
        pay = Pay(voucher=voucher, signature=sign_typed(client._settlement.domain, voucher, client._key))
        # In the journal before it is sent: what was promised is known after a crash.
        stored = StoredVoucher(session=self._tab.terms, opened_at=client._clock(), pay=pay)
        await client._journal.put(self._tab.session, stored)
        self._result.pay = pay
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
                        self._result.times.append(_now())
                        self._on_token(token.token)
            case Receipted():
                self._tab.take_receipt(leg, frame, payload)
            case Failed():
                raise LostPeerError(f"leg {leg} (blocks {hop.span}) gave up: {frame.reason}", code=frame.code)
            case PeerError():
                self._lost.add(leg)
                raise LostPeerError(f"leg {leg} (blocks {hop.span}) is gone: {frame.message}", code="provider-lost")

    # The end

    async def _collect_discharges(self) -> dict[int, bytes]:
        """Discharges of every leg that gives one in time; what else still comes in is of no use any more."""
        deadline = _now() + WIND_DOWN_S
        wanted = set(self._links) - self._lost
        while wanted - set(self._discharges):
            try:
                async with asyncio.timeout_at(deadline):
                    leg, frame, _ = await self._inbox.get()
            except TimeoutError:
                break
            if isinstance(frame, PeerError | Failed):
                wanted.discard(leg)
            elif isinstance(frame, Discharged):
                self._take_discharge(leg, frame.signature, self._tab.paid)
        return self._discharges

    def _take_discharge(self, leg: int, signature: bytes, counts: tuple[int, int]) -> None:
        word = Discharge(session=self._tab.session, tokens_in=counts[0], tokens_out=counts[1])
        signer = recover_typed(self._client._settlement.domain, word, signature)
        if signer != self._tab.terms.legs[leg].provider:
            raise DishonestError(f"the discharge of leg {leg} is not its provider's, or for other counts")
        self._discharges[leg] = signature


def _now() -> float:
    return asyncio.get_running_loop().time()
