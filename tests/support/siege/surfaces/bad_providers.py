"""Attacks by providers: the cheapest on offer, and not what they say."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from node.p2p.direct import DataPlane, Listener
from node.p2p.host import P2PHost
from node.p2p.order_desk import OrderDesk
from node.p2p.runtime import TrioRuntime
from node.ports import STRANGER, Link
from protocol.encoding.codec import encode
from protocol.errors import JoulemeshError, LostPeerError, RefusedError
from protocol.identity.signing import SigningKey, open_envelope, seal
from protocol.market.offer import Offer
from protocol.names import OFFERS_TOPIC
from protocol.session.frames import Failed
from protocol.session.messages import session_id
from protocol.session.order import Acceptance, JobOrder
from protocol.session.terms import terms_hash
from siege.attack import Ground, Surface, attack
from siege.forged import forge, real_offers
from siege.liars import noisy_copy, run_liar

SAY_AGAIN_S = 5.0
ORDERED = ("orders",)
OnLink = Callable[[Link], Awaitable[None]]
OnOrder = Callable[["_Liar", JobOrder], Awaitable[bytes]]


class _Liar:
    """A provider in name: a real host, a real data port, an offer at a quarter of the price, and nothing behind it."""

    def __init__(self, ground: Ground, host: P2PHost, key: SigningKey, data_at: str) -> None:
        self.ground = ground
        self.key = key
        self.sessions: list[bytes] = []
        self._host = host
        self._data_at = data_at

    def desk(self, on_order: OnOrder, on_link: OnLink) -> OrderDesk:
        """Where its orders and its links come."""

        async def answer(_asker: bytes, data: bytes) -> bytes:
            order, _ = open_envelope(data, JobOrder)
            _note_order(self.ground)
            self.sessions.append(session_id(order.session))
            return await on_order(self, order)

        return OrderDesk(answer, on_link, lambda _key: STRANGER)

    def accept(self, order: JobOrder) -> bytes:
        session = session_id(order.session)
        acceptance = Acceptance(
            session=session,
            leg=order.leg,
            terms=terms_hash(order.terms),
            cached=0,
            replays=False,
            nonces=secrets.token_bytes(32),
        )
        return seal(acceptance, self.key)

    async def advertise(self, real: Offer) -> None:
        """Say the offer again and again."""
        while True:
            offer = forge(
                real,
                self.key,
                sequence=time.time_ns(),
                addresses=self._host.addresses,
                data_addresses=(self._data_at,),
                prompt_us=1,
                position_us=1,
            )
            with contextlib.suppress(JoulemeshError):
                await self._host.publish(OFFERS_TOPIC, seal(offer, self.key))
            await asyncio.sleep(SAY_AGAIN_S)


@asynccontextmanager
async def _liars(ground: Ground, on_order: OnOrder, on_link: OnLink) -> AsyncIterator[None]:
    """`ground.count` of them."""
    async with TrioRuntime.open() as runtime, AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        tasks = []
        for _ in range(ground.count):
            key = SigningKey(secrets.token_bytes(32))
            host = await stack.enter_async_context(P2PHost.open(runtime, key.secret))
            plane = await stack.enter_async_context(DataPlane(key.secret))
            listener = stack.enter_context(Listener.open())
            for address in (ground.target.ledger_peer, *(node.peer for node in ground.target.nodes)):
                with contextlib.suppress(JoulemeshError):
                    await host.connect(address)
            await host.subscribe(OFFERS_TOPIC, lambda data: data)
            (real, _), *_ = await real_offers(host, ground.target)
            liar = _Liar(ground, host, key, listener.address)
            desk = liar.desk(on_order, on_link)
            tasks.append(group.create_task(plane.serve(listener, desk.on_link, allowances=desk.allowance)))
            tasks.append(group.create_task(liar.advertise(real)))
        yield
        for task in tasks:
            task.cancel()


def _note_order(ground: Ground) -> None:
    """Whom nobody orders from attacks nobody: it is at full force from the first order on."""
    ground.tally["orders"] += 1
    if ground.tally["orders"] == 1:
        ground.at_full()


async def _accept(liar: _Liar, order: JobOrder) -> bytes:
    return liar.accept(order)


async def _say_nothing(link: Link) -> None:
    with contextlib.suppress(LostPeerError):
        while True:
            await link.receive()


@attack(Surface.PROVIDERS, short=1, long=3, on="honest", fresh=True, at_least_s=120.0, came=ORDERED)
async def providers_that_say_nothing(ground: Ground) -> None:
    """The cheapest offers on the market: their orders are taken, and then nothing comes."""
    async with _liars(ground, _accept, _say_nothing):
        await ground.stop.wait()


@attack(Surface.PROVIDERS, short=0, long=3, on="honest", fresh=True, at_least_s=60.0, came=ORDERED)
async def providers_that_never_answer_an_order(ground: Ground) -> None:
    """The cheapest offers, whose nodes let an order wait for ever."""

    async def wait(_liar: _Liar, _order: JobOrder) -> bytes:
        await asyncio.sleep(3600)
        return b""

    async with _liars(ground, wait, _say_nothing):
        await ground.stop.wait()


@attack(Surface.PROVIDERS, short=1, long=3, on="honest", fresh=True, at_least_s=45.0, came=ORDERED)
async def providers_that_refuse(ground: Ground) -> None:
    """The cheapest offers, whose nodes are always full."""

    async def refuse(_liar: _Liar, _order: JobOrder) -> bytes:
        raise RefusedError("all places are taken", code="busy")

    async with _liars(ground, refuse, _say_nothing):
        await ground.stop.wait()


@attack(Surface.PROVIDERS, short=1, long=3, on="honest", fresh=True, at_least_s=45.0, came=ORDERED)
async def providers_that_hang_up(ground: Ground) -> None:
    """The cheapest offers, whose links end with the first frame."""

    async def hang_up(link: Link) -> None:
        with contextlib.suppress(LostPeerError):
            await link.receive()
        link.abort()

    async with _liars(ground, _accept, hang_up):
        await ground.stop.wait()


@attack(Surface.PROVIDERS, short=0, long=3, on="honest", at_least_s=45.0, came=ORDERED)
async def providers_that_answer_with_noise(ground: Ground) -> None:
    """The cheapest offers, whose acceptances and frames cannot be read."""

    async def noise(liar: _Liar, order: JobOrder) -> bytes:
        return liar.accept(order) if len(liar.sessions) % 2 else secrets.token_bytes(300)

    async def on_link(link: Link) -> None:
        with contextlib.suppress(LostPeerError):
            await link.receive()
            await link.send(secrets.token_bytes(200), secrets.token_bytes(100))
            await _say_nothing(link)

    async with _liars(ground, noise, on_link):
        await ground.stop.wait()


@attack(Surface.PROVIDERS, short=0, long=3, on="honest", at_least_s=45.0, came=ORDERED)
async def providers_that_fail_other_peoples_sessions(ground: Ground) -> None:
    """The cheapest offers, whose nodes tell of a failure in words that no terminal should see."""

    async def on_link(link: Link) -> None:
        with contextlib.suppress(LostPeerError):
            await link.receive()
            await link.send(encode(Failed(session=bytes(32), leg=0, code="x", reason="\u2028" * 100)))
            await _say_nothing(link)

    async with _liars(ground, _accept, on_link):
        await ground.stop.wait()


async def _lie(ground: Ground, **what: object) -> None:
    running = asyncio.create_task(run_liar(ground.target, 0, partial(_note_order, ground), **what))  # type: ignore[arg-type]
    stopping = asyncio.create_task(ground.stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    stopping.cancel()
    (end,) = await asyncio.gather(running, return_exceptions=True)
    if isinstance(end, Exception) and not ground.stop.is_set():
        raise end


@attack(Surface.PROVIDERS, short=1, long=1, on="honest", at_least_s=45.0, came=ORDERED)
async def providers_with_other_weights(ground: Ground) -> None:
    """A real node at the lowest price that computes with other weights than it says."""
    weights = await asyncio.to_thread(noisy_copy, Path(ground.target.model), Path(ground.target.home) / "noisy")
    await _lie(ground, weights=weights)


@attack(Surface.PROVIDERS, short=0, long=1, on="honest", at_least_s=45.0, came=ORDERED)
async def providers_with_terajoules(ground: Ground) -> None:
    """A real node at the lowest price that signs for 10^12 J a token."""
    await _lie(ground, terajoules=True)


@attack(Surface.PROVIDERS, short=0, long=1, on="honest", at_least_s=45.0, came=ORDERED)
async def providers_of_blocks_that_they_lack(ground: Ground) -> None:
    """A real node at the lowest price that offers the whole model and holds its first block."""
    await _lie(ground, span=(0, 1))
