"""A ledger that forks in front of running clients: two real ones with one log key and two histories."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import CliRunner
from ledger_process import LedgerProcess, started_ledger
from ledger_world import CLIENT, MILLION, OPERATOR, STRANGER, make_session, settle

from node.cli.entry import joule
from node.ledger import LedgerClient
from node.ledger.forks import read_fork, set_aside
from protocol.errors import ConfigurationError, DishonestError, ForkedError
from protocol.log.checkpoint import Operator, recover_checkpoint
from protocol.log.fork import check_fork, convicting_pair
from protocol.log.note import NoteKey


@dataclass(frozen=True, slots=True)
class Fork:
    first: LedgerProcess
    second: LedgerProcess


@pytest_asyncio.fixture
async def fork(tmp_path: Path) -> AsyncIterator[Fork]:
    """Both begin with the same four entries."""
    async with started_ledger(tmp_path / "first") as begun, LedgerClient(begun.url) as client:
        for amount in (1, 2, 3):
            await client.faucet(CLIENT.address, amount * MILLION)
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    async with started_ledger(tmp_path / "first") as first, started_ledger(tmp_path / "second") as second:
        yield Fork(first, second)


async def note_of(ledger: LedgerProcess, size: int) -> bytes:
    """The checkpoint of a ledger that was brought to a size."""
    async with LedgerClient(ledger.url) as client:
        while (await client.checkpoint()).size < size:
            await client.faucet(STRANGER.address, int(ledger.port))
        assert client.note is not None
        return client.note


@pytest.mark.asyncio
@pytest.mark.parametrize(("own", "others"), [(6, 6), (9, 7), (20, 8)])
async def test_two_histories_become_a_proof_that_stops_trading(
    fork: Fork, tmp_path: Path, own: int, others: int
) -> None:
    """Same size or not: the file convinces alone, survives a restart, and goes with a person's word."""
    remembered = tmp_path / "data" / "ledger.json"
    session = make_session(cap=1_000, expiry=await _soon(fork.first))
    async with LedgerClient(fork.first.url, remembered=remembered) as client:
        await client.open(session, CLIENT)
        await note_of(fork.first, own)
        await client.checkpoint()
        heard = await note_of(fork.second, others)
        with pytest.raises(ForkedError) as found:
            await client.compare(heard)
        fork_known = client.forks.known
        assert fork_known is not None
        path = fork_known.path
        assert path is not None
        assert str(path) in found.value.message
        older, newer = check_fork(read_fork(path))  # alone: with nothing but the file
        assert (older.size, newer.size) == (others, own)
        operator = Operator(client.domain, OPERATOR.address)
        pair = convicting_pair(read_fork(path), operator)
        assert (pair is not None) == (own == others)  # what an operator's bond answers for
        if pair is not None:
            assert {recover_checkpoint(client.domain, each) for each in pair} == {OPERATOR.address}
            assert len({each.checkpoint.root for each in pair}) == 2
        with pytest.raises(ForkedError, match="nothing new"):
            await client.open(make_session(salt=1, cap=1_000, expiry=session.expiry), CLIENT)
        with pytest.raises(ForkedError):
            await client.check_opened(session, b"")
    async with LedgerClient(fork.first.url, remembered=remembered) as client:
        await client.connect()
        assert client.forks.known is not None
        with pytest.raises(ForkedError):
            await client.open(make_session(salt=2, cap=1_000, expiry=session.expiry), CLIENT)
        await client.submit(settle(client.domain, session, 1, 2, 3), CLIENT)  # what was begun is ended
    with pytest.raises(ConfigurationError):
        set_aside(remembered)
    reviewed = set_aside(path)
    assert reviewed.exists()
    async with LedgerClient(fork.first.url, remembered=remembered) as client:
        await client.open(make_session(salt=3, cap=1_000, expiry=session.expiry), CLIENT)
        with pytest.raises(DishonestError):
            await client.compare(heard)  # the reviewed history is still a lie, and stops nothing any more
        await client.open(make_session(salt=4, cap=1_000, expiry=session.expiry), CLIENT)
        with pytest.raises(ForkedError):
            await client.compare(await note_of(fork.second, others + 3))  # a new lie does


