"""Two front ends of one PostgreSQL ledger: reads at both, and what becomes of them when the writer dies or stops."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from heard_events import Heard
from ledger_fronts import Fronts
from ledger_load import KEYS, Load, require_each_once
from ledger_world import (
    CLIENT,
    MILLION,
    OPERATOR,
    PROVIDERS,
    HandClock,
    ledger_settings,
    make_session,
    settle,
    withdraw,
)
from postgres_server import PostgresServer
from sqlalchemy import text, update

from node.events import StandingBy, TookOver
from node.ledger import LedgerClient, LedgerSettings, following, run_ledger, schema, verify_database, verify_url
from protocol.encoding.codec import encode
from protocol.errors import ConfigurationError, KeystoreError, LocalError, UnreachableError
from protocol.log.checkpoint import parse_checkpoint
from protocol.log.note import parse_note
from protocol.session.messages import session_id
from protocol.settlement.operations import Withdraw, sign_op

TAKEN_OVER_S = 5.0


@pytest_asyncio.fixture
async def fronts(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[Fronts]:
    async with Fronts(tmp_path, postgres.empty_database()) as fronts:
        yield fronts


@pytest.mark.asyncio
async def test_the_other_takes_over_when_the_writer_is_killed_under_load(fronts: Fronts, tmp_path: Path) -> None:
    one = await fronts.start("one")
    other = await fronts.start("other")
    assert (await other.event("standing by", writer=one.url))["reason"] == "another front end writes"
    async with LedgerClient(f"{one.url},{other.url}", remembered=tmp_path / "remembered.json") as client:
        load = Load(client)
        await load.begin()
        await load.until(60)
        one.signal(signal.SIGKILL)
        killed, before = time.monotonic(), len(load.taken)
        await load.until(before + 1)
        assert time.monotonic() - killed < TAKEN_OVER_S
        await other.event("took over")
        await load.until(before + 60)
        await load.end()
        await require_each_once(load, fronts.database)


@pytest.mark.asyncio
async def test_a_writer_that_was_stopped_never_writes_again(fronts: Fronts, tmp_path: Path) -> None:
    """It is asked for an operation in the meantime, and does not know yet that it was replaced."""
    one = await fronts.start("one")
    other = await fronts.start("other")
    await other.event("standing by", writer=one.url)
    async with LedgerClient(one.url) as client:
        await client.faucet(CLIENT.address, MILLION)
        domain, before = client.domain, await client.checkpoint()
    one.signal(signal.SIGSTOP)
    await other.event("took over", size=before.size)
    asking = asyncio.create_task(post(one.url, sign_op(domain, CLIENT, own_withdrawal(7, nonce=9))))
    async with LedgerClient(other.url, remembered=tmp_path / "remembered.json") as client:
        taken = await client.submit(withdraw(1), CLIENT)
        newest = await client.checkpoint()
        one.forget()
        one.signal(signal.SIGCONT)
        status, code = await asking
        assert (status, code) in ((503, "ledger-stopped"), (503, "standby"))
        await one.event("standing by", writer=other.url)
    # What knows the newest checkpoint reads at the one that was stopped, and finds nothing else there.
    async with LedgerClient(one.url, remembered=tmp_path / "remembered.json") as client:
        assert await client.checkpoint() == newest
        assert (await client.entry(taken.index)).evidence == taken.evidence
        assert (await client.account(CLIENT.address)).nonce == 1
        with pytest.raises(UnreachableError, match="the writer is") as refused:
            await client.submit(withdraw(1), CLIENT)
        assert (refused.value.code, other.url in refused.value.message) == ("standby", True)
    assert (await verify_database(fronts.database)).fault is None
    other.signal(signal.SIGKILL)  # and it may take over in its turn
    await one.event("took over")
    async with LedgerClient(one.url, remembered=tmp_path / "remembered.json") as client:
        assert (await client.submit(withdraw(1), CLIENT)).index == newest.size


def own_withdrawal(amount: int, *, nonce: int) -> Withdraw:
    return Withdraw(actor=CLIENT.address, nonce=nonce, amount=amount, reference="")


async def post(url: str, signed: object) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.post(f"{url}/ops", data=encode(signed)) as response:
        return response.status, (await response.json()).get("code", "")


# In one process, with the clock of the test


@pytest.fixture
def both(tmp_path: Path, postgres: PostgresServer) -> tuple[LedgerSettings, LedgerSettings]:
    """Settings of two front ends; the second has no log key yet."""
    database = postgres.empty_database()
    one, other = (ledger_settings(tmp_path / name, database=database) for name in ("one", "other"))
    return one, other


async def change_database(settings: LedgerSettings, statement: Any) -> None:
    """Change a ledger's database behind its back."""
    engine = schema.make_engine(settings.url, writer=True)
    async with engine.begin() as connection:
        await connection.execute(statement)
    await engine.dispose()


