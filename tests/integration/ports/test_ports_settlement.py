"""`node.ports.Settlement`, of all kinds: a client of a real ledger, a contract on a real chain, and the one in memory
of the pipeline's tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from anvil_chain import Chain, running_chain, why_no_anvil
from chain_venue import make_market
from ledger_world import (
    CLIENT,
    FEE,
    MILLION,
    NOW,
    OPERATOR,
    PROVIDERS,
    STRANGER,
    HandClock,
    discharge_of,
    ledger_settings,
    make_session,
    voucher_of,
)
from rpc_door import door_to
from small_market import GRACE_S, MemoryLedger

from node.ledger import LedgerClient, run_ledger
from node.ports import Settlement, VenueRules
from protocol.errors import DishonestError, PeerError, RefusedError, RuleError, UnreachableError
from protocol.session.messages import session_id

pytestmark = pytest.mark.asyncio
ON_CHAIN = pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil())

MONEY = 10 * MILLION
SESSION = make_session()
CAPS = sum(leg.cap for leg in SESSION.legs)


@dataclass(slots=True)
class Venue:
    """A settlement venue where the client has money, and what a test does to it from outside."""

    settlement: Settlement
    clock: HandClock
    take_down: Callable[[], Awaitable[None]]
    fee: int = FEE
    slack_s: int = 0
    """Seconds that its clock may be off: a chain's next block has its own time."""
    needs_nobody: bool = True
    """Whether evidence alone shows that a session is open."""


class ChainClock(HandClock):
    """Moves a chain's time with it."""

    chain: Chain

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name == "now" and hasattr(self, "chain"):
            self.chain.ask("evm_mine", {"timestamp": value})


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with running_chain() as running:
        yield running


@pytest_asyncio.fixture(params=["memory", "ledger", pytest.param("chain", marks=ON_CHAIN)])
async def venue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Venue]:
    clock = HandClock()
    if request.param == "memory":
        memory = MemoryLedger(clock)
        memory.deposit(CLIENT, MONEY)

        async def down() -> None:
            memory.down = True

        yield Venue(memory, clock, down)
        return
    if request.param == "chain":
        async with chain_venue(request.getfixturevalue("chain"), tmp_path) as found:
            yield found
        return
    async with AsyncExitStack() as running:
        settings = ledger_settings(tmp_path, grace_s=GRACE_S)
        ledger = await running.enter_async_context(run_ledger(settings, OPERATOR, clock))
        async with LedgerClient(ledger.url) as client:
            await client.connect()
            await client.faucet(CLIENT.address, MONEY)
            yield Venue(client, clock, running.aclose)


@asynccontextmanager
async def chain_venue(chain: Chain, folder: Path) -> AsyncIterator[Venue]:
    before = chain.ask("evm_snapshot")
    market, clock = make_market(chain, grace_s=GRACE_S), ChainClock()
    clock.chain = chain
    clock.now = NOW - 60
    market.endow(CLIENT, MONEY)
    market.endow(STRANGER)
    with door_to(chain.url) as door:
        async with market.venue(folder, clock, url=door.url) as settlement:

            async def down() -> None:
                door.close()

            await settlement.deposit(MONEY, CLIENT)
            yield Venue(settlement, clock, down, fee=0, slack_s=30, needs_nobody=False)
    chain.ask("evm_revert", before)


async def free(venue: Venue) -> int:
    return (await venue.settlement.account(CLIENT.address)).free


async def test_the_rules_are_fixed(venue: Venue) -> None:
    assert await venue.settlement.rules() == VenueRules(grace_s=GRACE_S, fee=venue.fee)


