"""A ledger holds few of its sessions in memory: what it has let go of is as good as what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ledger_process import started_ledger
from ledger_world import (
    CLIENT,
    MILLION,
    OPERATOR,
    PROVIDERS,
    STRANGER,
    HandClock,
    close,
    ledger_settings,
    make_session,
    open_session,
    release,
    settle,
    withdraw,
)
from sqlalchemy import text

from node.ledger import LedgerClient, LedgerSettings, published, run_ledger, schema, verify_database, working_copy
from node.ledger.store import Store
from protocol.errors import RuleError
from protocol.session.messages import session_id


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ledgers that hold two sessions."""
    monkeypatch.setattr(published, "_SESSIONS", 2)
    monkeypatch.setattr(working_copy, "_SESSIONS", 2)


@pytest.mark.asyncio
@pytest.mark.usefixtures("forgetful")
async def test_a_forgotten_session_is_settled_released_closed_and_read(settings: LedgerSettings) -> None:
    clock = HandClock()
    sessions = [make_session(salt=salt, cap=1000) for salt in range(8)]
    async with run_ledger(settings, OPERATOR, clock) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, MILLION)
        await client.faucet(STRANGER.address, MILLION)
        evidence = [await client.open(session, CLIENT) for session in sessions]
        await client.check_opened(sessions[0], evidence[0])
        first, second, third, *_ = sessions
        await client.submit(settle(client.domain, first, 10, 0, 0), CLIENT)
        await client.submit(release(client.domain, second, [0, 0, 0]), CLIENT)
        found = await client.session(session_id(third))
        assert found is not None
        assert found.reserved == 3000
        found = await client.session(session_id(first))
        assert found is not None
        assert found.settled == (10, 0, 0)
        with pytest.raises(RuleError) as refused:
            await client.submit(settle(client.domain, first, 10, 0, 0), CLIENT)
        assert refused.value.code == "settled"
        clock.now = third.expiry + 3601
        await client.submit(close(third), STRANGER)
        assert await client.session(session_id(third)) is None  # forgotten by the rules, too
        assert await client.session(bytes(32)) is None
    assert (await verify_database(settings.url.render_as_string(hide_password=False))).fault is None


@pytest.mark.asyncio
@pytest.mark.usefixtures("forgetful")
async def test_the_very_same_session_never_opens_twice(tmp_path: Path) -> None:
    """Not while it runs, not when it is closed and forgotten, not after a restart, and not after its expiry."""
    clock, settings = HandClock(), ledger_settings(tmp_path)
    session = make_session(cap=1000)

    async def refused(client: LedgerClient) -> str:
        with pytest.raises(RuleError) as error:
            await client.submit(open_session(session), CLIENT)
        return error.value.code

    async with run_ledger(settings, OPERATOR, clock) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, MILLION)
        await client.open(session, CLIENT)
        assert await refused(client) == "exists"
        await client.submit(release(client.domain, session, [0, 0, 0]), CLIENT)
        for salt in range(1, 6):
            await client.open(make_session(salt=salt, cap=1000), CLIENT)
        assert await refused(client) == "exists"
    async with run_ledger(settings, OPERATOR, clock) as ledger, LedgerClient(ledger.url) as client:
        assert await refused(client) == "exists"
        clock.now = session.expiry  # from here on the rules refuse it without looking
        assert await refused(client) == "expiry"


@pytest.mark.asyncio
async def test_a_database_that_does_not_answer_costs_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what names a session that has to be looked up is refused, and the ledger goes on."""
    settings = ledger_settings(tmp_path)
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 10 * MILLION)
        session = make_session()
        await client.open(session, CLIENT)

        async def unreadable(_store: Store, _wanted: Any) -> Any:
            raise working_copy._damaged("a session cannot be read")

        with monkeypatch.context() as patched:
            patched.setattr(Store, "sessions", unreadable)
            with pytest.raises(Exception, match="cannot be read"):
                await client.open(make_session(salt=1), CLIENT)
            await client.submit(withdraw(1), CLIENT)
            await client.submit(settle(client.domain, session, 1, 1, 1), CLIENT)  # this one is held
        await client.open(make_session(salt=1), CLIENT)
    assert (await verify_database(tmp_path / "ledger.sqlite3")).fault is None


@pytest.mark.asyncio
async def test_many_closed_sessions_are_not_loaded_at_start(tmp_path: Path) -> None:
    """200,000 of them: as quick a start, and as little memory, as without."""
    settings = ledger_settings(tmp_path)
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 10 * MILLION)
        session = make_session()
        await client.open(session, CLIENT)
        await client.submit(settle(client.domain, session, 1, 0, 0), CLIENT)
        await client.submit(release(client.domain, session, [0, 0, 0]), PROVIDERS[0])
    async with started_ledger(tmp_path) as process:
        before = process.resident_mib()
    engine = schema.make_engine(settings.url, writer=True)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) "
                "INSERT INTO sessions SELECT CAST(printf('%032d', i) AS BLOB), data, settled, settled, "
                "1900000000, opened, entry FROM sessions, n"
            )
        )
    await engine.dispose()
    async with started_ledger(tmp_path) as process, LedgerClient(process.url) as client:
        assert (await client.session(session_id(session))) is not None
        assert process.resident_mib() < before + 10