def share_key(one: LedgerSettings, other: LedgerSettings) -> None:
    other.folder.mkdir(exist_ok=True)
    copied = other.folder / "log.key"
    copied.write_bytes((one.folder / "log.key").read_bytes())
    copied.chmod(0o600)


@pytest.mark.asyncio
async def test_a_standby_shows_whatever_a_reader_knows_of(both: tuple[LedgerSettings, LedgerSettings]) -> None:
    """Its answers are as new as the question: every one holds against what the writer has just shown."""
    one, other = both
    clock, session = HandClock(), make_session()
    async with run_ledger(one, OPERATOR, clock) as writer, LedgerClient(writer.url) as client:
        share_key(one, other)
        async with run_ledger(other, OPERATOR, clock) as standby, LedgerClient(standby.url) as reader:
            assert (writer.front.is_writer, standby.front.is_writer) == (True, False)
            await client.faucet(CLIENT.address, 100 * MILLION)
            await client.open(session, CLIENT)
            for amount in range(1, 15):
                proven = await client.submit(settle(client.domain, session, amount, 0, 0), CLIENT)
                await reader.compare(client.note or b"")
                found = await reader.session(session_id(session))
                assert found is not None
                assert found.settled == (amount, 0, 0)
                assert await reader.account(CLIENT.address) == await client.account(CLIENT.address)
                assert (await reader.entry(proven.index)).entry == proven.entry
            assert (await reader.account(PROVIDERS[0].address)).free == 14
            assert await reader.info() == await client.info()
            assert await reader.checkpoint() == await client.checkpoint()
            assert (await verify_url(standby.url)).books == (await verify_url(writer.url)).books
            for path in ("checkpoint", "tile/0/000.p/1", "accounts", "sessions"):
                assert await fetch(f"{standby.url}/{path}") == await fetch(f"{writer.url}/{path}")
            assert (await fetch_status(f"{standby.url}/account/0x{'00' * 20}?witnesses=1&by=00000000")) == 503
            with pytest.raises(UnreachableError) as refused:
                await reader.faucet(CLIENT.address, 1)
            assert refused.value.code == "standby"


async def fetch(url: str) -> bytes:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.status == 200
        return await response.read()


async def fetch_status(url: str) -> int:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return response.status


@pytest.mark.asyncio
async def test_the_writer_may_end_in_good_order_and_the_sequence_goes_on(
    both: tuple[LedgerSettings, LedgerSettings],
) -> None:
    one, other = both
    heard, clock = Heard(), HandClock()
    async with run_ledger(one, OPERATOR, clock) as writer, LedgerClient(writer.url) as client:
        share_key(one, other)
        await client.faucet(CLIENT.address, MILLION)
        async with run_ledger(other, OPERATOR, clock, events=heard, peers=["/ip4/127.0.0.1/tcp/2/p2p/B"]) as standby:
            told = await heard.until(StandingBy)
            assert isinstance(told, StandingBy)
            first = (await client.checkpoint()).size
            clock.now -= 1000  # the machine that takes over has a clock that is behind
            await writer.front.finish()
            took = await heard.until(TookOver)
            assert isinstance(took, TookOver)
            assert took.size == first
            async with LedgerClient(standby.url, verifier_key=client.verifier_key) as later:
                proven = await later.submit(withdraw(1), CLIENT)
                assert proven.index == first
                assert proven.entry.time == clock.now + 1000
                assert parse_checkpoint(parse_note(later.note or b"").text).size == first + 1


