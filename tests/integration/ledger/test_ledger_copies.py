"""A log as a folder that verifies alone, as lines that follow it, and its accounts and sessions page by page."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner
from ledger_process import started_ledger
from ledger_world import CLIENT, MILLION, OPERATOR, STRANGER, HandClock, ledger_settings, make_session

from node.cli.entry import joule
from node.ledger import LedgerClient, export_database, export_url, run_ledger, verify_folder
from node.ledger.exported import FolderLog
from node.ledger.pages import ACCOUNTS
from protocol.errors import ConfigurationError, SignatureError
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import open_checkpoint
from protocol.log.note import NoteKey, VerifierKey


async def grow(client: LedgerClient, count: int, *, first: int = 0) -> None:
    await asyncio.gather(
        *(client.faucet(SigningKey((first + 1_000 + each).to_bytes(32, "big")).address, 1) for each in range(count))
    )


def is_account(text: str, key: SigningKey) -> bool:
    return text.lower() == f"0x{key.address.hex()}"


async def started(joule: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(joule, *arguments, stdout=asyncio.subprocess.PIPE)


async def said(joule: Path, *arguments: str) -> str:
    out, _ = await (await started(joule, *arguments)).communicate()
    return out.decode()


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def times_in(folder: Path) -> dict[str, int]:
    return {str(each.relative_to(folder)): each.stat().st_mtime_ns for each in folder.rglob("*") if each.is_file()}


@pytest.mark.asyncio
async def test_a_copy_verifies_without_the_ledger_and_is_brought_up_to_date(tmp_path: Path) -> None:
    copy, other = tmp_path / "copy", tmp_path / "other"
    settings = ledger_settings(tmp_path / "ledger")
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await grow(client, 270)
        first = await export_url(ledger.url, copy, verifier_key=ledger.verifier_key)
        assert first.size == 271
        assert (await verify_folder(copy)).fault is None
        written = await asyncio.to_thread(times_in, copy)
        await grow(client, 5, first=300)
        await export_url(ledger.url, copy)
        again = await asyncio.to_thread(times_in, copy)
        kept = {name for name in written if written[name] == again[name]}
        assert kept >= {"tile/0/000", "tile/entries/000"}
        assert "checkpoint" not in kept
    await export_database(tmp_path / "ledger" / "ledger.sqlite3", other)
    report = await verify_folder(copy, verifier_key=ledger.verifier_key)
    assert (report.fault, report.entries) == (None, 276)
    mine, theirs = await asyncio.to_thread(lambda: (files_in(copy), files_in(other)))
    assert {name: mine[name] for name in theirs} == theirs
    found = await asyncio.to_thread(CliRunner().invoke, joule, ["ledger", "verify", str(other), "--json"])
    assert (found.exit_code, json.loads(found.stdout)["sound"]) == (0, True)


@pytest.mark.asyncio
async def test_a_spoiled_copy_is_found_out_and_another_logs_folder_is_left_alone(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    async with run_ledger(ledger_settings(tmp_path / "one"), OPERATOR, HandClock()) as ledger:
        async with LedgerClient(ledger.url) as client:
            await grow(client, 5)
        await export_url(ledger.url, copy)
        with pytest.raises(SignatureError):
            await export_url(
                ledger.url, tmp_path / "new", verifier_key=str(NoteKey("joulemesh.example", bytes(32)).verifier)
            )
    async with run_ledger(ledger_settings(tmp_path / "two", origin="another"), OPERATOR, HandClock()) as another:
        with pytest.raises(ConfigurationError, match="another log"):
            await export_url(another.url, copy)
    async with run_ledger(ledger_settings(tmp_path / "three"), OPERATOR, HandClock()) as shorter:
        with pytest.raises(ConfigurationError, match="more of this one"):
            await export_url(shorter.url, copy)
    for name in ("tile/entries/000.p/6", "tile/0/000.p/6", "checkpoint"):
        path = copy / name
        content = await asyncio.to_thread(path.read_bytes)
        for spoiled in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), b""):
            await asyncio.to_thread(path.write_bytes, spoiled)
            assert (await verify_folder(copy)).fault is not None, name
        await asyncio.to_thread(path.write_bytes, content)
    assert (await verify_folder(copy)).fault is None
    note = await FolderLog(copy).checkpoint()
    assert open_checkpoint(note, VerifierKey.parse(ledger.verifier_key)).size == 6


@pytest.mark.asyncio
async def test_the_log_is_shown_entry_by_entry_as_it_grows(tmp_path: Path, forked: Path) -> None:
    async with started_ledger(tmp_path) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, MILLION)
        arguments = ["ledger", "tail", ledger.url, "--from", "1", "--json"]
        (line,) = map(json.loads, (await said(forked / "joule", *arguments)).splitlines())
        assert (line["entry"], line["operation"]) == (1, "deposit")
        assert line["actor"].lower() == f"0x{OPERATOR.address.hex()}"
        assert [each["free"] for each in line["accounts"] if is_account(each["account"], CLIENT)] == [MILLION]
        following = await started(forked / "joule", *arguments, "--follow")
        assert following.stdout is not None
        try:
            async with asyncio.timeout(60):
                assert json.loads(await following.stdout.readline())["entry"] == 1
                await client.faucet(STRANGER.address, 1)
                assert json.loads(await following.stdout.readline())["entry"] == 2
        finally:
            following.terminate()
            assert await following.wait() == 128 + 15
        plain = await said(forked / "joule", "ledger", "tail", ledger.url, "--last", "2")
        assert [each.split()[0] for each in plain.splitlines()] == ["1", "2"]
        another = str(NoteKey("x", bytes(32)).verifier)
        assert await said(forked / "joule", "ledger", "tail", ledger.url, "--verifier-key", another) == ""


async def page(url: str, what: str, number: object) -> Any:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/{what}?page={number}") as response:
        assert len(await response.read()) < 192 * 1024
        return (await response.json())[what] if response.status == 200 else response.status


@pytest.mark.asyncio
async def test_all_accounts_and_sessions_are_shown_in_pages_of_a_bounded_length(tmp_path: Path) -> None:
    settings = ledger_settings(tmp_path / "ledger")
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 10**12)
        await grow(client, ACCOUNTS)
        for salt in range(3):
            await client.open(make_session(salt=salt, cap=10), CLIENT)
        pages = [await page(ledger.url, "accounts", number) for number in range(3)]
        assert [len(each) for each in pages] == [ACCOUNTS, 2, 0]
        addresses = [each["address"].lower() for each in (*pages[0], *pages[1])]
        assert addresses == sorted(set(addresses))
        (mine,) = [each for each in (*pages[0], *pages[1]) if each["address"].lower() == f"0x{CLIENT.address.hex()}"]
        assert int(mine["free"]) == (await client.account(CLIENT.address)).free
        entry = (await client.entry(int(mine["entry"]))).entry
        assert CLIENT.address in {each.account for each in entry.accounts}
        sessions = await page(ledger.url, "sessions", 0)
        assert len(sessions) == 3
        assert sessions[0]["ceilings"] == ["10"] * 3
        assert await page(ledger.url, "sessions", 1) == []
        for wrong in (-1, "x", 4_096, ""):
            assert await page(ledger.url, "accounts", wrong) == 400
        assert await page(ledger.url, "sessions", 4_095) == []
