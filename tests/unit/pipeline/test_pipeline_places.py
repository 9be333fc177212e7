"""Clients that take places and pay for next to nothing, and that honest ones are served all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hand_client import PROMPT, Hand, expect, send
from small_market import RATES, SmallMarket, limits_of
from virtual_loop import run_virtually

from node.events import JobFailed
from node.pipeline.buying.client import JobClient
from node.pipeline.serving.neighbours import DIAL_S, DIALS_OF_CLIENT, FAILED_S, Next
from node.pipeline.vouchers import VoucherStore
from node.worker import InlineWorker
from protocol.errors import LostPeerError, MalformedError, RefusedError, SignatureError, UnreachableError
from protocol.identity.signing import SigningKey
from protocol.reputation.standing import Deed
from protocol.serving.places import TURN_S
from protocol.session.frames import Attach, Discharged, Failed, Finish, Receipted, Sampled
from protocol.session.messages import sign_voucher
from protocol.session.order import Acceptance, Refusal

Story = Callable[[SmallMarket], Coroutine[Any, Any, None]]
WHOLE = ((0, 6),)
THIRDS = ((0, 2), (2, 4), (4, 6))
PLACES = 16


def tell(tmp_path: Path, story: Story, *, spans: tuple[tuple[int, int], ...] = WHOLE, **limits: Any) -> None:
    """On a virtual clock, with 16 places."""

    async def whole() -> None:
        async with SmallMarket(tmp_path, spans=spans, limits=limits_of(max_sessions=PLACES, **limits)) as market:
            for node in market.nodes:
                node.limits.idle_s, node.limits.lapse_s = 30.0, 10.0
            await story(market)

    run_virtually(whole())


def somebody(market: SmallMarket, number: int) -> SigningKey:
    """A key that nobody knows, with money."""
    key = SigningKey(bytes([200, number]) * 16)
    market.ledger.deposit(key, 100_000)
    return key


class Guest(Hand):
    """A client of another key than the market's own."""

    def __init__(self, market: SmallMarket, key: SigningKey, most: int = 12, **changes: Any) -> None:
        super().__init__(market, most, client=key, **changes)
        self.key = key


async def honest(market: SmallMarket, key: SigningKey, most: int = 9) -> str:
    """The code that an honest job of this key ends with; empty where it is served."""
    journal = VoucherStore(market.folder / key.address.hex(), InlineWorker())
    client = JobClient(market.side_of(key, journal))
    _, result = await market.run(market.deal(PROMPT, most, client=key), client)
    return "" if result.error is None else result.error.code


async def takes_a_place(market: SmallMarket, key: SigningKey, **changes: Any) -> bool:
    hand = Guest(market, key, **changes)
    await hand.open()
    return isinstance(await hand.ask(), Acceptance)


def test_sixteen_orders_and_a_repeated_voucher_do_not_hold_the_places(tmp_path: Path) -> None:
    """One key, then sixteen; each attaches and sends the voucher that it has sent before."""

    async def story(market: SmallMarket) -> None:
        node, one = market.nodes[0], somebody(market, 0)
        taken = [await takes_a_place(market, one) for _ in range(PLACES)]
        assert taken == [True] * 4 + [False] * 12
        assert await honest(market, market.client_key) == ""
        hands = [Guest(market, somebody(market, number)) for number in range(1, 5)]
        for hand in hands:
            link = await hand.accepted()
            await send(link, hand.pay(3, 1))
            assert (await expect(link, Failed)).code == "stale"
        assert node.provider.free == 4
        assert await honest(market, market.client_key) == ""

    tell(tmp_path, story)


