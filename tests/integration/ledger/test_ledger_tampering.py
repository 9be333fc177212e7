"""A ledger whose database was changed behind its back: verification names the first bad entry."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
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
    settle,
    withdraw,
)
from sqlalchemy import Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import create_async_engine

from node.ledger import LedgerClient, LedgerSettings, run_ledger, schema, verify_database, verify_url
from node.ledger.log_key import read_log_key
from node.ledger.store import Store
from protocol.encoding.codec import decode, encode
from protocol.errors import ConfigurationError, UnreachableError
from protocol.log.checkpoint import Checkpoint, sign_checkpoint
from protocol.log.merkle import leaf_hash
from protocol.log.tiles import TileAppender
from protocol.session.messages import session_id
from protocol.settlement import Account, ledger_domain
from protocol.settlement.operations import LogEntry, sign_op
from protocol.settlement.state import effect_of

ENTRIES = 300


async def make_ledger(folder: Path) -> None:
    async with (
        run_ledger(ledger_settings(folder), OPERATOR, HandClock()) as ledger,
        LedgerClient(ledger.url) as client,
    ):
        await client.faucet(CLIENT.address, 100 * MILLION)
        session = make_session()
        await client.submit(open_session(session), CLIENT)
        for count in range(3, ENTRIES):
            await client.submit(settle(client.domain, session, 2 * count, count, 0), PROVIDERS[0])


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger at rest: 300 entries, more than one tile."""
    folder = tmp_path_factory.mktemp("template") / "ledger"
    asyncio.run(make_ledger(folder))
    return folder


@pytest.fixture
def settings(template: Path, tmp_path: Path) -> LedgerSettings:
    """A copy of it to spoil."""
    shutil.copytree(template, tmp_path / "ledger")
    return ledger_settings(tmp_path / "ledger")


async def execute(settings: LedgerSettings, *statements: Any) -> None:
    engine = create_async_engine(settings.url)  # without the ledger's own care: foreign keys are not enforced
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(statement)
    await engine.dispose()


async def read_entries(settings: LedgerSettings) -> list[bytes]:
    store = Store(settings.url)
    try:
        return await store.entries(0, ENTRIES)
    finally:
        await store.close()


async def fault_of(settings: LedgerSettings) -> tuple[int | None, str]:
    report = await verify_database(settings.folder / "ledger.sqlite3")
    assert report.fault is not None
    return report.fault.index, str(report.fault)


async def rewrite(settings: LedgerSettings, entries: list[bytes], first: int = 0) -> None:
    """Do all that the operator's key allows: replace the log from `first` on, with fitting tiles and checkpoint."""
    key = read_log_key(settings.folder / "log.key")
    appender = TileAppender()
    tiles = appender.append([leaf_hash(entry) for entry in entries])
    note = sign_checkpoint(Checkpoint(key.verifier.name, len(entries), appender.root), key)
    await execute(
        settings,
        delete(schema.tiles),
        *(insert(schema.tiles).values(level=t.level, position=t.index, hashes=hashes) for t, hashes in tiles.items()),
        *(
            update(schema.entries).where(schema.entries.c.position == index).values(data=entry)
            for index, entry in enumerate(entries[first:], first)
        ),
        update(schema.checkpoint).values(note=note),
    )


async def all_rows(settings: LedgerSettings, table: Table) -> list[dict[str, Any]]:
    engine = schema.make_engine(settings.url, writer=False)
    async with engine.connect() as connection:
        rows = [row._asdict() for row in await connection.execute(select(table))]
    await engine.dispose()
    return rows


def change_entry(data: bytes, **changes: Any) -> bytes:
    return encode(decode(data, LogEntry).replace(**changes))


def at(index: int) -> Any:
    return schema.entries.c.position == index


