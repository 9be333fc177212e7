"""What processes on the network share, with real hosts on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from ledger_world import HandClock, ledger_settings, lying_ledger
from market_offers import address_of, an_offer, key_of

from node.app.network.membership import ANSWER_S, FEW, JOIN_S, Network, open_network
from node.events import Event, LedgerBack, LedgerLost
from node.ledger import LedgerClient, Shown, run_ledger
from node.market import OfferBook
from node.p2p.dials import MOST_AT_ENDPOINT
from protocol.encoding.codec import encode
from protocol.errors import LocalError, RefusedError
from protocol.identity.peer_id import peer_id_of
from protocol.identity.signing import seal
from protocol.market.catalog import OfferList
from protocol.names import LACKING_PROTOCOL, OFFERS_TOPIC

pytestmark = pytest.mark.asyncio

LISTEN = "/ip4/127.0.0.1/tcp/0"

Open = Callable[[int], Any]


@pytest_asyncio.fixture
async def opened() -> AsyncIterator[Open]:
    """Open networks: ``await opened(number of the key)``."""
    async with AsyncExitStack() as stack:

        async def start(number: int) -> Network:
            return await stack.enter_async_context(open_network(key_of(number), LISTEN, lambda event: None))

        yield start


def sealed_offer(number: int, **changes: Any) -> bytes:
    now = int(time.time())
    values = {"sequence": time.time_ns() // 1_000_000, "issued_at": now, "expires_at": now + 60, **changes}
    return seal(an_offer(number, **values), key_of(number))


async def heard_by(network: Network, count: int) -> None:
    async with asyncio.timeout(10):
        while len(network.book.offers()) < count:
            network.heard.clear()
            await network.heard.wait()


async def test_where_there_are_many_nodes_some_are_connected_to_besides_the_bootstrap_peers(opened: Open) -> None:
    node, other = await opened(1), await opened(2)
    for number in range(3, 3 + FEW - 1):
        node.book.add(sealed_offer(number, addresses=(address_of(number, "/ip4/127.0.0.1/tcp/9"),)))
    node.book.add(sealed_offer(2, addresses=other.host.addresses))
    await node.widen()
    assert await node.host.peers() == []  # so few hear of everything by the bootstrap peers
    node.book.add(sealed_offer(20, addresses=(address_of(20, "/ip4/127.0.0.1/tcp/9"),)))
    for _ in range(40):
        await node.widen()
        if await node.host.peers():
            break
    assert await node.host.peers() == [other.host.peer_id]


async def test_an_offer_is_heard_and_shown_to_those_who_ask_for_it(opened: Open) -> None:
    hub, node = await opened(0), await opened(1)
    await node.join(hub.host.addresses)
    sealed = sealed_offer(1)
    hub.book.add(sealed_offer(0))
    assert await node.offers_by(key_of(1).public_key) == [()]
    await node.host.publish(OFFERS_TOPIC, sealed)
    await heard_by(hub, 2)
    assert await node.offers_by(key_of(1).public_key) == [(sealed,)]
    assert await hub.offers_by(key_of(0).public_key) == [()]


async def test_offers_that_gossip_never_brought_are_asked_of_a_neighbour(opened: Open) -> None:
    hub, node = await opened(0), await opened(1)
    await node.join(hub.host.addresses)
    hub.book.add(sealed_offer(3))
    assert await node._exchange.turn() == 1
    assert node.book.sealed() == hub.book.sealed()
    assert await node._exchange.turn() == 0


async def test_a_neighbour_that_hands_over_rubbish_is_told_of() -> None:
    told: list[Event] = []
    async with (
        open_network(key_of(0), LISTEN, lambda event: None) as hub,
        open_network(key_of(1), LISTEN, told.append) as node,
    ):
        await node.join(hub.host.addresses)
        forged = encode(OfferList(sealed=(b"rubbish", sealed_offer(3)[:-1] + b"x", sealed_offer(4))))

        async def lie(_peer: bytes, _question: bytes) -> bytes:
            return forged

        hub.host.serve(LACKING_PROTOCOL, lie)
        await node._exchange.turn()
        assert [offer.public_key for offer in node.book.offers()] == [key_of(4).public_key]
        assert [type(event).__name__ for event in told] == ["OfferRefused", "OfferRefused"]


async def test_a_node_without_peers_asks_nobody(opened: Open) -> None:
    assert await (await opened(0)).offers_by(key_of(0).public_key) == []


async def test_what_gossip_verified_is_not_verified_again(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    hub, node = await opened(0), await opened(1)
    await node.join(hub.host.addresses)
    monkeypatch.setattr(OfferBook, "add", lambda *_: pytest.fail("verified twice"))
    await node.host.publish(OFFERS_TOPIC, sealed_offer(1))
    await heard_by(hub, 1)


async def test_a_network_whose_offers_are_no_longer_followed_ends_with_the_reason(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, node = await opened(0), await opened(1)
    await node.join(hub.host.addresses)

    def broken(*_: object) -> bool:
        raise ZeroDivisionError("planted")

    watching = asyncio.create_task(hub.watch())
    monkeypatch.setattr(OfferBook, "take", broken)
    await node.host.publish(OFFERS_TOPIC, sealed_offer(1))
    with pytest.raises(ZeroDivisionError, match="planted"):
        async with asyncio.timeout(10):
            await watching
    with pytest.raises(ZeroDivisionError, match="planted"):
        await hub.round_trips([])


async def test_a_network_whose_host_dies_says_so(opened: Open) -> None:
    network = await opened(0)

    async def crash() -> None:
        raise RuntimeError("planted")

    network.host._bridge.post(network.host._backend.nursery.start_soon, crash)
    with pytest.raises(LocalError, match="planted") as caught:
        async with asyncio.timeout(10):
            await network.watch()
    assert caught.value.code == "host-died"


async def test_a_network_that_is_closed_is_not_a_failure(opened: Open) -> None:
    network = await opened(0)
    watching = asyncio.create_task(network.watch())
    await network.host.close()
    async with asyncio.timeout(10):
        await watching


async def test_round_trips_are_measured_and_silent_nodes_left_out(opened: Open) -> None:
    one, other = await opened(0), await opened(1)
    here = an_offer(1, addresses=tuple(other.host.addresses))
    gone = an_offer(
        2, addresses=(other.host.addresses[0].replace(other.host.peer_id, peer_id_of(key_of(2).public_key)),)
    )
    trips = await one.round_trips([here, gone])
    assert trips.keys() == {key_of(1).public_key}
    assert 0 < trips[key_of(1).public_key] < 5_000_000


async def test_offers_come_from_the_ledger_where_the_peers_are_silent(opened: Open, tmp_path: Path) -> None:
    """Bootstrap peers that accept connections and say nothing: a join must not wait until it gives them up."""
    hub, node = await opened(0), await opened(1)
    sealed = sealed_offer(3)
    hub.book.add(sealed)
    settings = ledger_settings(tmp_path / "ledger")

    def book() -> list[Shown]:
        return [Shown(each.offer.model, each.offer.public_key, each.sealed) for each in hub.book.verified()]

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer_id_of(key_of(7).public_key)}"
        async with (
            run_ledger(settings, key_of(9), HandClock(), offers=book) as ledger,
            LedgerClient(ledger.url) as client,
        ):
            async with asyncio.timeout(JOIN_S - 2):
                await node.join([address], client)
            assert [each.sealed for each in node.book.verified()] == [sealed]


async def test_offers_of_the_ledger_are_checked_like_any_other(opened: Open, tmp_path: Path) -> None:
    refused: list[Event] = []
    sealed = sealed_offer(3)
    shown = [Shown(bytes(32), key_of(3).public_key, data) for data in (sealed[:-1] + b"x", b"garbage", sealed)]
    async with (
        open_network(key_of(1), LISTEN, refused.append) as node,
        run_ledger(ledger_settings(tmp_path / "ledger"), key_of(9), HandClock(), offers=lambda: shown) as ledger,
        LedgerClient(ledger.url) as client,
    ):
        await node.join([], client)
        assert [each.sealed for each in node.book.verified()] == [sealed]
    assert [type(event).__name__ for event in refused] == ["OfferRefused", "OfferRefused"]


async def test_newcomers_in_a_book_are_as_few_as_its_owner_wants() -> None:
    async with open_network(key_of(1), LISTEN, lambda event: None, newcomers=2) as few:
        for number in range(3, 8):
            with contextlib.suppress(RefusedError):
                few.book.add(sealed_offer(number))
        assert len(few.book.offers()) == 2


async def test_a_ledger_that_does_not_answer_is_reported(opened: Open) -> None:
    told: list[Event] = []
    async with open_network(key_of(1), LISTEN, told.append) as node, LedgerClient("http://127.0.0.1:1") as client:
        await node.join([], client)
        await node.ask_ledger(client)  # not again at once
    assert [type(event).__name__ for event in told] == ["PeerUnreached"]


async def test_many_offers_that_name_one_victim_have_it_dialled_four_times(opened: Open) -> None:
    client, honest = await opened(0), await opened(1)
    hits: list[None] = []

    def hit(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hits.append(None)
        writer.close()

    async with await asyncio.start_server(hit, "127.0.0.1", 0) as victim:
        port = victim.sockets[0].getsockname()[1]
        sybils = [
            an_offer(number, addresses=(address_of(number, f"/ip4/127.0.0.1/tcp/{port}"),)) for number in range(2, 80)
        ]
        there = an_offer(1, addresses=tuple(honest.host.addresses))
        found = await client.round_trips([there, *sybils])
    assert found.keys() == {key_of(1).public_key}
    assert len(hits) == MOST_AT_ENDPOINT


async def test_one_that_says_nothing_is_not_waited_for_where_others_are_enough(opened: Open) -> None:
    client, honest = await opened(0), await opened(1)
    mute = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await mute.wait()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        offers = [
            an_offer(1, addresses=tuple(honest.host.addresses)),
            an_offer(2, addresses=(address_of(2, f"/ip4/127.0.0.1/tcp/{port}"),)),
        ]
        began = asyncio.get_running_loop().time()
        found = await client.round_trips(offers, enough=bool)
        took = asyncio.get_running_loop().time() - began
        mute.set()
    assert found.keys() == {key_of(1).public_key}
    assert took < ANSWER_S


async def test_a_ledger_whose_answers_do_not_hold_is_told_of_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.app.network.membership.REJOIN_S", 0.01)
    told: list[Event] = []
    news = asyncio.Event()
    lies: dict[str, Callable[[bytes], bytes]] = {}

    def tell(event: Event) -> None:
        told.append(event)
        news.set()

    async with (
        run_ledger(ledger_settings(tmp_path), key_of(9), HandClock(int(time.time()))) as running,
        lying_ledger(running.url, lies) as url,
        LedgerClient(url) as ledger,
        open_network(key_of(1), LISTEN, tell) as node,
        asyncio.timeout(20),
        asyncio.TaskGroup() as group,
    ):
        await ledger.connect()
        lies["/"] = lambda _: b"[]"
        staying = group.create_task(node.stay_joined(ledger, ()))
        for wanted in (LedgerLost, LedgerBack):
            while not any(isinstance(event, wanted) for event in told):
                news.clear()
                await news.wait()
            lies.clear()
        staying.cancel()