def test_sixteen_keys_that_hold_places_still_do_not_keep_a_newcomer_out(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        node = market.nodes[0]
        taken = [await takes_a_place(market, somebody(market, number)) for number in range(PLACES)]
        assert taken == [True] * 8 + [False] * 8
        assert node.provider.free == 0
        assert await honest(market, market.client_key) == "full"
        await asyncio.sleep(3.1)
        assert await honest(market, market.client_key) == "", "what stood still for three seconds gives way"
        assert {event.code for event in node.events_of(JobFailed) if isinstance(event, JobFailed)} == {"idle"}

    tell(tmp_path, story)


@pytest.mark.parametrize("leaves_s", [None, 2.5], ids=["until it is put out", "and leaves in time"])
def test_keys_that_go_round_do_not_keep_newcomers_out(tmp_path: Path, leaves_s: float | None) -> None:
    """Sixteen keys, each out of one place and into the next; what they have let lapse puts them behind newcomers."""

    async def go_round(market: SmallMarket, key: SigningKey) -> None:
        while True:
            hand = Guest(market, key, most=1)
            await hand.open()
            if not isinstance(await hand.ask(), Acceptance):
                await asyncio.sleep(1.0)
                continue
            link = await hand.dial(key)
            await send(link, Attach(session=hand.session))
            if leaves_s is None:
                await expect(link, Failed)
            else:
                await asyncio.sleep(leaves_s)
                await link.close()

    async def story(market: SmallMarket) -> None:
        assert await honest(market, market.client_key) == ""
        keys = [somebody(market, number) for number in range(16)]
        turns = [asyncio.create_task(go_round(market, key)) for key in keys]
        await asyncio.sleep(10.0)
        known, newcomers = [], []
        for number in range(12):
            known.append(await honest(market, market.client_key, 4))
            newcomers.append(await honest(market, somebody(market, 100 + number), 4))
            await asyncio.sleep(1.0)
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)
        assert known == [""] * 12
        assert newcomers.count("") >= 11, newcomers

    tell(tmp_path, story)


def test_keys_that_pay_a_little_all_the_time_have_their_turn_and_no_more(tmp_path: Path) -> None:
    """Each pays for one more position before its job has stood still for long enough to give way."""

    async def drips(market: SmallMarket, key: SigningKey) -> None:
        hand = Guest(market, key, most=60)
        link = await hand.accepted()
        await send(link, *hand.prompt())
        with suppress(LostPeerError):
            for paid in range(2, 50):
                await asyncio.sleep(2.5)
                await send(link, hand.pay(3, paid))

    async def story(market: SmallMarket) -> None:
        turns = [asyncio.create_task(drips(market, somebody(market, number))) for number in range(8)]
        await asyncio.sleep(TURN_S - 10)
        assert await honest(market, market.client_key) == "full"
        await asyncio.sleep(20)
        assert await honest(market, market.client_key) == ""
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)

    tell(tmp_path, story)