async def test_an_open_session_reserves_its_caps_and_shows_it(venue: Venue) -> None:
    settlement = venue.settlement
    assert await settlement.session(session_id(SESSION)) is None
    evidence = await settlement.open(SESSION, CLIENT)
    await settlement.check_opened(SESSION, evidence)
    for other in (make_session(salt=1), make_session(client=STRANGER)):
        with pytest.raises(DishonestError):
            await settlement.check_opened(other, evidence)
    for damaged in (evidence[:-1], evidence[:-40] + bytes(40), b""):
        with pytest.raises(PeerError):
            await settlement.check_opened(SESSION, damaged)
    record = await settlement.session(session_id(SESSION))
    assert record is not None
    assert (record.settled, record.reserved) == ((0, 0, 0), CAPS)
    assert await free(venue) == MONEY - CAPS - venue.fee


async def test_a_session_is_opened_once_and_only_with_money(venue: Venue) -> None:
    await venue.settlement.open(SESSION, CLIENT)
    with pytest.raises(RuleError):
        await venue.settlement.open(SESSION, CLIENT)
    with pytest.raises(RuleError):
        await venue.settlement.open(make_session(client=STRANGER), STRANGER)
    assert await free(venue) == MONEY - CAPS - venue.fee


async def test_vouchers_are_paid_once_and_the_greater_of_each_amount(venue: Venue) -> None:
    settlement, (one, two, _) = venue.settlement, PROVIDERS
    opened = await settlement.open(SESSION, CLIENT)
    first = voucher_of(settlement.domain, SESSION, 10, 5, 7)
    await settlement.settle((first,), CLIENT)
    with pytest.raises(RuleError) as again:
        await settlement.settle((first,), CLIENT)
    assert again.value.code == "settled"
    await settlement.settle((voucher_of(settlement.domain, SESSION, 5, 10, 7),), CLIENT)
    record = await settlement.session(session_id(SESSION))
    assert record is not None
    assert record.settled == (10, 10, 7)
    assert [(await settlement.account(key.address)).free for key in (one, two)] == [10, 10]
    assert await settlement.evidence(session_id(SESSION)) != opened


async def test_what_a_leg_gives_up_returns_at_once(venue: Venue) -> None:
    settlement = venue.settlement
    await settlement.open(SESSION, CLIENT)
    words = tuple(discharge_of(settlement.domain, SESSION, leg, 4) for leg in (0, 2))
    await settlement.release(words, CLIENT)
    record = await settlement.session(session_id(SESSION))
    assert record is not None
    assert record.ceilings == (4, MILLION, 4)
    assert await free(venue) == MONEY - MILLION - 8 - 2 * venue.fee
    with pytest.raises(RuleError):
        await settlement.settle((voucher_of(settlement.domain, SESSION, 4, MILLION + 1, 4),), CLIENT)


async def test_the_rest_returns_after_the_grace_and_not_before(venue: Venue) -> None:
    settlement = venue.settlement
    await settlement.open(SESSION, CLIENT)
    await settlement.settle((voucher_of(settlement.domain, SESSION, 1, 2, 3),), CLIENT)
    end = SESSION.expiry + GRACE_S
    for now in (NOW, SESSION.expiry + 1, end - venue.slack_s):
        venue.clock.now = now
        with pytest.raises(RuleError):
            await settlement.close(session_id(SESSION), CLIENT)
    venue.clock.now = end + 1 + venue.slack_s
    await settlement.close(session_id(SESSION), CLIENT)
    assert await free(venue) == MONEY - 6 - 3 * venue.fee
    record = await settlement.session(session_id(SESSION))
    assert record is None or record.closed  # a venue may forget what is over and too old to be opened again


async def test_a_venue_that_is_away_is_unreachable_for_every_question(venue: Venue) -> None:
    settlement = venue.settlement
    opened = await settlement.open(SESSION, CLIENT)
    await venue.take_down()
    for asking in (
        settlement.account(CLIENT.address),
        settlement.session(session_id(SESSION)),
        settlement.evidence(session_id(SESSION)),
        settlement.open(make_session(salt=2), CLIENT),
        settlement.close(session_id(SESSION), CLIENT),
    ):
        with pytest.raises(UnreachableError):
            await asking
    if venue.needs_nobody:
        await settlement.check_opened(SESSION, opened)
        return
    with pytest.raises(RefusedError):
        await settlement.check_opened(SESSION, opened)