@pytest.mark.asyncio
async def test_an_untouched_ledger_verifies(settings: LedgerSettings) -> None:
    seen: list[tuple[int, int]] = []
    report = await verify_database(
        settings.folder / "ledger.sqlite3", progress=lambda done, total: seen.append((done, total))
    )
    assert report.fault is None
    assert report.entries == ENTRIES
    assert seen == [(256, 300), (300, 300)]
    assert report.deposited - report.withdrawn == report.held == 100 * MILLION


@pytest.mark.asyncio
@pytest.mark.parametrize("index", [0, 1, 77, 255, 256, 299])
async def test_a_changed_entry_is_named(settings: LedgerSettings, index: int) -> None:
    data = (await read_entries(settings))[index]
    changed = change_entry(data, time=decode(data, LogEntry).time + 1)
    await execute(settings, update(schema.entries).where(at(index)).values(data=changed))
    found, says = await fault_of(settings)
    assert found == index, says


@pytest.mark.asyncio
async def test_garbage_and_gaps_are_named(settings: LedgerSettings) -> None:
    await execute(settings, update(schema.entries).where(at(270)).values(data=b"garbage"))
    assert (await fault_of(settings))[0] == 270
    await execute(settings, delete(schema.entries).where(at(120)))
    assert await fault_of(settings) == (120, "entry 120: it is missing")
    await execute(settings, delete(schema.entries).where(at(0)))
    assert (await fault_of(settings))[0] is None


@pytest.mark.asyncio
@pytest.mark.parametrize("level", [0, 1])
async def test_a_changed_tile_is_found(settings: LedgerSettings, level: int) -> None:
    where = (schema.tiles.c.level == level, schema.tiles.c.position == 0)
    engine = schema.make_engine(settings.url, writer=False)
    async with engine.connect() as connection:
        hashes = await connection.scalar(select(schema.tiles.c.hashes).where(*where))
    await engine.dispose()
    await execute(settings, update(schema.tiles).where(*where).values(hashes=hashes[:-1] + bytes([hashes[-1] ^ 1])))
    assert await fault_of(settings) == (
        (255, "entry 255: its hash in its tile is wrong") if level == 0
        else (None, "tile/1/000.p/1 does not follow from the entries")
    )  # fmt: skip


@pytest.mark.asyncio
async def test_a_changed_checkpoint_is_found(settings: LedgerSettings) -> None:
    key = read_log_key(settings.folder / "log.key")
    other = sign_checkpoint(Checkpoint(key.verifier.name, ENTRIES, bytes(32)), key)
    await execute(settings, update(schema.checkpoint).values(note=other))
    assert await fault_of(settings) == (None, "the entries do not lead to the root in the checkpoint")
    beyond = sign_checkpoint(Checkpoint(key.verifier.name, ENTRIES + 5, bytes(32)), key)
    await execute(settings, update(schema.checkpoint).values(note=beyond))
    assert (await fault_of(settings))[0] == 256  # the first entry of a tile that is not as long as it should be
    for note in (other.replace(b"300", b"299"), b"garbage"):
        await execute(settings, update(schema.checkpoint).values(note=note))
        found, says = await fault_of(settings)
        assert found is None
        assert says.startswith("the checkpoint: ")


@pytest.mark.asyncio
async def test_a_changed_balance_is_named_by_the_entry_that_set_it(settings: LedgerSettings) -> None:
    mine = schema.accounts.c.address == CLIENT.address
    for change in ({"free": 1}, {"nonce": 99}, {"fauceted": 0}, {"entry": 5}, {"bond": 1}, {"claimed": 1}):
        engine = schema.make_engine(settings.url, writer=False)
        async with engine.connect() as connection:
            before = (await connection.execute(select(schema.accounts).where(mine))).one()._asdict()
        await engine.dispose()
        await execute(settings, update(schema.accounts).where(mine).values(**change))
        found, says = await fault_of(settings)
        assert found == 2, says
        assert "account 0x" in says
        await execute(settings, update(schema.accounts).where(mine).values(**before))
    await execute(settings, delete(schema.accounts).where(mine))
    assert (await fault_of(settings))[0] == 2
    stranger = {"address": bytes(20), **asdict(Account(free=5)), "fauceted": 0, "entry": 1}
    await execute(settings, insert(schema.accounts).values(**stranger))
    assert (await fault_of(settings))[0] is None  # no entry ever touched this account


