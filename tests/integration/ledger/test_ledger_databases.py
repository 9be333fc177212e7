"""The ledger on each kind of database: life, restart, group commit, one writer, and a fault at every write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from heard_events import Heard
from ledger_world import (
    CLIENT,
    MILLION,
    OPERATOR,
    PROVIDERS,
    HandClock,
    deposit,
    ledger_settings,
    make_session,
    open_session,
    release,
    settle,
    stake,
    withdraw,
)
from sqlalchemy import delete, inspect, text, update

from node.events import StandingBy, TookOver
from node.ledger import LedgerClient, LedgerSettings, run_ledger, schema, verify_database, verify_url
from node.ledger.rows import Batch
from node.ledger.sequencer import Sequencer
from node.ledger.store import Store
from protocol.errors import ConfigurationError, KeystoreError, LocalError, RuleError, UnreachableError
from protocol.identity.signing import SigningKey
from protocol.log.note import NoteKey
from protocol.session.messages import session_id
from protocol.settlement import MAX_MONEY, Account


def database_of(settings: LedgerSettings) -> str:
    return settings.url.render_as_string(hide_password=False)


async def change_database(settings: LedgerSettings, *statements: Any) -> None:
    """Change a ledger's database behind its back."""
    engine = schema.make_engine(settings.url, writer=True)
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(statement)
    await engine.dispose()


@pytest.mark.asyncio
async def test_life_of_a_session(settings: LedgerSettings) -> None:
    clock = HandClock()
    async with run_ledger(settings, OPERATOR, clock) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 10 * MILLION)
        session = make_session()
        evidence = await client.open(session, CLIENT)
        await client.check_opened(session, evidence)
        assert await client.account(CLIENT.address) == Account(7 * MILLION - 1, 1)
        clock.now += 5
        await client.submit(settle(client.domain, session, 200, 100, 0), PROVIDERS[1])
        settled = await client.submit(settle(client.domain, session, 150, 260, 40), CLIENT)
        assert settled.entry.time == clock.now
        found = await client.session(session_id(session))
        assert found is not None
        assert (found.session, found.settled, found.ceilings) == (session, (200, 260, 40), (MILLION,) * 3)
        released = await client.submit(release(client.domain, session, [200, 260, 40]), CLIENT)
        assert await client.evidence(session_id(session)) != evidence
        assert released.entry.sessions[0].ceilings == (200, 260, 40)
        found = await client.session(session_id(session))
        assert found is not None
        assert found.closed
        for provider, paid in zip(PROVIDERS, (200, 259, 40), strict=True):  # the second paid a fee to settle
            assert (await client.account(provider.address)).free == paid
        await client.submit(withdraw(100, "home"), PROVIDERS[0])
        assert (await client.account(PROVIDERS[0].address)).free == 99
        assert (await client.account(OPERATOR.address)).free == 5
        over_http = await verify_url(ledger.url)
    stored = await verify_database(database_of(settings))
    assert over_http.fault is None
    assert stored.fault is None
    assert stored.books == over_http.books
    assert (stored.deposited, stored.withdrawn, stored.held) == (10 * MILLION, 100, 10 * MILLION - 100)
    assert stored.fees == 5


