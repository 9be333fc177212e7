"""Strangers name addresses; how often each is dialled because of them has a bound that they do not set."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from node.p2p.dials import (
    MOST_AT_ENDPOINT,
    MOST_AT_HOST,
    MOST_AT_NEAR_HOST,
    MOST_IN_ALL,
    MOST_WHERE_PROVEN,
    SPELL_S,
    DialBudget,
    reach_of_url,
)
from protocol.errors import MalformedError, UnreachableError
from protocol.market.reach import Reach

pytestmark = pytest.mark.asyncio


FAR, NEAR = "9.9.9.9", "127.0.0.1"


NODE, LIAR = b"\2" + bytes(32), b"\3" + bytes(32)


async def fail(budget: DialBudget, address: str, whom: bytes = LIAR) -> bool:
    """Dial in vain; whether it was dialled at all."""
    try:
        async with budget.dial(address, whom):
            raise ZeroDivisionError
    except ZeroDivisionError:
        return True
    except UnreachableError:
        return False


async def succeed(budget: DialBudget, address: str) -> None:
    async with budget.dial(address, NODE):
        pass


def at(port: int, host: str = FAR) -> str:
    return f"/ip4/{host}/tcp/{port}/tls"


async def test_ten_thousand_who_name_one_victim_have_it_dialled_four_times() -> None:
    budget = DialBudget()
    dialled = [await fail(budget, at(80)) for _ in range(10_000)]
    assert sum(dialled) == MOST_AT_ENDPOINT == 4


async def test_another_port_or_another_way_to_write_it_is_the_same_victim() -> None:
    budget = DialBudget()
    assert [await fail(budget, at(port)) for port in range(1, 20)].count(True) == MOST_AT_HOST
    other = DialBudget()
    for written in ("/ip6/2620:fe::fe/tcp/5/tls", "/ip6/2620:fe:0:0:0:0:0:fe/tcp/5/tls") * 4:
        await fail(other, written)
    assert not await fail(other, "/ip6/2620:fe:0::fe/tcp/5/tls")


async def test_an_honest_host_with_many_nodes_is_dialled_as_often_as_is_wanted() -> None:
    budget = DialBudget()
    for turn in range(100):
        await succeed(budget, at(4000 + turn % 3))
    assert [await fail(budget, at(port)) for port in range(1, 40)].count(True) == MOST_AT_NEAR_HOST
    near = DialBudget()
    assert [await fail(near, at(port, NEAR)) for port in range(1, 40)].count(True) == MOST_AT_NEAR_HOST
    await succeed(budget, at(4001))  # who answered before is still dialled
    assert not await fail(budget, at(9000))


async def test_who_answered_before_and_is_gone_keeps_nobody_else_out() -> None:
    """Many jobs find out that a node was killed; what came in its place on its host was never dialled."""
    memory = Remembered()
    budget = DialBudget(memory=memory)
    await succeed(budget, at(4001))
    assert sum([await fail(budget, at(4001), NODE) for _ in range(2 * MOST_IN_ALL)]) == MOST_WHERE_PROVEN
    for others in (budget, DialBudget(memory=memory)):
        assert [await fail(others, at(port)) for port in range(5000, 5040)].count(True) == MOST_AT_NEAR_HOST
        memory.notes = memory.notes[:1]


async def test_who_answered_before_and_is_gone_is_not_dialled_for_ever() -> None:
    """Its address may be somebody else's by now."""
    budget = DialBudget()
    for _ in range(2):  # once it answers it is dialled as ever
        await succeed(budget, at(4001))
        assert sum([await fail(budget, at(4001), NODE) for _ in range(MOST_WHERE_PROVEN - 1)]) == MOST_WHERE_PROVEN - 1
    assert [await fail(budget, at(4001), NODE) for _ in range(100)].count(True) == 1
    a_spell_later = DialBudget(spell_s=0.0)
    await succeed(a_spell_later, at(4001))
    assert all([await fail(a_spell_later, at(4001), NODE) for _ in range(100)])


async def test_many_hosts_are_dialled_in_vain_so_often_in_all() -> None:
    budget = DialBudget()
    tried = [await fail(budget, at(80, f"9.1.{number >> 8}.{number & 255}")) for number in range(300)]
    assert sum(tried) == MOST_IN_ALL


class Remembered:
    """What came of dials, between one budget and the next."""

    def __init__(self) -> None:
        self.notes: list[tuple[tuple[str, int], bytes | None]] = []
        self.ago_s = 0.0

    def past_dials(self) -> list[tuple[tuple[str, int], bytes | None, float]]:
        return [(endpoint, answered, self.ago_s) for endpoint, answered in self.notes]

    def note_dial(self, endpoint: tuple[str, int], answered: bytes | None) -> None:
        self.notes.append((endpoint, answered))