@pytest.mark.asyncio
async def test_a_database_that_is_set_back_stops_who_has_shown_more(
    both: tuple[LedgerSettings, LedgerSettings],
) -> None:
    """It would contradict itself. The same where one checkpoint is exchanged for another of its size."""
    one, other = both
    async with run_ledger(one, OPERATOR, HandClock()) as writer, LedgerClient(writer.url) as client:
        share_key(one, other)
        await client.faucet(CLIENT.address, MILLION)
        older = client.note
        async with run_ledger(other, OPERATOR, HandClock()) as standby, LedgerClient(standby.url) as reader:
            await client.faucet(CLIENT.address, 1)
            await reader.compare(client.note or b"")
            await change_database(one, update(schema.checkpoint).values(note=older))
            with pytest.raises(LocalError, match=r"changed by somebody else: it shows .* after") as stopped:
                await standby.wait()
            assert stopped.value.code == "ledger-damaged"


@pytest.mark.asyncio
async def test_a_session_that_the_server_ends_is_noticed_without_any_operation(
    both: tuple[LedgerSettings, LedgerSettings],
) -> None:
    heard = Heard()
    async with run_ledger(both[0], OPERATOR, HandClock(), events=heard) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, MILLION)
        await change_database(
            both[0], text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        )
        assert "does not answer" in (await heard.until(StandingBy)).reason
        await heard.until(TookOver)
        assert (await client.faucet(CLIENT.address, 1)).index == 2


@pytest.mark.asyncio
async def test_front_ends_outlive_a_restart_of_the_server(
    both: tuple[LedgerSettings, LedgerSettings], postgres: PostgresServer
) -> None:
    one, other = both
    first, second = Heard(), Heard()
    async with run_ledger(one, OPERATOR, HandClock(), events=first) as writer:
        share_key(one, other)
        async with (
            run_ledger(other, OPERATOR, HandClock(), events=second) as standby,
            LedgerClient(f"{writer.url},{standby.url}") as client,
        ):
            await client.faucet(CLIENT.address, MILLION)
            await second.until(StandingBy)
            await asyncio.to_thread(postgres.restart)
            await first.until(StandingBy)
            assert (await client.submit(withdraw(1), CLIENT)).index == 2
            assert {writer.front.is_writer, standby.front.is_writer} == {True, False}


@pytest.mark.asyncio
async def test_one_that_is_far_behind_reads_everything_anew(
    both: tuple[LedgerSettings, LedgerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_MOST_AT_ONCE", 2)
    one, other = both
    async with run_ledger(one, OPERATOR, HandClock()) as writer, LedgerClient(writer.url) as client:
        share_key(one, other)
        async with run_ledger(other, OPERATOR, HandClock()) as standby, LedgerClient(standby.url) as reader:
            await asyncio.gather(*(client.faucet(key.address, MILLION) for key in KEYS))
            await reader.compare(client.note or b"")
            assert {(await reader.account(key.address)).free for key in KEYS} == {MILLION}
            assert (await verify_url(standby.url)).fault is None


@pytest.mark.asyncio
async def test_a_second_front_end_is_started_like_the_first(both: tuple[LedgerSettings, LedgerSettings]) -> None:
    one, other = both
    async with run_ledger(one, OPERATOR, HandClock()):
        with pytest.raises(KeystoreError) as refused:
            async with run_ledger(other, OPERATOR, HandClock()):
                pass
        assert "copy it from another front end" in refused.value.hint
        share_key(one, other)
        for wrong, operator, says in ((replace(other, grace_s=1), OPERATOR, "grace"), (other, CLIENT, "operator")):
            with pytest.raises(ConfigurationError, match=says):
                async with run_ledger(wrong, operator, HandClock()):
                    pass
        async with run_ledger(other, OPERATOR, HandClock()):
            pass