@pytest.mark.asyncio
async def test_a_restarted_ledger_goes_on(settings: LedgerSettings) -> None:
    clock = HandClock()
    async with run_ledger(settings, OPERATOR, clock) as ledger, LedgerClient(ledger.url) as client:
        for _ in range(3):
            await client.faucet(CLIENT.address, MILLION)
        before, key = await client.checkpoint(), ledger.verifier_key
    clock.now -= 1000  # a clock that was set back must not take the log's time back
    async with run_ledger(settings, OPERATOR, clock) as ledger, LedgerClient(ledger.url, verifier_key=key) as client:
        assert await client.checkpoint() == before
        session = make_session(cap=MILLION // 2)
        await client.submit(open_session(session), CLIENT)
        with pytest.raises(RuleError) as refused:
            await client.submit(open_session(session), CLIENT)
        assert refused.value.code == "exists"
        assert (await verify_url(ledger.url)).fault is None


@pytest.mark.asyncio
async def test_many_submitters_share_commits(settings: LedgerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    commit = Store.commit

    async def counted(store: Store, batch: Batch) -> None:
        commits.append(len(batch.entries))
        await commit(store, batch)

    monkeypatch.setattr(Store, "commit", counted)
    keys = [SigningKey(number.to_bytes(32, "big")) for number in range(1, 65)]
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await client.connect()
        commits.clear()
        taken = await asyncio.gather(*(client.faucet(key.address, 1000) for key in keys for _ in range(3)))
        spent = await asyncio.gather(*(client.submit(withdraw(1), key) for key in keys))
        places = [each.index for each in [*taken, *spent]]
        assert sorted(places) == list(range(1, 1 + 4 * len(keys)))
        assert sum(commits) == len(places)
        assert len(commits) < len(places) // 4
        report = await verify_url(ledger.url)
    assert report.fault is None
    assert all(report.books.account(key.address) == Account(2998, 1) for key in keys)


@pytest.mark.asyncio
async def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    settings = ledger_settings(tmp_path / "ledger")
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger:
        with pytest.raises(LocalError) as refused:
            async with run_ledger(settings, OPERATOR, HandClock()):
                pass
        assert refused.value.code == "ledger-locked"
        assert "joule ledger run" in refused.value.hint
        async with LedgerClient(ledger.url) as client:  # the first one is none the worse
            await client.faucet(CLIENT.address, 1)
    async with run_ledger(settings, OPERATOR, HandClock()):
        pass


STEPS = ["_write_entries", "_write_tiles", "_write_state", "_write_checkpoint"]


def failing_after(step: str) -> Callable[..., Any]:
    real = getattr(Store, step)

    async def fail(store: Store, connection: Any, batch: Batch) -> None:
        await real(store, connection, batch)
        raise OSError(28, f"no space left, after {step}")

    return fail


@pytest.mark.asyncio
@pytest.mark.parametrize("step", STEPS)
async def test_a_fault_at_any_write_leaves_nothing_behind(
    settings: LedgerSettings, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    run = run_ledger(settings, OPERATOR, HandClock(), events=heard)
    async with run as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, MILLION)
        before = await client.checkpoint()
        with monkeypatch.context() as patch:
            patch.setattr(Store, step, failing_after(step))
            answers = await asyncio.gather(
                *(client.faucet(CLIENT.address, 1) for _ in range(5)), return_exceptions=True
            )
        assert all(isinstance(answer, UnreachableError) for answer in answers)
        if settings.database is None:
            with pytest.raises(LocalError, match="no space left"):
                await ledger.wait()
            with pytest.raises(UnreachableError) as refused:  # stopped for good, though the fault is over
                await client.faucet(CLIENT.address, 1)
            assert refused.value.code == "ledger-stopped"
        else:  # of several front ends the next one writes, which may be the same
            await heard.until(TookOver)
            assert await client.checkpoint() == before
    assert (await verify_database(database_of(settings))).fault is None
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        assert await client.checkpoint() == before
        await client.faucet(CLIENT.address, 5)
        assert await client.account(CLIENT.address) == Account(MILLION + 5, 0)


@pytest.mark.asyncio
async def test_nothing_is_written_under_an_older_term(settings: LedgerSettings) -> None:
    """Whatever has become of its lock: who was replaced replaces no checkpoint."""
    heard = Heard()
    run = run_ledger(settings, OPERATOR, HandClock(), events=heard)
    async with run as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, MILLION)
        before = await client.checkpoint()
        await change_database(settings, update(schema.checkpoint).values(term=schema.checkpoint.c.term + 1))
        with pytest.raises(UnreachableError, match="another process writes this ledger now"):
            await client.faucet(CLIENT.address, 1)
        if settings.database is None:
            with pytest.raises(LocalError, match="another process writes"):
                await ledger.wait()
        else:
            assert "another process writes" in (await heard.until(StandingBy)).reason
            await heard.until(TookOver)
            assert await client.checkpoint() == before
            assert (await client.faucet(CLIENT.address, 1)).index == before.size
    assert (await verify_database(database_of(settings))).fault is None


@pytest.mark.asyncio
async def test_a_full_disk_ends_nothing_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """SQLite itself says that there is no room, as it does of a disk."""
    settings = ledger_settings(tmp_path)
    store = Store(settings.url)
    await store.become_writer()
    sequencer = await Sequencer.open(
        store, NoteKey("full.example", bytes(32)), OPERATOR, HandClock(), grace_s=60, faucet_limit=10**15, fee=1
    )
    writer = asyncio.create_task(sequencer.serve())
    assert await sequencer.faucet(CLIENT.address, MILLION) == 1
    await limit_pages(store, 1)
    with pytest.raises(LocalError, match="disk is full") as refused:
        await fill(sequencer)
    assert refused.value.code == "disk"
    acknowledged = sequencer.published.head.checkpoint.size
    await limit_pages(store, 2**30)
    assert await sequencer.faucet(CLIENT.address, 1) == acknowledged
    sequencer.stop()
    await writer
    await store.close()
    report = await verify_database(database_of(settings))
    assert (report.fault, report.entries) == (None, acknowledged + 1)


async def fill(sequencer: Sequencer) -> None:
    for _ in range(400):  # the pages that there are have room for some
        await sequencer.faucet(CLIENT.address, 1)


async def limit_pages(store: Store, most: int) -> None:
    """SQLite lets a file have no fewer than it has."""
    assert store._writer_connection is not None
    await store._writer_connection.exec_driver_sql(f"PRAGMA max_page_count = {most}")
    await store._writer_connection.commit()


@pytest.mark.asyncio
async def test_a_fault_at_genesis_leaves_nothing_behind(
    settings: LedgerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_write_tiles", failing_after("_write_tiles"))
        with pytest.raises(UnreachableError, match="no space left"):
            async with run_ledger(settings, OPERATOR, HandClock()):
                pass
    key = (settings.folder / "log.key").read_text()
    async with run_ledger(settings, OPERATOR, HandClock()):
        assert (settings.folder / "log.key").read_text() == key


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda: delete(schema.checkpoint), "no checkpoint"),
        (lambda: delete(schema.tiles), "lacks a tile"),
        (lambda: update(schema.tiles).values(hashes=bytes(96)), "do not lead to the root"),
        (lambda: update(schema.entries).where(schema.entries.c.position == 2).values(data=b"x"), "not the one in"),
        (lambda: update(schema.checkpoint).values(note=b"x\n1\n\n"), "not signed by this log key"),
        (lambda: text("UPDATE meta SET value = '1'"), "tables of version 1, not 5"),
    ],
)
async def test_a_damaged_database_is_not_written_to(
    settings: LedgerSettings, damage: Callable[[], Any], says: str
) -> None:
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 10 * MILLION)
        await client.submit(open_session(make_session()), CLIENT)
    await change_database(settings, damage())
    with pytest.raises(LocalError, match=says) as refused:
        async with run_ledger(settings, OPERATOR, HandClock()):
            pass
    assert refused.value.code.startswith("ledger-")


