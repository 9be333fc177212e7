"""Who was paid on a ledger: what it says, after a restart too, and what a replay finds of a false word."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledger_world import (
    CLIENT,
    MILLION,
    OPERATOR,
    PROVIDERS,
    HandClock,
    ledger_settings,
    make_session,
    settle,
)
from sqlalchemy import update

from node.ledger import LedgerClient, LedgerSettings, run_ledger, schema, verify_database, wire
from protocol.errors import MalformedError


@pytest.mark.asyncio
async def test_who_was_paid_in_how_many_sessions(settings: LedgerSettings) -> None:
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 100 * MILLION)
        assert await client.providers() == {}
        for salt, amounts in enumerate([(5, 0, 0), (5, 6, 0), (7, 0, 0)]):
            session = make_session(salt=salt)
            await client.open(session, CLIENT)
            await client.submit(settle(client.domain, session, *amounts), CLIENT)
            # Paid more in the same session, which counts once.
            await client.submit(settle(client.domain, session, *(amount * 2 for amount in amounts)), CLIENT)
        assert await client.providers() == {PROVIDERS[0].address: 3, PROVIDERS[1].address: 1}
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        assert list((await client.providers()).values()) == [3, 1]  # most sessions first, as before the restart
        session = make_session(salt=9)
        await client.open(session, CLIENT)
        await client.submit(settle(client.domain, session, 1, 1, 1), CLIENT)
        assert [(await client.providers())[key.address] for key in PROVIDERS] == [4, 2, 1]
    assert (await verify_database(settings.url.render_as_string(hide_password=False))).fault is None


@pytest.mark.asyncio
async def test_the_list_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.ledger.paid.MAX_PROVIDERS", 2)
    async with (
        run_ledger(ledger_settings(tmp_path), OPERATOR, HandClock()) as ledger,
        LedgerClient(ledger.url) as client,
    ):
        await client.faucet(CLIENT.address, 10 * MILLION)
        session = make_session()
        await client.open(session, CLIENT)
        await client.submit(settle(client.domain, session, 1, 2, 3), CLIENT)
        assert len(await client.providers()) == 2
    with pytest.raises(MalformedError):
        wire.providers_from_json([{"address": "0x" + "11" * 20, "sessions": "1", "since": "1"}] * 1_001)


@pytest.mark.asyncio
async def test_a_false_count_in_the_database_is_found(tmp_path: Path) -> None:
    settings = ledger_settings(tmp_path)
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 10 * MILLION)
        session = make_session()
        await client.open(session, CLIENT)
        await client.submit(settle(client.domain, session, 1, 0, 0), CLIENT)
    engine = schema.make_engine(settings.url, writer=True)
    async with engine.begin() as connection:
        await connection.execute(update(schema.providers).values(sessions=50))
    await engine.dispose()
    report = await verify_database(settings.folder / "ledger.sqlite3")
    assert report.fault is not None
    assert "who was paid" in report.fault.reason