@pytest.mark.asyncio
async def test_an_order_from_the_other_history_convicts_the_ledger(fork: Fork, tmp_path: Path) -> None:
    """A client was shown another log than this node, and brings its session's evidence along."""
    session = make_session(cap=1_000, expiry=await _soon(fork.second))
    async with (
        LedgerClient(fork.second.url) as misled,
        LedgerClient(fork.first.url, remembered=tmp_path / "data" / "ledger.json") as node,
    ):
        evidence = await misled.open(session, CLIENT)
        await note_of(fork.first, 9)
        await node.connect()
        await node.check_opened(session, evidence)
        with pytest.raises(ForkedError):
            await node.account(CLIENT.address)
        with pytest.raises(ForkedError):
            await node.check_opened(session, evidence)
        assert await node.account(CLIENT.address)  # the ledger's answers hold, so what was begun can be ended


@pytest.mark.asyncio
async def test_a_history_that_the_ledger_has_not_reached_is_told_and_proven_later(fork: Fork, tmp_path: Path) -> None:
    """That entries are missing convinces nobody else: trading goes on until the ledger has as many."""
    async with LedgerClient(fork.first.url, remembered=tmp_path / "data" / "ledger.json") as client:
        await client.connect()
        with pytest.raises(DishonestError, match="entries are gone") as told:
            await client.compare(await note_of(fork.second, 9))
        assert not isinstance(told.value, ForkedError)
        assert client.forks.known is None
        await client.open(make_session(cap=1_000, expiry=await _soon(fork.first)), CLIENT)
        await note_of(fork.first, 12)
        await client.checkpoint()
        with pytest.raises(ForkedError):
            await client.checkpoint()


@pytest.mark.asyncio
async def test_a_spoiled_proof_is_told_and_not_passed_over(fork: Fork, tmp_path: Path) -> None:
    remembered = tmp_path / "data" / "ledger.json"
    async with LedgerClient(fork.first.url, remembered=remembered) as client:
        await client.connect()
        await note_of(fork.first, 6)
        await client.checkpoint()
        with pytest.raises(ForkedError):
            await client.compare(await note_of(fork.second, 6))
        assert client.forks.known is not None
        path = client.forks.known.path
    assert path is not None
    for content in (b"", path.read_bytes()[:-9], path.read_bytes().replace(b"fork-proof/1", b"fork-proof/9")):
        path.write_bytes(content)
        async with LedgerClient(fork.first.url, remembered=remembered) as client:
            with pytest.raises(ConfigurationError, match="cannot be read"):
                await client.connect()


async def _soon(ledger: LedgerProcess) -> int:
    """An hour after the newest entry."""
    async with LedgerClient(ledger.url) as client:
        size = (await client.checkpoint()).size
        return (await client.entry(size - 1)).entry.time + 3600


@pytest.mark.asyncio
async def test_anybody_checks_a_proof_from_the_command_line(fork: Fork, tmp_path: Path) -> None:
    async with LedgerClient(fork.first.url, remembered=tmp_path / "data" / "ledger.json") as client:
        await client.connect()
        await note_of(fork.first, 7)
        await client.checkpoint()
        with pytest.raises(ForkedError):
            await client.compare(await note_of(fork.second, 6))
        known, key = client.forks.known, client.verifier_key
    assert known is not None
    assert known.path is not None
    shown = CliRunner().invoke(joule, ["ledger", "verify-fork", str(known.path), "--json"])
    assert (shown.exit_code, json.loads(shown.output)["verifier_key"]) == (0, key)
    assert "PROVEN" in CliRunner().invoke(joule, ["ledger", "verify-fork", str(known.path)]).output
    spoiled = tmp_path / "spoiled.fork.json"
    spoiled.write_text(known.path.read_text().replace(key, str(NoteKey("another", bytes(32)).verifier)))
    refused = CliRunner().invoke(joule, ["ledger", "verify-fork", str(spoiled)], standalone_mode=False)
    assert refused.return_value == 1
    assert "proves nothing" in refused.output
    assert CliRunner().invoke(joule, ["ledger", "clear-fork", str(known.path)]).exit_code == 0
    assert not known.path.exists()
