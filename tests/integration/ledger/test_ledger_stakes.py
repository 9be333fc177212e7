"""Stakes, proofs, notices and forgetting on a ledger that runs, as its clients and its verifier see them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_world import (
    CLIENT,
    MILLION,
    NOW,
    OPERATOR,
    PROVIDERS,
    STRANGER,
    HandClock,
    checkpoint_of,
    deposit,
    equivocation,
    ledger_settings,
    lying_ledger,
    make_session,
    notice,
    receipt_of,
    release,
    settle,
    slash,
    stake,
    unbond,
    unstake,
    withdraw,
)
from sqlalchemy import select

from node.ledger import LedgerClient, LedgerSettings, run_ledger, schema, verify_database
from protocol.errors import ConfigurationError, DishonestError, RuleError
from protocol.log.checkpoint import check_operator_line, own_note
from protocol.log.note import VerifierKey
from protocol.session.messages import session_id
from protocol.settlement import Change

LIAR = PROVIDERS[1]
WEEK_S = 7 * 24 * 3600


async def verified(settings: LedgerSettings) -> int:
    """What is burned on a ledger that is sound."""
    report = await verify_database(settings.url.render_as_string(hide_password=False))
    assert report.fault is None
    assert report.held == report.deposited - report.withdrawn - report.books.burned
    return report.books.burned


@pytest.mark.asyncio
async def test_a_stake_is_kept_lost_and_proven(settings: LedgerSettings) -> None:
    session = make_session()
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        for key in (CLIENT, STRANGER, LIAR):
            await client.faucet(key.address, 10 * MILLION)
        await client.open(session, CLIENT)
        await client.submit(stake(1_001), LIAR)
        await client.submit(unstake(1), LIAR)
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        found = await client.account(LIAR.address)
        assert (found.bond, found.unbonding, found.unlock_at) == (1_000, 1, NOW + WEEK_S)
        with pytest.raises(RuleError) as early:
            await client.submit(unbond(), LIAR)
        assert early.value.code == "early"
        free = (await client.account(STRANGER.address)).free
        one, two = (receipt_of(client.domain, session, 1, rows=rows) for rows in (13, 14))
        with pytest.raises(RuleError) as nothing:
            await client.submit(slash(one, one), STRANGER)
        assert nothing.value.code == "proof"
        proven = await client.submit(slash(one, two), STRANGER)
        assert proven.entry.burned == 501
        found = await client.account(LIAR.address)
        assert (found.bond, found.unbonding, found.unlock_at) == (0, 0, 0)
        assert (await client.account(STRANGER.address)).free == free + 500 - 1
        with pytest.raises(RuleError) as again:
            await client.submit(slash(one, two), STRANGER)
        assert again.value.code == "nothing-staked"
    assert await verified(settings) == 501


@pytest.mark.asyncio
async def test_an_operator_answers_with_its_bond_in_its_own_ledger(settings: LedgerSettings) -> None:
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(STRANGER.address, MILLION)
        await client.submit(deposit(OPERATOR, 10), OPERATOR)
        await client.submit(stake(10), OPERATOR)
        pair = checkpoint_of(client.domain, OPERATOR), checkpoint_of(client.domain, OPERATOR, root=bytes(32))
        await client.submit(equivocation(client.domain, *pair), STRANGER)
        assert (await client.account(OPERATOR.address)).bond == 0
    assert await verified(settings) == 5


@pytest.mark.asyncio
async def test_rules_change_after_a_notice_that_everybody_sees(tmp_path: Path) -> None:
    clock, settings = HandClock(), ledger_settings(tmp_path, notice_s=100, faucet_limit=10)
    change = Change(effective=NOW + 100, fee=3, faucet_limit=4, bond_multiple=2)
    async with run_ledger(settings, OPERATOR, clock) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 6)
        assert (await client.info()).coming is None
        await client.submit(notice(NOW + 100, fee=3, faucet_limit=4, bond_multiple=2), OPERATOR)
        info = await client.info()
        assert (info.fee, info.coming) == (1, change)
        assert (await client.rules()).fee == 1
    clock.now = NOW + 99
    async with run_ledger(settings, OPERATOR, clock) as ledger, LedgerClient(ledger.url) as client:
        assert (await client.info()).coming == change
        await client.submit(withdraw(1), CLIENT)
        clock.now = NOW + 100
        await client.submit(withdraw(1), CLIENT)
        assert (await client.account(CLIENT.address)).free == 6 - 2 - 1 - 3
        assert (await client.rules()).fee == 3  # known since the notice
        assert (await client.info()).rules == (await client.connect())
        with pytest.raises(RuleError) as too_much:
            await client.faucet(STRANGER.address, 5)
        assert too_much.value.code == "faucet"
        await client.faucet(STRANGER.address, 4)
    for said in (settings, replace(settings, fee=3, faucet_limit=4, bond_multiple=2)):
        async with run_ledger(said, OPERATOR, clock) as ledger, LedgerClient(ledger.url) as client:
            info = await client.info()
            assert (info.fee, info.faucet_limit, info.bond_multiple, info.coming) == (3, 4, 2, None)
    with pytest.raises(ConfigurationError, match=r"fee 0\.000003, not 0\.000002") as refused:
        async with run_ledger(replace(settings, fee=2), OPERATOR, clock):
            pass
    assert "joule ledger notice" in refused.value.hint
    assert await verified(settings) == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(("name", "to"), [("rules", "genesis"), ("notice", "genesis"), ("genesis", "rules")])
async def test_rules_that_no_entry_says_are_found_out(tmp_path: Path, name: str, to: str) -> None:
    """An answer that shows another entry for the rules in force, or for those to come, is refused."""
    clock, settings = HandClock(), ledger_settings(tmp_path, notice_s=0)

    def swapped(body: bytes) -> bytes:
        said = json.loads(body)
        return json.dumps({**said, name: said[to]}).encode()

    async with run_ledger(settings, OPERATOR, clock) as ledger, LedgerClient(ledger.url) as client:
        await client.submit(notice(NOW, fee=3), OPERATOR)
        await client.submit(deposit(CLIENT, 9), OPERATOR)
        await client.submit(notice(NOW + 9, fee=4), OPERATOR)
        async with lying_ledger(ledger.url, {"/info": swapped}) as url, LedgerClient(url) as reader:
            with pytest.raises(DishonestError):
                await reader.connect()
        async with LedgerClient(ledger.url) as reader:
            assert (await reader.connect()).fee == 3


@pytest.mark.asyncio
async def test_a_session_that_is_over_leaves_the_tables(settings: LedgerSettings) -> None:
    clock, session = HandClock(), make_session(cap=1_000)
    held = make_session(cap=1_000, salt=1)
    async with run_ledger(settings, OPERATOR, clock) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, MILLION)
        await client.open(session, CLIENT)
        await client.open(held, CLIENT)
        await client.submit(settle(client.domain, session, 10, 0, 0), CLIENT)
        await client.submit(release(client.domain, session, [0, 0, 0]), CLIENT)
        clock.now = session.expiry + settings.grace_s
        await client.faucet(CLIENT.address, 1)
        found = await client.session(session_id(session))
        assert found is not None
        assert found.closed
        clock.now += 1
        await client.faucet(CLIENT.address, 1)
        assert await client.session(session_id(session)) is None
        assert await client.session(session_id(held)) is not None
        assert await stored_sessions(settings) == {session_id(held)}
    assert await verified(settings) == 0


@pytest.mark.asyncio
async def test_a_session_is_not_forgotten_before_its_time(settings: LedgerSettings) -> None:
    session = make_session(cap=1_000)
    unknown = b'{"error": "RefusedError", "code": "unknown-session", "message": "no such session", "hint": ""}'
    lies = {f"/session/{session_id(session).hex()}": lambda _body: unknown}
    async with (
        run_ledger(settings, OPERATOR, HandClock()) as ledger,
        lying_ledger(ledger.url, lies, status=404) as url,
        LedgerClient(url) as client,
    ):
        await client.faucet(CLIENT.address, MILLION)
        await client.open(session, CLIENT)
        with pytest.raises(DishonestError, match="names entry None"):
            await client.session(session_id(session))


async def stored_sessions(settings: LedgerSettings) -> set[bytes]:
    engine = schema.make_engine(settings.url, writer=False)
    async with engine.connect() as connection:
        rows = await connection.execute(select(schema.sessions.c.session))
        found = {bytes(row.session) for row in rows}
    await engine.dispose()
    return found


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/info", "/account"])
async def test_a_history_without_the_operators_word_is_not_taken(path: str, tmp_path: Path) -> None:
    """An operator that left it out where he shows another history would keep his stake."""
    lies: dict[str, Callable[[bytes], bytes]] = {}

    def bare(body: bytes) -> bytes:
        said = json.loads(body)
        key = VerifierKey.parse(ledger.verifier_key)
        said["checkpoint"] = own_note(said["checkpoint"].encode(), key).decode()
        return json.dumps(said).encode()

    async with (
        run_ledger(ledger_settings(tmp_path), OPERATOR, HandClock()) as ledger,
        lying_ledger(ledger.url, lies) as url,
        LedgerClient(url) as reader,
        LedgerClient(ledger.url) as right,
    ):
        if path != "/info":
            await reader.connect()
        lies[path] = bare
        with pytest.raises(DishonestError, match="has not signed with its account's key"):
            await reader.account(CLIENT.address)
        await right.connect()
        assert right.note is not None
        assert right.operator is not None
        assert check_operator_line(right.note, right.operator) is not None
        assert (await right.account(CLIENT.address)).free == 0
