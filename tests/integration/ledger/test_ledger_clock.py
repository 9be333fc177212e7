"""A ledger whose clock jumps: nothing is dated far ahead without the operator's word, and nothing is lost by that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from ledger_world import CLIENT, MILLION, OPERATOR, HandClock, ledger_settings, make_session, open_session, withdraw

from node.events import ClockAhead, ClockBehind, ClockRight, Event
from node.ledger import LedgerClient, run_ledger, verify_database
from node.ledger.timekeeper import LONGEST_REST_S, MOST_AHEAD_S, steady_seconds
from protocol.errors import RuleError, UnreachableError

DAY_S = 24 * 3600


@dataclass
class Steady:
    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.asyncio
async def test_a_jump_for_one_operation_costs_nobody_anything(tmp_path: Path) -> None:
    """200 days ahead: refused as long as it lasts, and sessions open as before when the clock is right again."""
    clock, steady, told = HandClock(), Steady(), list[Event]()
    settings = ledger_settings(tmp_path)
    async with (
        run_ledger(settings, OPERATOR, clock, steady=steady, events=told.append) as ledger,
        LedgerClient(ledger.url) as client,
    ):
        await client.faucet(CLIENT.address, 10 * MILLION)
        right = clock.now
        clock.now += 200 * DAY_S
        for attempt in (client.submit(withdraw(1), CLIENT), client.faucet(CLIENT.address, 1)):
            with pytest.raises(UnreachableError, match=r"200\.0 days ahead") as refused:
                await attempt
            assert refused.value.code == "clock"
            assert "--accept-clock" in refused.value.hint
        assert [type(event) for event in told] == [ClockAhead]
        await client.account(CLIENT.address)  # readers are served
        clock.now = right + 60
        steady.seconds += 60
        session = make_session(expiry=clock.now + 600)
        await client.open(session, CLIENT)
        assert [type(event) for event in told] == [ClockAhead, ClockRight]
        # Real time, and what time servers correct at once, is no jump.
        clock.now += 3 * DAY_S + MOST_AHEAD_S
        steady.seconds += 3 * DAY_S
        await client.submit(withdraw(1), CLIENT)
        clock.now += MOST_AHEAD_S + 1
        with pytest.raises(UnreachableError):
            await client.submit(withdraw(1), CLIENT)
    assert (await verify_database(tmp_path / "ledger.sqlite3")).fault is None


@pytest.mark.asyncio
async def test_a_clock_that_is_set_back_is_told_and_goes_on(tmp_path: Path) -> None:
    clock, steady, told = HandClock(), Steady(), list[Event]()
    async with (
        run_ledger(ledger_settings(tmp_path), OPERATOR, clock, steady=steady, events=told.append) as ledger,
        LedgerClient(ledger.url) as client,
    ):
        await client.faucet(CLIENT.address, 10 * MILLION)
        last = clock.now
        clock.now -= DAY_S
        assert (await client.submit(withdraw(1), CLIENT)).entry.time == last
        assert [type(event) for event in told] == [ClockBehind]
        with pytest.raises(RuleError) as refused:  # by the last entry it has expired
            await client.submit(open_session(make_session(expiry=last)), CLIENT)
        assert refused.value.code == "expiry"
        clock.now = last + 10  # set right again: no jump
        steady.seconds += 10
        assert (await client.submit(withdraw(1), CLIENT)).entry.time == clock.now
        assert [type(event) for event in told] == [ClockBehind, ClockRight]


@pytest.mark.asyncio
async def test_a_rest_is_no_jump_and_a_very_long_one_takes_the_operators_word(tmp_path: Path) -> None:
    clock, settings = HandClock(), ledger_settings(tmp_path)
    async with run_ledger(settings, OPERATOR, clock, steady=Steady()) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 10 * MILLION)
    clock.now += LONGEST_REST_S
    async with run_ledger(settings, OPERATOR, clock, steady=Steady()) as ledger, LedgerClient(ledger.url) as client:
        await client.submit(withdraw(1), CLIENT)
    last, told = clock.now, list[Event]()
    clock.now += LONGEST_REST_S + 1
    async with (
        run_ledger(settings, OPERATOR, clock, steady=Steady(), events=told.append) as ledger,
        LedgerClient(ledger.url) as client,
    ):
        with pytest.raises(UnreachableError, match="days ahead"):
            await client.submit(withdraw(1), CLIENT)
        assert [type(event) for event in told] == [ClockAhead]
        clock.now = last + DAY_S  # it was the clock
        await client.submit(withdraw(1), CLIENT)
    clock.now += LONGEST_REST_S + 1
    async with (
        run_ledger(settings, OPERATOR, clock, steady=Steady(), accept_clock=True) as ledger,
        LedgerClient(ledger.url) as client,
    ):
        assert (await client.submit(withdraw(1), CLIENT)).entry.time == clock.now  # it was the rest


def test_the_steady_clock_rises() -> None:
    assert steady_seconds() <= steady_seconds()
