"""Edges of the one writer: overload, askers who went away, faults in the rules, stopping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from ledger_world import CLIENT, OPERATOR, HandClock, withdraw

from node.ledger import sequencer as sequencer_module
from node.ledger.log_key import create_log_key
from node.ledger.rows import Batch
from node.ledger.schema import sqlite_url
from node.ledger.sequencer import Sequencer
from node.ledger.store import Store
from protocol.errors import LocalError, MalformedError
from protocol.settlement.operations import sign_op


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(sqlite_url(tmp_path / "ledger.sqlite3"))
    await store.become_writer()
    yield store
    await store.close()


@pytest_asyncio.fixture
async def sequencer(store: Store, tmp_path: Path) -> Sequencer:
    key = create_log_key(tmp_path / "log.key", "log.example")
    return await Sequencer.open(store, key, OPERATOR, HandClock(), grace_s=10, faucet_limit=10**9, fee=1)


async def started(sequencer: Sequencer, count: int) -> list[asyncio.Task[Any]]:
    """Submissions that wait for a writer which does not run yet."""
    tasks = [asyncio.create_task(sequencer.faucet(CLIENT.address, 1 + number)) for number in range(count)]
    await asyncio.sleep(0)
    return tasks


@pytest.mark.asyncio
async def test_what_waits_is_one_batch_and_stop_finishes_it(sequencer: Sequencer, store: Store) -> None:
    tasks = await started(sequencer, 10)
    sequencer.stop()
    sequencer.stop()
    await sequencer.serve()
    assert [await task for task in tasks] == list(range(1, 11))
    assert sequencer.published.head.checkpoint.size == 11
    with pytest.raises(LocalError) as stopped:
        await sequencer.faucet(CLIENT.address, 1)
    assert stopped.value.code == "ledger-stopped"
    assert await store.size() == 11


@pytest.mark.asyncio
async def test_large_crowds_are_taken_in_batches(
    sequencer: Sequencer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequencer_module, "_MAX_BATCH", 4)
    monkeypatch.setattr(sequencer_module, "_MAX_WAITING", 10)
    tasks = await started(sequencer, 12)
    sequencer.stop()
    await sequencer.serve()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [end.code for end in ends if isinstance(end, LocalError)] == ["busy", "busy"]
    assert await store.size() == 11


@pytest.mark.asyncio
async def test_an_asker_who_went_away_harms_nobody(sequencer: Sequencer, store: Store) -> None:
    tasks = await started(sequencer, 3)
    tasks[1].cancel()
    refused = asyncio.create_task(
        sequencer.submit(sign_op(sequencer.domain, CLIENT, withdraw(1).replace(actor=CLIENT.address)))
    )
    await asyncio.sleep(0)
    refused.cancel()
    await asyncio.gather(tasks[1], refused, return_exceptions=True)
    sequencer.stop()
    await sequencer.serve()
    assert [await tasks[0], await tasks[2]] == [1, 3]  # an operation once taken in is carried out
    assert await store.size() == 4


@pytest.mark.asyncio
async def test_a_fault_in_the_rules_stops_one_operation_only(
    sequencer: Sequencer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(*_: Any) -> Any:
        raise KeyError("a mistake in the rules")

    serving = asyncio.create_task(sequencer.serve())
    with monkeypatch.context() as patch:
        patch.setattr(sequencer_module, "apply", faulty)
        with pytest.raises(MalformedError) as refused:
            await sequencer.faucet(CLIENT.address, 1)
        assert refused.value.code == "internal"
    assert await sequencer.faucet(CLIENT.address, 1) == 1
    sequencer.stop()
    await serving


@pytest.mark.asyncio
async def test_a_failed_commit_answers_all_who_wait(sequencer: Sequencer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_store: Store, _batch: Batch) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Store, "commit", fail)
    monkeypatch.setattr(sequencer_module, "_MAX_BATCH", 2)
    tasks = await started(sequencer, 5)
    with pytest.raises(LocalError, match="Input/output error"):
        await sequencer.serve()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, LocalError) and end.code == "ledger-stopped" for end in ends)
    with pytest.raises(LocalError, match="Input/output error"):
        await sequencer.faucet(CLIENT.address, 1)


@pytest.mark.asyncio
async def test_cancelling_the_writer_answers_all_who_wait(sequencer: Sequencer) -> None:
    serving = asyncio.create_task(sequencer.serve())
    await asyncio.sleep(0)
    serving.cancel()
    tasks = await started(sequencer, 2)
    ends = await asyncio.gather(serving, *tasks, return_exceptions=True)
    assert isinstance(ends[0], asyncio.CancelledError)
    assert all(isinstance(end, LocalError) for end in ends[1:])
