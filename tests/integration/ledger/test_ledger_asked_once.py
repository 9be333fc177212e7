"""What a person asks for is done once, wherever the process that was asked dies, and however often it is asked."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from ledger_world import CLIENT, FEE, MILLION, OPERATOR, HandClock, ledger_settings, stake, withdraw

from node.ledger import LedgerClient, Proven, RunningLedger, run_ledger
from node.ledger.asked import AskedFile
from node.ledger.log_source import HttpLog
from protocol.errors import LocalError, RuleError
from protocol.settlement.operations import Action

pytestmark = pytest.mark.asyncio


class Killed(BaseException):
    """Nothing of the process goes on after it."""


BOUNDARIES: tuple[tuple[type, str, bool], ...] = (
    (AskedFile, "keep", False),
    (AskedFile, "keep", True),
    (HttpLog, "post", False),
    (HttpLog, "post", True),
    (LedgerClient, "submit", True),
    (LedgerClient, "submit_once", True),
    (AskedFile, "forget", False),
)
"""Before or after a call; after it is before the next one."""


def kill_at(owner: type, name: str, after: bool, patch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(real)
    async def asked(self: object, *given: object, **named: object) -> None:
        if after:
            await real(self, *given, **named)
        raise Killed

    @functools.wraps(real)
    def kept(self: object, *given: object) -> None:
        if after:
            real(self, *given)
        raise Killed

    patch.setattr(owner, name, kept if owner is AskedFile else asked)


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[RunningLedger]:
    async with run_ledger(ledger_settings(tmp_path), OPERATOR, HandClock()) as ledger:
        async with LedgerClient(ledger.url) as client:
            await client.faucet(CLIENT.address, MILLION)
        yield ledger


async def command(ledger: RunningLedger, folder: Path, action: Action) -> Proven:
    """As a process does it."""
    async with LedgerClient(ledger.url, remembered=folder / "ledger.json") as client:
        proven = await client.submit_once(action, CLIENT)
        client.told(proven.wish)
        return proven


async def free(ledger: RunningLedger) -> int:
    async with LedgerClient(ledger.url) as client:
        return (await client.account(CLIENT.address)).free


async def test_a_command_that_is_repeated_after_a_kill_is_done_once(ledger: RunningLedger, tmp_path: Path) -> None:
    had = MILLION
    for owner, name, after in BOUNDARIES:
        with pytest.MonkeyPatch.context() as patch:
            kill_at(owner, name, after, patch)
            with pytest.raises(Killed):
                await command(ledger, tmp_path, withdraw(5))
        again = await command(ledger, tmp_path, withdraw(5))
        assert again.earlier == ((owner, name, after) != BOUNDARIES[0]), (owner, name, after)
        had -= 5 + FEE
        assert await free(ledger) == had, (owner, name, after)
        more = await command(ledger, tmp_path, withdraw(5))  # who was told, and asks again, wants more
        assert not more.earlier
        had -= 5 + FEE
        assert await free(ledger) == had


async def test_others_of_the_same_account_are_not_taken_for_it(ledger: RunningLedger, tmp_path: Path) -> None:
    for owner, name in ((AskedFile, "keep"), (HttpLog, "post")):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(owner, name, True, patch)
            with pytest.raises(Killed):
                await command(ledger, tmp_path, withdraw(5))
        assert not (await command(ledger, tmp_path, stake(7))).earlier
        before = await free(ledger)
        assert (await command(ledger, tmp_path, withdraw(5))).earlier == (owner is HttpLog)
        assert before - await free(ledger) == (0 if owner is HttpLog else 5 + FEE)
        assert not (await command(ledger, tmp_path, withdraw(6))).earlier


async def test_what_is_refused_is_asked_for_anew(ledger: RunningLedger, tmp_path: Path) -> None:
    with pytest.raises(RuleError) as refused:
        await command(ledger, tmp_path, withdraw(2 * MILLION))
    assert refused.value.code == "balance"
    async with LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 2 * MILLION)
    assert not (await command(ledger, tmp_path, withdraw(2 * MILLION))).earlier


async def test_a_spoiled_file_is_told_before_anything_is_sent(ledger: RunningLedger, tmp_path: Path) -> None:
    (tmp_path / "ledger.asked.sqlite").write_bytes(b"x" * 5_000)
    with pytest.raises(LocalError) as spoiled:
        await command(ledger, tmp_path, withdraw(5))
    assert spoiled.value.code == "asked-file"
    assert await free(ledger) == MILLION