def test_a_client_with_history_is_served_while_strangers_hold_all_that_they_can(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        assert await honest(market, market.client_key) == ""
        for number in range(PLACES):
            await takes_a_place(market, somebody(market, number))
        assert await honest(market, market.client_key) == ""
        assert await honest(market, somebody(market, 99)) == "full"

    tell(tmp_path, story)


def test_an_opening_charge_alone_makes_nobody_known(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        hand = Guest(market, somebody(market, 0))
        link = await hand.accepted()
        await send(link, Finish(session=hand.session, tokens_out=0))
        await send(link, hand.pay(0, 0, amounts=(RATES.opening,)))
        assert (await expect(link, Discharged)).signed.discharge.amount == RATES.opening
        assert market.nodes[0].peers.noted == []
        assert await honest(market, hand.key) == ""
        assert [(who, deed) for who, deed, _ in market.nodes[0].peers.noted] == [(hand.key.address, Deed.PAID)]

    tell(tmp_path, story)


def test_a_place_that_nobody_attaches_to_lapses_in_seconds_and_that_is_remembered(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        node, key = market.nodes[0], somebody(market, 0)
        assert await takes_a_place(market, key)
        await asyncio.sleep(12.0)
        assert node.provider.active == 1
        await asyncio.sleep(1.5)
        assert (node.provider.active, node.engine.sessions) == (0, 0)
        assert node.peers.noted == [(key.address, Deed.LAPSED, 0)]
        assert [await takes_a_place(market, key) for _ in range(3)] == [True, False, False], (
            "one place until it is over"
        )

    tell(tmp_path, story)


def test_frames_that_bring_nothing_paid_keep_no_place(tmp_path: Path) -> None:
    """The prompt is there and what was paid for is served; then frames come that pay for nothing."""

    async def story(market: SmallMarket) -> None:
        hand = Guest(market, somebody(market, 0), most=40)
        link = await hand.accepted()
        await send(link, *hand.prompt())
        receipt = (await expect(link, Receipted)).signed
        for _ in range(5):
            await asyncio.sleep(2.0)
            await send(link, Attach(session=bytes(32)))
        await send(link, hand.draw(receipt))
        assert (await expect(link, Failed)).code == "idle"
        assert (await expect(link, Discharged)).signed.discharge.amount == hand.voucher(3, 1).amounts[0]
        assert market.nodes[0].peers.noted == [(hand.key.address, Deed.LAPSED, 0)]

    tell(tmp_path, story)


def test_a_client_that_pays_slowly_keeps_its_place(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        hand = Guest(market, somebody(market, 0), most=7)
        link = await hand.accepted()
        await send(link, *hand.prompt())
        await expect(link, Sampled)
        for tokens in (2, 3, 4):
            await asyncio.sleep(9.0)
            await send(link, hand.pay(3, tokens))
            await expect(link, Sampled)
        assert market.nodes[0].provider.active == 1

    tell(tmp_path, story)


def test_a_job_that_waits_for_the_engine_does_not_lapse(tmp_path: Path) -> None:
    """Paid, and its rows are here: that the machine is busy is no fault of its client."""

    async def story(market: SmallMarket) -> None:
        node, hand = market.nodes[0], Guest(market, somebody(market, 0))
        link = await hand.accepted()
        forward, ready = node.engine.forward, asyncio.Event()

        async def slowly(call: Callable[[], Any]) -> Any:
            await ready.wait()
            return call()

        node.provider._compute._worker.run = slowly  # type: ignore[method-assign, assignment]
        await send(link, *hand.prompt())
        await asyncio.sleep(600.0 - 30)
        assert node.provider.active == 1
        assert node.engine.forward == forward
        ready.set()
        assert await expect(link, Sampled)

    tell(tmp_path, story)


def test_a_leg_whose_neighbour_brings_nothing_is_not_held_for_ever(tmp_path: Path) -> None:
    """A client that orders a leg in the middle, and has no other: what it paid ahead buys it seconds, not hours."""

    async def story(market: SmallMarket) -> None:
        node, hand = market.nodes[1], Guest(market, somebody(market, 0), most=40)
        link = await hand.accepted(1)
        await send(link, hand.pay(3, 4))
        await asyncio.sleep(29.0)
        assert node.provider.active == 1
        assert (await expect(link, Failed)).code == "idle"
        assert node.peers.noted == [], "its neighbour may be the one that failed"

    tell(tmp_path, story, spans=THIRDS)


def test_an_order_for_the_first_window_alone_is_paid(tmp_path: Path) -> None:
    """Sixteen tokens for nothing, once: what is not in the first voucher is not served."""

    async def story(market: SmallMarket) -> None:
        hand = Guest(market, somebody(market, 0))
        await hand.open()
        opening = hand.voucher(0, 0, amounts=(RATES.opening,))
        with pytest.raises(RefusedError, match="pays for 0 of the first 3 positions"):
            await hand.ask(pay=sign_voucher(market.ledger.domain, opening, hand.key))
        assert isinstance(await hand.ask(), Acceptance)
        link = await hand.dial(hand.key)
        await send(link, Attach(session=hand.session))
        await send(link, *hand.prompt())
        await expect(link, Sampled)
        link.cut()
        await asyncio.sleep(1.0)
        await market.nodes[0].redeemer.redeem_all()
        assert market.free(market.nodes[0].key) == hand.voucher(3, 1).amounts[0] - 1

    tell(tmp_path, story)


# Credit


def test_credit_grows_with_what_was_paid_here_and_is_refused_to_others(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        node, key = market.nodes[0], somebody(market, 0)

        async def answer(credit: int) -> str:
            hand = Guest(market, key, paid=lambda provider: credit * 2 * 10 * 2)  # two micro-units a token
            assert hand.deal.terms.credit == min(credit, hand.deal.terms.plan.window)
            await hand.open()
            got = await hand.ask()
            return "" if isinstance(got, Acceptance) else got.code if isinstance(got, Refusal) else "?"

        assert await answer(1) == "credit"
        node.peers.note(key.address, Deed.PAID, amount=3 * 2 * 10)
        assert [await answer(credit) for credit in (4, 3)] == ["credit", ""]
        node.peers.note(key.address, Deed.DEFAULTED, amount=1)
        assert await answer(1) == "credit"

    tell(tmp_path, story)


def test_credit_that_is_left_unpaid_is_remembered_for_its_amount(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        hand = Guest(market, somebody(market, 0), most=40)
        assert hand.deal.terms.credit == 4
        link = await hand.accepted()
        await send(link, *hand.prompt())
        for _ in range(4):
            await expect(link, Sampled)
        await asyncio.sleep(1.0)
        link.cut()
        await asyncio.sleep(1.0)
        unpaid = hand.voucher(3, 4).amounts[0] - hand.voucher(3, 1).amounts[0]
        assert market.nodes[0].peers.noted == [(hand.key.address, Deed.DEFAULTED, unpaid)]

    tell(tmp_path, story, credit=4)


# Neighbours


def test_orders_that_name_a_dead_neighbour_take_no_place_and_are_dialled_once(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        node, dials = market.nodes[0], list[str]()
        connect = node.provider._neighbours._connect

        async def counted(address: str, key: bytes) -> Any:
            dials.append(address)
            return await connect(address, key)

        node.provider._neighbours._connect = counted
        guests = [Guest(market, somebody(market, number)) for number in range(20)]
        await market.kill(1)
        for guest in guests:
            await guest.open()
        asked = [asyncio.create_task(guest.ask()) for guest in guests]
        await asyncio.sleep(DIAL_S / 2)
        assert (node.provider.active, node.provider.free) == (0, 8)
        answers = await asyncio.gather(*asked)
        assert {(each.code, each.reason) for each in answers if isinstance(each, Refusal)} == {
            ("next-unreachable", "the next leg cannot be reached")
        }
        assert len(dials) == 1
        # It is back, and dialled again once the failure is forgotten.
        await market.revive(1)
        again = Guest(market, somebody(market, 30))
        await again.open()
        assert isinstance(await again.ask(), Refusal)
        await asyncio.sleep(FAILED_S)
        later = Guest(market, somebody(market, 31))
        await later.open()
        assert isinstance(await later.ask(), Acceptance)
        assert len(dials) == 2

    tell(tmp_path, story, spans=THIRDS)


@pytest.mark.parametrize("how", ["closed", "filtered", "another key", "another protocol", "broken"])
def test_a_client_learns_nothing_of_what_its_orders_make_a_node_dial(tmp_path: Path, how: str) -> None:
    async def story(market: SmallMarket) -> None:
        node, hand = market.nodes[0], Guest(market, somebody(market, 0))

        async def connect(address: str, key: bytes) -> Any:
            match how:
                case "closed":
                    raise UnreachableError("connection refused")
                case "filtered":
                    await asyncio.sleep(3600)
                case "another key":
                    raise SignatureError("another peer answers there")
                case "another protocol":
                    await asyncio.sleep(0.4)
                    raise MalformedError("no TLS")
            raise OSError(24, "too many open files")

        node.provider._neighbours._connect = connect
        await hand.open()
        began = asyncio.get_running_loop().time()
        answer = await hand.ask()
        assert isinstance(answer, Refusal)
        assert (answer.code, answer.reason) == ("next-unreachable", "the next leg cannot be reached")
        assert asyncio.get_running_loop().time() - began == pytest.approx(DIAL_S, abs=0.01)

    tell(tmp_path, story, spans=THIRDS)


def test_one_client_keeps_no_more_than_some_dials_under_way(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        node, one, other = market.nodes[0], b"\x01" * 20, b"\x02" * 20

        async def never(address: str, key: bytes) -> Any:
            await asyncio.sleep(3600)

        neighbours = node.provider._neighbours
        neighbours._connect = never

        async def ends_after(number: int, client: bytes) -> float:
            began = asyncio.get_running_loop().time()
            with pytest.raises(RefusedError, match="cannot be reached"):
                await neighbours.reach(Next(bytes([2, number]) + bytes(31), (f"/{number}",)), client)
            return asyncio.get_running_loop().time() - began

        took = await asyncio.gather(*(ends_after(number, one) for number in range(10)), ends_after(99, other))
        assert sum(each > 0 for each in took[:-1]) == DIALS_OF_CLIENT
        assert took[-1] == pytest.approx(DIAL_S, abs=0.01)

    tell(tmp_path, story)
