"""Attacks by orders: places taken and not paid for, work taken for nothing, nodes made to dial."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from node.p2p.direct import Link
from node.pipeline.buying.job import Deal
from protocol.encoding.codec import encode
from protocol.errors import JoulemeshError, RuleError
from protocol.identity.ids import BlockSpan
from protocol.identity.signing import SigningKey, seal
from protocol.session.agreement import make_orders
from protocol.session.frames import Failed, Sampled
from siege.attack import Budget, Ground, Surface, attack
from siege.buyer import Buyer, Leg, buyer, buyers, read_frame
from siege.forged import Victim, forge, victim

REPEAT_S = 2.0
AGAIN_S = 1.0
FAR_S = 80 * 24 * 3600
WINDOW = 16
PLACES_OF_A_KEY = 4
TAKEN = ("places_taken",)
ANSWERED = ("answer_",)


@asynccontextmanager
async def _spending(ground: Ground, budget: Budget) -> AsyncIterator[Buyer]:
    """A buyer, and what it spent in the tally."""
    async with buyer(ground.target, budget) as who:
        before = await who.free()
        try:
            yield who
        finally:
            with contextlib.suppress(JoulemeshError):
                ground.tally["reserved_or_spent_micro"] = before - await who.free()
            ground.tally["spent_micro"] = who.paid


async def _hold_places(ground: Ground, who: Buyer, keep: Callable[[Deal, list[Link]], Awaitable[None]]) -> None:
    """Take `ground.count` places, and take each anew that is lost, as long as there is money."""
    untried = ground.count
    tried = asyncio.Event()

    async def hold() -> None:
        nonlocal untried
        first = True
        while not ground.stop.is_set():
            deal, links = await _take(ground, who)
            untried -= first
            first = False
            if untried <= 0:
                tried.set()
            if not links:
                await asyncio.sleep(AGAIN_S)
                continue
            try:
                await keep(deal, links)
            except JoulemeshError:
                ground.tally["places_lost"] += 1
            finally:
                for link in links:
                    link.abort()

    async def tell() -> None:
        await tried.wait()
        await ground.hold()

    async with asyncio.TaskGroup() as group:  # which ends with the first that breaks
        holding = [group.create_task(tell()), *(group.create_task(hold()) for _ in range(ground.count))]
        await ground.stop.wait()
        for task in holding:
            task.cancel()


async def _take(ground: Ground, who: Buyer) -> tuple[Deal, list[Link]]:
    """A place at every leg, and the links to them; no links where one of them refused."""
    deal = who.deal(await who.whole_route(), most=1, window=1)  # the cheapest that there is
    try:
        links, code = await who.take_all(deal)
    except RuleError as error:
        links, code = [], error.code
        ground.tally["out_of_money"] += 1
    except JoulemeshError as error:
        links, code = [], error.code
    ground.tally[f"refused_{code}" if code else "places_taken"] += 1
    return deal, links


async def _until_it_ends(link: Link) -> None:
    """Read whatever comes, to the end of the link or the job. Raises LostPeerError."""
    while not isinstance(read_frame((await link.receive())[0]), Failed):
        pass


async def _wait_silently(_deal: Deal, links: list[Link]) -> None:
    waiting = [asyncio.create_task(_until_it_ends(link)) for link in links]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@attack(Surface.ORDERS, short=16, long=48, budget=Budget.ONE_JOB, fresh=True, at_least_s=45.0, came=TAKEN)
async def orders_that_hold_places_for_the_price_of_a_job(ground: Ground) -> None:
    """Orders that are taken and never go on, with as much money as one honest job needs."""
    async with _spending(ground, Budget.ONE_JOB) as who:
        await _hold_places(ground, who, _wait_silently)


@attack(Surface.ORDERS, short=0, long=16, budget=Budget.ONE_JOB, fresh=True, at_least_s=45.0, came=TAKEN)
async def orders_that_hold_places_by_many_keys(ground: Ground) -> None:
    """The same by many keys, each of which has the money of one job, and takes as many places as one key may."""
    keys = ground.count
    async with buyers(ground.target, Budget.ONE_JOB, keys) as crowd:
        ground.count = PLACES_OF_A_KEY
        async with asyncio.TaskGroup() as group:
            for who in crowd:
                group.create_task(_hold_places(ground, who, _wait_silently))
        ground.tally["spent_micro"] = sum(who.paid for who in crowd)


@attack(Surface.ORDERS, short=0, long=48, budget=Budget.PLAY, at_least_s=45.0, came=TAKEN)
async def orders_that_hold_places(ground: Ground) -> None:
    """The same by somebody who has money, and opens a new session for each place that lapses."""
    async with _spending(ground, Budget.PLAY) as who:
        await _hold_places(ground, who, _wait_silently)


@attack(Surface.ORDERS, short=16, long=48, budget=Budget.ONE_JOB, at_least_s=45.0, came=TAKEN)
async def orders_with_vouchers_that_raise_nothing(ground: Ground) -> None:
    """Places held by saying the first voucher again and again."""
    async with _spending(ground, Budget.ONE_JOB) as who:

        async def keep(deal: Deal, links: list[Link]) -> None:
            same = encode(who.first(deal.session, deal))
            watching = asyncio.create_task(_wait_silently(deal, links))
            try:
                while not watching.done():
                    for link in links:
                        await link.send(same)
                    await asyncio.wait({watching}, timeout=REPEAT_S)
            finally:
                watching.cancel()

        await _hold_places(ground, who, keep)


@attack(Surface.ORDERS, short=8, long=64, budget=Budget.PLAY, at_least_s=30.0, came=TAKEN)
async def orders_for_first_windows(ground: Ground) -> None:
    """Jobs that are left once the first unpaid tokens came; counts what was served and what was paid."""
    async with _spending(ground, Budget.PLAY) as who:

        async def job() -> None:
            deal = who.deal(await who.whole_route(), most=WINDOW, window=WINDOW)
            links, code = await who.take_all(deal)
            ground.tally[f"refused_{code}" if code else "places_taken"] += 1
            if code:
                return
            try:
                await who.prompt(deal, links[0])
                async with asyncio.timeout(10):
                    while True:
                        frame = read_frame((await links[-1].receive())[0])
                        if isinstance(frame, Sampled):
                            ground.tally["tokens_unpaid"] += len(frame.tokens)
                        if isinstance(frame, Failed):
                            return
            except (JoulemeshError, TimeoutError):
                return
            finally:
                for link in links:
                    link.abort()

        await _one_after_another(ground, job, 8)


async def _one_after_another(ground: Ground, act: Callable[[], Awaitable[None]], at_once: int) -> None:
    left = iter(range(ground.count))

    async def work() -> None:
        for _ in left:
            if ground.stop.is_set():
                return
            try:
                await act()
                ground.tally["done"] += 1
            except JoulemeshError as error:
                ground.tally[f"failed_{error.code}"] += 1

    await asyncio.gather(*(work() for _ in range(at_once)))


async def _with_neighbour(who: Buyer, hurt: Victim, **changes: object) -> list[Leg]:
    """The first half of a real node's blocks, and the rest of the model by a key whose addresses are the victim's."""
    real, sealed = (await who.offers())[0]
    half = max(1, len(real.span) // 2)
    key = SigningKey(secrets.token_bytes(32))
    rest = BlockSpan(start=real.span.start + half, end=real.blocks)
    forged = forge(real, key, span=rest, **{**hurt.addresses(key.public_key), **changes})
    return [(real, sealed, BlockSpan(start=real.span.start, end=rest.start)), (forged, seal(forged, key), rest)]


@attack(Surface.ORDERS, short=20, long=106, budget=Budget.PLAY, at_least_s=30.0, came=("dials",))
async def orders_with_a_dead_neighbour(ground: Ground) -> None:
    """Orders whose next leg is at an address that nobody answers at: how long does each hold its place?"""
    async with victim() as hurt, _spending(ground, Budget.PLAY) as who:

        async def act() -> None:
            deal = who.deal(await _with_neighbour(who, hurt))
            order, _ = await who.orders(deal)
            ground.tally[f"answer_{await who.ask(order) or 'taken'}"] += 1

        await _one_after_another(ground, act, 106)
        ground.tally["dials"] = len(hurt.dials)
        ground.tally["dials_in_worst_minute"] = hurt.worst_minute


@attack(Surface.ORDERS, short=6, long=30, budget=Budget.PLAY, came=("dials",))
async def orders_that_scan_ports(ground: Ground) -> None:
    """Orders whose next leg is at an open, a closed, or an HTTP port: can the answers be told apart?"""
    async with victim() as silent, _spending(ground, Budget.PLAY) as who:
        http = await asyncio.start_server(_answer_http, "127.0.0.1", 0)
        ports = {"open": silent.port, "closed": 9, "http": http.sockets[0].getsockname()[1]}
        answers: dict[str, set[str]] = {name: set() for name in ports}
        waits: dict[str, list[float]] = {name: [] for name in ports}
        clock = asyncio.get_running_loop().time
        for number in range(ground.count):
            if ground.stop.is_set():
                break
            name = list(ports)[number % len(ports)]
            deal = who.deal(await _with_neighbour(who, Victim(ports[name])))
            order, _ = await who.orders(deal)
            began = clock()
            try:
                answers[name].add(await who.ask(order) or "taken")
            except JoulemeshError as error:
                answers[name].add(error.code)
            waits[name].append(clock() - began)
        http.close()
        ground.tally["dials"] = len(silent.dials)
        for name, found in answers.items():
            for code in found:
                ground.tally[f"{name}_{code}"] += 1
            ground.tally[f"{name}_ms"] = int(1000 * max(waits[name], default=0))
        if len({frozenset(found) for found in answers.values() if found}) > 1:
            ground.tally["breach_ports_can_be_told_apart"] += 1


async def _answer_http(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


@attack(Surface.ORDERS, short=20, long=200, budget=Budget.PLAY, at_least_s=30.0, came=ANSWERED)
async def orders_refused_with_far_expiry(ground: Ground) -> None:
    """Orders that must be refused, of sessions that expire in 80 days: what does the node do about each until then?"""
    async with _spending(ground, Budget.PLAY) as who:

        async def act() -> None:
            deal = who.deal(await who.whole_route(), window=4096, life_s=FAR_S)
            orders = await who.orders(deal)
            for code in await asyncio.gather(*map(who.ask, orders)):
                ground.tally[f"answer_{code or 'taken'}"] += 1

        await _one_after_another(ground, act, 8)
        await ground.hold()


@attack(Surface.ORDERS, short=40, long=1_000, budget=Budget.PLAY, came=("first_taken",))
async def orders_replayed(ground: Ground) -> None:
    """The order of a session that is over, again and again."""
    async with _spending(ground, Budget.PLAY) as who:
        deal = who.deal(await who.whole_route())
        orders = await who.orders(deal)
        first = [await who.ask(order) for order in orders]
        ground.tally["first_taken"] = first.count("")
        with contextlib.suppress(JoulemeshError):
            (await who.attach(deal, 0)).abort()

        async def act() -> None:
            code = await who.ask(orders[0])
            ground.tally[f"answer_{code or 'taken'}"] += 1
            if not code:
                ground.tally["breach_session_served_twice"] += 1

        await _one_after_another(ground, act, 4)


@attack(Surface.ORDERS, short=100, long=3_000, came=ANSWERED)
async def orders_of_nobody(ground: Ground) -> None:
    """Well-formed orders of sessions that were never opened, at full speed."""
    async with _spending(ground, Budget.NOTHING) as who:

        async def act() -> None:
            deal = who.deal(await who.whole_route())
            order, *_rest = make_orders(
                deal.terms,
                deal.session,
                pay=who.first(deal.session, deal),
                opened=b"\x00" * 300,
                offers=[chosen.sealed for chosen in deal.legs],
                issued_at=deal.session.expiry - 300,
            )
            ground.tally[f"answer_{await who.ask(order) or 'taken'}"] += 1

        await _one_after_another(ground, act, 8)