async def test_a_restart_hands_nobody_a_fresh_budget() -> None:
    memory = Remembered()
    dialled = [await fail(DialBudget(memory=memory), at(80)) for _ in range(20)]
    assert sum(dialled) == MOST_AT_ENDPOINT
    tried = [await fail(DialBudget(memory=memory), at(80, f"9.1.{each >> 8}.{each & 255}")) for each in range(200)]
    assert sum(tried) == MOST_IN_ALL - MOST_AT_ENDPOINT
    memory.ago_s = SPELL_S
    assert await fail(DialBudget(memory=memory), at(80))


async def test_offers_that_name_a_nodes_door_under_other_keys_do_not_shut_it() -> None:
    memory = Remembered()
    budget = DialBudget(memory=memory)
    await succeed(budget, at(4001))
    assert [await fail(budget, at(4001)) for _ in range(100)].count(True) == MOST_AT_ENDPOINT
    await succeed(budget, at(4001))
    assert await fail(budget, at(4001), NODE), "it may be down for a moment"
    await succeed(DialBudget(memory=memory), at(4001))
    assert not await fail(DialBudget(memory=memory), at(4001))


async def test_where_somebody_answered_is_known_after_a_restart() -> None:
    memory = Remembered()
    await succeed(DialBudget(memory=memory), at(80))
    budget = DialBudget(memory=memory)
    assert [await fail(budget, at(port)) for port in range(1, 40)].count(True) == MOST_AT_NEAR_HOST


async def test_who_answered_before_has_not_failed_where_nobody_waits_for_it() -> None:
    memory = Remembered()
    for known in (True, False):
        budget, began = DialBudget(memory=memory), asyncio.Event()
        if known:
            await succeed(budget, at(80))

        async def dial_long(budget: DialBudget = budget, began: asyncio.Event = began) -> None:
            async with budget.dial(at(80), NODE):
                began.set()
                await asyncio.Event().wait()

        dialling = asyncio.create_task(dial_long())
        await began.wait()
        dialling.cancel()
        await asyncio.wait([dialling])
        assert memory.notes == [((FAR, 80), NODE if known else None)]
        memory.notes.clear()


async def test_a_minute_later_there_are_dials_again() -> None:
    budget = DialBudget(spell_s=0.0)
    assert all([await fail(budget, at(80)) for _ in range(20)])


async def test_those_at_once_wait_for_one_another_and_do_not_count_as_failed() -> None:
    budget = DialBudget()
    release, inside = asyncio.Event(), asyncio.Queue[int]()

    async def dial(number: int) -> None:
        async with budget.dial(at(4000 + number), NODE):
            inside.put_nowait(number)
            await release.wait()

    dialling = [asyncio.create_task(dial(number)) for number in range(30)]
    for _ in range(MOST_AT_HOST):
        await inside.get()
    for _ in range(10):
        await asyncio.sleep(0)
    assert inside.empty()
    release.set()
    await asyncio.gather(*dialling)


async def test_one_that_is_given_up_counts_as_failed() -> None:
    budget = DialBudget()
    for _ in range(MOST_AT_ENDPOINT):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), budget.dial(at(80), NODE):
                await asyncio.Event().wait()
    assert not await fail(budget, at(80))


async def test_who_is_on_the_internet_does_not_dial_machines_of_its_own_site() -> None:
    budget = DialBudget(Reach.ANYWHERE)
    for near in ("127.0.0.1", "10.1.2.3", "192.168.0.9"):
        with pytest.raises(UnreachableError, match="not dialled from here"):
            await succeed(budget, at(80, near))
    with pytest.raises(UnreachableError, match="not dialled from here"):
        await succeed(budget, "/dns4/localhost/tcp/80/tls")
    await succeed(budget, at(80, "9.9.9.9"))
    site = DialBudget(Reach.SITE)
    await succeed(site, at(80, "10.1.2.3"))
    with pytest.raises(UnreachableError):
        await succeed(site, at(80, NEAR))
    for wrong in ("/ip4/0.0.0.0/tcp/80/tls", "/ip4/224.0.0.1/tcp/80/tls", "/ip4/127.0.0.1/tcp/0/tls", "nonsense"):
        with pytest.raises(MalformedError):
            await succeed(site, wrong)


async def test_how_far_a_ledger_reaches_follows_from_its_address() -> None:
    assert await reach_of_url("http://127.0.0.1:8080") is Reach.MACHINE
    assert await reach_of_url("http://localhost:8080") is Reach.MACHINE
    assert await reach_of_url("https://10.0.0.7") is Reach.SITE
    assert await reach_of_url("https://9.9.9.9") is Reach.ANYWHERE


@contextmanager
def listening() -> Iterator[int]:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(128)
        yield door.getsockname()[1]


async def test_a_victim_that_answers_as_somebody_else_is_dialled_four_times() -> None:
    budget = DialBudget()
    with listening() as port:
        accepted = 0

        async def connect(address: str, public_key: bytes) -> None:
            nonlocal accepted
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            accepted += 1
            writer.close()
            raise UnreachableError("another peer answers")

        for _ in range(50):
            with pytest.raises(UnreachableError):
                await budget.within(connect)(at(port), bytes(33))  # type: ignore[arg-type]
    assert accepted == MOST_AT_ENDPOINT