@pytest.mark.asyncio
async def test_a_ledger_is_never_begun_twice(settings: LedgerSettings) -> None:
    async with run_ledger(settings, OPERATOR, HandClock()):
        pass
    for other, operator, says in (
        (replace(settings, grace_s=1), OPERATOR, "grace 3600 s, not 1 s"),
        (replace(settings, faucet_limit=0), OPERATOR, "faucet limit"),
        (replace(settings, fee=2), OPERATOR, "fee 0.000001, not 0.000002"),
        (replace(settings, origin="another/name"), OPERATOR, "never changes"),
        (settings, CLIENT, "operator"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            async with run_ledger(other, operator, HandClock()):
                pass
        assert says in refused.value.message + refused.value.hint
    key = settings.folder / "log.key"
    saved = key.read_text()
    key.unlink()
    with pytest.raises(KeystoreError, match="cannot read the log key"):
        async with run_ledger(settings, OPERATOR, HandClock()):
            pass
    assert not key.exists()
    key.write_text(saved)
    with pytest.raises(KeystoreError, match="others can read"):
        async with run_ledger(settings, OPERATOR, HandClock()):
            pass


@pytest.mark.asyncio
async def test_only_the_operator_deposits(settings: LedgerSettings) -> None:
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        payment = deposit(CLIENT, 5)
        await client.submit(payment, OPERATOR)
        await client.faucet(CLIENT.address, 7)  # the service uses the operator's nonces too
        await client.submit(payment, OPERATOR)
        assert await client.account(CLIENT.address) == Account(17, 0)
        with pytest.raises(RuleError) as refused:
            await client.submit(payment, CLIENT)
        assert refused.value.code == "not-operator"


@pytest.mark.asyncio
async def test_the_largest_amounts_are_kept_to_the_unit(settings: LedgerSettings) -> None:
    """A database's integers are signed and of 64 bits."""
    most = MAX_MONEY - 1
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await client.submit(deposit(CLIENT, MAX_MONEY), OPERATOR)
        await client.submit(stake(most), CLIENT)
        await client.submit(deposit(CLIENT, MAX_MONEY), OPERATOR)
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        found = await client.account(CLIENT.address)
        assert (found.free, found.bond) == (MAX_MONEY, most)
        for action, key in ((deposit(CLIENT, 1), OPERATOR), (stake(2), CLIENT)):
            with pytest.raises(RuleError) as refused:
                await client.submit(action, key)
            assert refused.value.code == "overflow"
        await client.submit(withdraw(MAX_MONEY - 1), CLIENT)
        assert (await client.account(CLIENT.address)).free == 0
    assert (await verify_database(database_of(settings))).fault is None


@pytest.mark.asyncio
async def test_an_older_version_is_refused_and_left_alone(settings: LedgerSettings) -> None:
    """Its tables have other columns: nothing of this version may get into them."""
    engine = schema.make_engine(settings.url, writer=True)
    settings.folder.mkdir(mode=0o700)
    async with engine.begin() as connection:
        await connection.run_sync(schema.meta.create)
        await connection.execute(schema.meta.insert(), [{"name": "schema", "value": "1"}])
    await engine.dispose()
    for attempt in (
        run_ledger(settings, OPERATOR, HandClock()).__aenter__,
        lambda: verify_database(database_of(settings)),
    ):
        with pytest.raises(LocalError, match="version 1, not 5") as refused:
            await attempt()
        assert refused.value.code == "ledger-version"
        assert "new folder" in refused.value.hint.replace("\n", " ")
    engine = schema.make_engine(settings.url, writer=False)
    async with engine.connect() as connection:
        tables = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    await engine.dispose()
    assert tables == ["meta"]


@pytest.mark.asyncio
async def test_one_file_has_one_writer_whatever_the_folder(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
    one, other = (ledger_settings(tmp_path / name, database=database) for name in ("one", "other"))
    async with run_ledger(one, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        with pytest.raises(LocalError) as refused:
            async with run_ledger(other, OPERATOR, HandClock()):
                pass
        assert refused.value.code == "ledger-locked"
        await client.faucet(CLIENT.address, 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("damage", [{"data": b"x"}, {"settled": b"x"}])
async def test_a_damaged_session_is_named_and_stays_as_it_is(settings: LedgerSettings, damage: dict[str, Any]) -> None:
    """It is met when somebody names it, not at the start; everybody else goes on."""
    session = make_session()
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 10 * MILLION)
        await client.open(session, CLIENT)
    await change_database(settings, update(schema.sessions).values(**damage))
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        for asked in (client.session(session_id(session)), client.submit(open_session(session), CLIENT)):
            with pytest.raises(UnreachableError, match="cannot be read") as refused:
                await asked
            assert refused.value.code == "ledger-damaged"
        await client.open(make_session(salt=1), CLIENT)
    report = await verify_database(database_of(settings))
    assert report.fault is not None


@pytest.mark.asyncio
async def test_one_file_under_many_names_has_one_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another folder, by a relative path, through links: the second is refused, and the first goes on."""
    settings = ledger_settings(tmp_path / "first")
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        file = tmp_path / "first" / "ledger.sqlite3"
        (tmp_path / "link.sqlite3").symlink_to(file)
        (tmp_path / "folder").symlink_to(file.parent)
        monkeypatch.chdir(tmp_path)
        for name in (str(file), "first/ledger.sqlite3", "folder/ledger.sqlite3", "link.sqlite3"):
            second = ledger_settings(tmp_path / "second", database=f"sqlite:///{name}")
            with pytest.raises(LocalError) as refused:
                async with run_ledger(second, OPERATOR, HandClock()):
                    pass
            assert refused.value.code == "ledger-locked", name
            await client.faucet(CLIENT.address, 1)
        (tmp_path / "hard.sqlite3").hardlink_to(file)
        for name in ("hard.sqlite3", str(file)):
            second = ledger_settings(tmp_path / "second", database=f"sqlite:///{name}")
            with pytest.raises(ConfigurationError, match="more than one name"):
                async with run_ledger(second, OPERATOR, HandClock()):
                    pass
            await client.faucet(CLIENT.address, 1)
    assert (await verify_database(file)).fault is None


@pytest.mark.asyncio
@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true", "sqlite:///file:x"])
async def test_a_database_that_is_no_plain_file_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match="plain file"):
        async with run_ledger(ledger_settings(tmp_path, database=url), OPERATOR, HandClock()):
            pass


@pytest.mark.asyncio
async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    settings = ledger_settings(tmp_path / "ledger", database=f"sqlite:///{tmp_path}/nowhere/l.sqlite3")
    with pytest.raises(ConfigurationError, match="cannot write"):
        async with run_ledger(settings, OPERATOR, HandClock()):
            pass