@pytest.mark.asyncio
async def test_a_changed_session_is_named(settings: LedgerSettings) -> None:
    for change in ({"settled": bytes(24)}, {"ceilings": bytes(24)}, {"opened": 1}, {"forget_after": 1}, {"data": b"x"}):
        before = await all_rows(settings, schema.sessions)
        await execute(settings, update(schema.sessions).values(**change))
        assert await fault_of(settings) == (
            ENTRIES - 1, f"entry 299: session {session_id(make_session()).hex()} is not stored as it leaves it"
        )  # fmt: skip
        await execute(settings, update(schema.sessions).values(**before[0]))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "bad", "says"),
    [
        ("effects", 100, "effects are not those"),
        ("time", 100, "time is before"),
        ("signature", 100, "the rules reject it"),
        ("order", 100, "effects are not those"),  # the later voucher may come first, but then no fee was paid before
    ],
)
async def test_what_the_operators_key_signs_must_still_follow_the_rules(
    settings: LedgerSettings, name: str, bad: int, says: str
) -> None:
    entries = await read_entries(settings)
    first, second = decode(entries[100], LogEntry), decode(entries[101], LogEntry)
    changed: dict[str, Callable[[], list[bytes]]] = {
        "effects": lambda: [encode(first.replace(accounts=(effect_of(OPERATOR.address, Account(MILLION, 1)),)))],
        "time": lambda: [encode(first.replace(time=1))],
        "signature": lambda: [encode(first.replace(op=first.op.replace(signature=second.op.signature)))],
        "order": lambda: [encode(second), encode(first)],
    }
    replaced = changed[name]()
    await rewrite(settings, [*entries[:100], *replaced, *entries[100 + len(replaced) :]])
    found, message = await fault_of(settings)
    assert (found, says in message) == (bad, True), message
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger:
        report = await verify_url(ledger.url)  # and so does anybody on the network find it
        assert report.fault is not None
        assert report.fault.index == bad


@pytest.mark.asyncio
async def test_an_entry_that_the_rules_allow_cannot_be_slipped_in_without_its_effects(settings: LedgerSettings) -> None:
    entries = await read_entries(settings)
    key = read_log_key(settings.folder / "log.key")
    loot = withdraw(10**9, "loot").replace(actor=OPERATOR.address, nonce=99)
    theft = sign_op(ledger_domain(str(key.verifier)), OPERATOR, loot)
    forged = change_entry(entries[200], op=theft)
    await rewrite(settings, [*entries[:200], forged, *entries[201:]])
    found, says = await fault_of(settings)
    assert found == 200
    assert "balance too low" in says


@pytest.mark.asyncio
async def test_a_faucet_beyond_its_limit_is_found(tmp_path: Path) -> None:
    settings = ledger_settings(tmp_path, faucet_limit=10)
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 10)
        await client.submit(deposit(CLIENT, 1, "faucet"), OPERATOR)
        report = await verify_url(ledger.url)
    assert str(report.fault) == "entry 2: the faucet gave more than the rules allow"


@pytest.mark.asyncio
async def test_what_is_no_ledger_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no ledger database"):
        await verify_database(tmp_path / "missing.sqlite3")
    other = tmp_path / "other.sqlite3"
    other.write_bytes(b"not a database at all, but long enough to be taken for one" * 20)
    with pytest.raises(UnreachableError):
        await verify_database(other)
    with pytest.raises(ConfigurationError):
        await verify_database("mysql://host/name")
    with pytest.raises(UnreachableError, match="does not answer"):
        await verify_url("http://127.0.0.1:9")
