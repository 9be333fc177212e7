"""Signatures checked by other processes: the same answers, whether these are quick, late, or dead."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest
from ledger_world import CLIENT, OPERATOR, HandClock, deposit, withdraw
from ruled_ledger import DOMAIN, VERIFIER_KEY
from sqlalchemy import update

from node.ledger import schema, verify_database
from node.ledger.log_key import create_log_key
from node.ledger.schema import sqlite_url
from node.ledger.sequencer import Sequencer
from node.ledger.signers import SignersAhead
from node.ledger.store import Store
from protocol.errors import SignatureError
from protocol.identity.ids import Address
from protocol.settlement.operations import SignedOp, sign_op
from protocol.settlement.signatures import KnownSigners

PORTION = 4
CROWD = 40


def withdrawals(count: int, first: int = 2) -> list[SignedOp]:
    return [
        sign_op(DOMAIN, CLIENT, withdraw(1).replace(actor=CLIENT.address, nonce=first + number))
        for number in range(count)
    ]


def helpers() -> list[int]:
    """Process ids of this process's children that find signers."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in children if b"signer_process" in command_of(pid)]


def command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:  # it has just ended
        return b""


class Learned:
    """Counts the operations whose signers other processes have found."""

    def __init__(self) -> None:
        self.count = 0
        self._more = asyncio.Event()
        self._learn = KnownSigners.learn

    def learn(self, signers: KnownSigners, signed: SignedOp, found: Iterable[Address]) -> None:
        self._learn(signers, signed, found)
        self.count += 1
        self._more.set()

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(60):
            while self.count < count:
                self._more.clear()
                await self._more.wait()


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> Learned:
    learned = Learned()
    monkeypatch.setattr(KnownSigners, "learn", lambda *arguments: learned.learn(*arguments))
    return learned


class Heard(logging.Handler):
    """Knows when something was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.said = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.said.set()


@pytest.mark.asyncio
async def test_others_find_signers_from_the_end(learned: Learned, monkeypatch: pytest.MonkeyPatch) -> None:
    operations = withdrawals(10 * PORTION + 1)
    async with SignersAhead(VERIFIER_KEY, 3, portion=PORTION) as ahead:
        ahead.expect(operations[:3])
        assert helpers() == []  # so few are done sooner here
        ahead.expect(operations[3:])
        await learned.reach(10 * PORTION)
        assert helpers()
        first, *others = operations
        await ahead.need(first)
        assert ahead.recover(DOMAIN, first.read(), first.signature) == CLIENT.address
        assert len(ahead.recover) == 10 * PORTION
        monkeypatch.setattr("protocol.settlement.signatures.recover_typed", lambda *_: pytest.fail("found again"))
        assert {ahead.recover(DOMAIN, each.read(), each.signature) for each in others} == {CLIENT.address}
    assert helpers() == []


@pytest.mark.asyncio
async def test_a_dead_helper_costs_time_alone(learned: Learned) -> None:
    heard = Heard()
    logging.getLogger("node.ledger.signers").addHandler(heard)
    async with SignersAhead(VERIFIER_KEY, 2, portion=PORTION) as ahead:
        ahead.expect(withdrawals(4 * PORTION))
        await learned.reach(4 * PORTION)
        (helper,) = helpers()
        os.kill(helper, signal.SIGSTOP)
        late = withdrawals(4 * PORTION, first=100)
        ahead.expect(late)
        os.kill(helper, signal.SIGKILL)
        for each in late:
            await ahead.need(each)
            assert ahead.recover(DOMAIN, each.read(), each.signature) == CLIENT.address
        async with asyncio.timeout(60):
            await heard.said.wait()
        ahead.expect(withdrawals(4 * PORTION, first=200))  # nobody is started again
    assert helpers() == []
    logging.getLogger("node.ledger.signers").removeHandler(heard)


@pytest.mark.asyncio
async def test_a_writer_and_a_replay_with_helpers(
    tmp_path: Path, learned: Learned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every operation is taken or refused as without, and the first bad entry is the same."""
    monkeypatch.setattr("node.ledger.sequencer._PORTION", PORTION)
    monkeypatch.setattr("node.ledger.verify._PORTION", PORTION)
    monkeypatch.setattr("node.ledger.verify._LONG", 0)
    url, key = sqlite_url(tmp_path / "ledger.sqlite3"), create_log_key(tmp_path / "log.key", "log.example")
    store = Store(url)
    await store.become_writer()
    sequencer = await Sequencer.open(store, key, OPERATOR, HandClock(), grace_s=10, faucet_limit=0, fee=1, processes=2)
    writer = asyncio.create_task(sequencer.serve())
    rich = deposit(CLIENT, 10**9).replace(actor=OPERATOR.address, nonce=2)
    await sequencer.submit(sign_op(sequencer.domain, OPERATOR, rich))
    async with asyncio.timeout(60):
        rounds = 0
        while not learned.count:  # until a helper is up, and was quick enough once
            operations = [
                sign_op(sequencer.domain, CLIENT, withdraw(1).replace(actor=CLIENT.address, nonce=nonce))
                for nonce in range(1 + rounds * CROWD, 1 + (rounds + 1) * CROWD)
            ]
            operations[7] = operations[7].replace(signature=operations[6].signature)
            ends = await asyncio.gather(*map(sequencer.submit, operations), return_exceptions=True)
            assert [number for number, end in enumerate(ends) if isinstance(end, SignatureError)] == [7]
            assert sum(type(end) is int for end in ends) == CROWD - 1
            rounds += 1
    sequencer.stop()
    await writer
    await store.close()
    assert helpers() == []
    for processes in (1, 2):
        report = await verify_database(tmp_path / "ledger.sqlite3", processes=processes)
        assert (report.fault, report.withdrawn) == (None, rounds * (CROWD - 1))
    engine = schema.make_engine(url, writer=True)
    async with engine.begin() as connection:
        await connection.execute(update(schema.entries).where(schema.entries.c.position == 9).values(data=b"\x90"))
    await engine.dispose()
    faults = [(await verify_database(tmp_path / "ledger.sqlite3", processes=each)).fault for each in (1, 2)]
    assert faults[0] == faults[1]
    assert faults[0] is not None
    assert faults[0].index == 9
