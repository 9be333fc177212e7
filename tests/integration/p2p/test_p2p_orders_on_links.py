"""Orders on data links, over real sockets: answered before what comes behind them, bounded, and the link kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from node.p2p import order_desk
from node.p2p.direct import DataPlane, Listener
from node.p2p.link_pool import LinkPool
from node.p2p.order_desk import OrderDesk
from node.ports import STRANGER
from node.ports import Link as AnyLink
from protocol.encoding.codec import encode
from protocol.errors import LostPeerError, MalformedError, RefusedError
from protocol.identity.signing import SigningKey
from protocol.session.frames import Attach
from protocol.session.ordering import MAX_ORDER_BYTES, Ordering

SELLER, BUYER = SigningKey(b"\x61" * 32), SigningKey(b"\x62" * 32)
SESSION = b"\x07" * 32

Answer = Callable[[bytes, bytes], Awaitable[bytes]]


class Shop:
    """A listening node that takes orders, and sends every other frame back."""

    def __init__(self, answer: Answer) -> None:
        self.links: list[AnyLink] = []
        self.desk = OrderDesk(answer, self._serve, lambda _key: STRANGER)
        self.address = ""
        self.came = asyncio.Event()

    async def _serve(self, link: AnyLink) -> None:
        self.links.append(link)
        self.came.set()
        while True:
            await link.send(*await link.receive())


@asynccontextmanager
async def shop(answer: Answer) -> AsyncIterator[tuple[Shop, DataPlane]]:
    async with DataPlane(SELLER.secret) as selling, DataPlane(BUYER.secret) as buying:
        with Listener.open() as listener:
            found = Shop(answer)
            found.address = listener.address
            serving = asyncio.create_task(
                selling.serve(listener, found.desk.on_link, allowances=found.desk.allowance), name="shop"
            )
            try:
                yield found, buying
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)


async def sells(peer: bytes, sealed: bytes) -> bytes:
    assert peer == BUYER.public_key
    return sealed[::-1]


def test_an_order_and_its_job_take_one_link_and_the_next_order_takes_it_again() -> None:
    async def story() -> None:
        async with shop(sells) as (found, buying), LinkPool(buying.connect) as pool:
            assert await pool.trip_us(found.address, SELLER.public_key) is not None
            for _ in range(2):
                assert await pool.order(found.address, SELLER.public_key, SESSION, b"order") == b"redro"
                link = await pool.connect(found.address, SELLER.public_key)
                await link.send(b"said", b"over it")
                assert await link.receive() == (b"said", b"over it")
                pool.keep(link)
            assert len(found.links) == 1

    asyncio.run(story())


def test_a_link_in_use_is_not_handed_out_twice() -> None:
    async def story() -> None:
        async with shop(sells) as (found, buying), LinkPool(buying.connect) as pool:
            one = await pool.connect(found.address, SELLER.public_key)
            other = await pool.connect(found.address, SELLER.public_key)
            assert one is not other
            await one.close()
            await other.close()

    asyncio.run(story())


def test_an_idle_link_that_has_ended_is_dialled_anew() -> None:
    async def story() -> None:
        async with shop(sells) as (found, buying), LinkPool(buying.connect) as pool:
            await pool.trip_us(found.address, SELLER.public_key)
            await found.came.wait()
            await found.links[0].close()
            assert await pool.order(found.address, SELLER.public_key, SESSION, b"again") == b"niaga"
            assert len(found.links) == 2

    asyncio.run(story())


def test_a_refusal_comes_with_its_code_and_leaves_the_link_in_order() -> None:
    async def refuses(_peer: bytes, sealed: bytes) -> bytes:
        if sealed == b"bad":
            raise RefusedError("not like this", code="window")
        return b"good"

    async def story() -> None:
        async with shop(refuses) as (found, buying), LinkPool(buying.connect) as pool:
            with pytest.raises(RefusedError) as caught:
                await pool.order(found.address, SELLER.public_key, SESSION, b"bad")
            assert caught.value.code == "window"
            assert await pool.order(found.address, SELLER.public_key, SESSION, b"order") == b"good"
            assert len(found.links) == 1

    asyncio.run(story())


def test_a_fault_of_the_seller_is_no_secret_of_the_buyer() -> None:
    async def breaks(_peer: bytes, _sealed: bytes) -> bytes:
        raise ZeroDivisionError("a path on this machine")

    async def story() -> None:
        async with shop(breaks) as (found, buying), LinkPool(buying.connect) as pool:
            with pytest.raises(RefusedError) as caught:
                await pool.order(found.address, SELLER.public_key, SESSION, b"order")
            assert caught.value.code == "internal"
            assert "path" not in caught.value.message

    asyncio.run(story())


def test_frames_behind_an_order_wait_until_it_is_answered() -> None:
    go_on = asyncio.Event()

    async def slow(_peer: bytes, _sealed: bytes) -> bytes:
        await go_on.wait()
        return b"taken"

    async def story() -> None:
        async with shop(slow) as (found, buying):
            link = await buying.connect(found.address, SELLER.public_key)
            await link.send(encode(Ordering(session=SESSION)), b"order")
            attach = encode(Attach(session=SESSION))
            await link.send(attach)
            go_on.set()
            assert (await link.receive())[1] == b"taken"
            assert (await link.receive())[0] == attach

    asyncio.run(story())


def test_orders_of_one_key_are_bounded_in_number_and_in_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_desk, "ORDERS_AT_ONCE", 2)
    monkeypatch.setattr(order_desk, "ORDERS_PER_S", 0.001)

    async def story() -> None:
        async with shop(sells) as (found, buying), LinkPool(buying.connect) as pool:
            longest = bytes(MAX_ORDER_BYTES - 1) + b"x"
            assert (await pool.order(found.address, SELLER.public_key, SESSION, b"order")) == b"redro"
            with pytest.raises(LostPeerError):
                await pool.order(found.address, SELLER.public_key, SESSION, longest + b"y")
            with pytest.raises(MalformedError):  # its answer would be longer than any
                await pool.order(found.address, SELLER.public_key, SESSION, longest)
            with pytest.raises(RefusedError) as caught:
                await pool.order(found.address, SELLER.public_key, SESSION, b"order")
            assert caught.value.code == "busy"

    asyncio.run(story())
