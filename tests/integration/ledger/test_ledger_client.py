"""A client before ledgers that lie, rewrite their past, change their key or go away."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from ledger_world import (
    CLIENT,
    MILLION,
    OPERATOR,
    PROVIDERS,
    STRANGER,
    HandClock,
    ledger_settings,
    lying_ledger,
    make_terms,
    open_session,
    settle,
)

from node.ledger import LedgerClient, RunningLedger, run_ledger
from node.ledger.log_key import read_log_key
from node.ledger.wire import remote_error
from protocol.checkpoint import Checkpoint, sign_checkpoint, verify_entry
from protocol.codec import decode, encode
from protocol.errors import (
    ConfigurationError,
    DishonestError,
    JoulemeshError,
    MalformedError,
    PeerError,
    RefusedError,
    SignatureError,
    UnreachableError,
)
from protocol.messages import LogEntry, Withdraw, session_id
from protocol.note import NoteKey, VerifierKey
from protocol.session import Account
from protocol.tiles import decode_bundle, encode_bundle


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[RunningLedger]:
    async with run_ledger(ledger_settings(tmp_path / "ledger"), OPERATOR, HandClock()) as running:
        async with LedgerClient(running.url) as client:
            await client.faucet(CLIENT.address, 10 * MILLION)
            await client.submit(open_session(make_terms()), CLIENT)
            await client.submit(settle(client.domain, make_terms(), 5, 5), PROVIDERS[0])
        yield running


def log_key(tmp_path: Path) -> NoteKey:
    return read_log_key(tmp_path / "ledger" / "log.key")


@pytest.mark.asyncio
async def test_what_it_returns_verifies_offline(ledger: RunningLedger) -> None:
    key = VerifierKey.parse(ledger.verifier_key)
    async with LedgerClient(ledger.url) as client:
        found = await client.session(session_id(make_terms()))
        assert found is not None
        proven = found[1]
        assert client.note is not None
        await client.compare(client.note)
        info = await client.info()
        assert (info.operator, info.verifier_key) == (OPERATOR.address, ledger.verifier_key)
        with pytest.raises(RefusedError, match="none at 99"):
            await client.entry(99)
    checkpoint = verify_entry(encode(proven.entry), proven.index, proven.proof, proven.checkpoint, key)
    assert checkpoint.size == 4
    with pytest.raises(DishonestError):
        verify_entry(encode(proven.entry.replace(time=1)), proven.index, proven.proof, proven.checkpoint, key)
    with pytest.raises(SignatureError):
        verify_entry(encode(proven.entry), 3, proven.proof, proven.checkpoint, NoteKey(key.name, bytes(32)).verifier)


@pytest.mark.asyncio
async def test_it_signs_for_no_ledger_before_it_knows_the_key(ledger: RunningLedger) -> None:
    async with LedgerClient(ledger.url) as client:
        with pytest.raises(RuntimeError, match="connect"):
            _ = client.domain
        await client.connect()
        assert client.domain == ledger.domain
    async with LedgerClient("http://127.0.0.1:9", verifier_key=ledger.verifier_key) as client:
        assert client.domain == ledger.domain


@pytest.mark.asyncio
async def test_a_log_rewritten_behind_its_back_is_refused(tmp_path: Path) -> None:
    """The operator restores yesterday's copy and goes on from there: fewer entries, then other ones, then more."""
    folder, memory = tmp_path / "ledger", tmp_path / "remembered.json"
    settings = ledger_settings(folder)
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 1)
    shutil.copytree(folder, tmp_path / "yesterday")
    async with (
        run_ledger(settings, OPERATOR, HandClock()) as ledger,
        LedgerClient(ledger.url, remembered=memory) as client,
    ):
        for amount in (2, 3, 4):
            await client.faucet(CLIENT.address, amount)
        seen = await client.checkpoint()
    shutil.rmtree(folder)
    (tmp_path / "yesterday").rename(folder)
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as stranger:
        for size in (2, 5, 7):
            while (await stranger.checkpoint()).size < size:
                await stranger.faucet(CLIENT.address, 99)
            async with LedgerClient(ledger.url, remembered=memory) as client:
                with pytest.raises(DishonestError) as refused:
                    await client.account(CLIENT.address)
                now = await stranger.checkpoint()
                assert str(seen) in refused.value.message
                assert str(now) in refused.value.message
                with pytest.raises(DishonestError):  # and again: nothing of the other history is remembered
                    await client.submit(Withdraw(amount=1, reference=""), CLIENT)
        gossiped = json.loads(memory.read_text())["checkpoint"].encode()
        with pytest.raises(DishonestError):  # those who saw only the new history learn of the old one by gossip
            await stranger.compare(gossiped)


@pytest.mark.asyncio
async def test_another_key_at_the_same_address_is_refused(tmp_path: Path) -> None:
    memory = tmp_path / "remembered.json"
    async with run_ledger(ledger_settings(tmp_path / "one"), OPERATOR, HandClock()) as ledger:
        first = ledger.verifier_key
        async with LedgerClient(ledger.url, remembered=memory) as client:
            await client.connect()
    async with run_ledger(ledger_settings(tmp_path / "two"), OPERATOR, HandClock()) as ledger:
        for pinned in ({"remembered": memory}, {"verifier_key": first}):
            async with LedgerClient(ledger.url, **pinned) as client:  # type: ignore[arg-type]
                with pytest.raises(DishonestError) as refused:
                    await client.connect()
                assert first in refused.value.message
                assert ledger.verifier_key in refused.value.message
                with pytest.raises(SignatureError):
                    await client.checkpoint()
        with pytest.raises(ConfigurationError, match="is remembered"):
            LedgerClient(ledger.url, remembered=memory, verifier_key=ledger.verifier_key)


def entry_changed(index: int, **changes: Any) -> Callable[[bytes], bytes]:
    def change(bundle: bytes) -> bytes:
        entries = decode_bundle(bundle, 4)
        entries[index] = encode(decode(entries[index], LogEntry).replace(**changes))
        return encode_bundle(entries)

    return change


async def ask_everything(client: LedgerClient) -> None:
    await client.info()
    await client.account(CLIENT.address)
    await client.session(session_id(make_terms()))
    await client.entry(1)


FLIP = {
    "hash tile": ("/tile/0", lambda body: body[:-1] + bytes([body[-1] ^ 1]), DishonestError),
    "short tile": ("/tile/0", lambda body: body[:-1], MalformedError),
    "long tile": ("/tile/0", lambda body: body + bytes(32), MalformedError),
    "huge tile": ("/tile/0", lambda _: bytes(10**6), MalformedError),
    "entry": ("/tile/entries", entry_changed(1, time=1), DishonestError),
    "bundle": ("/tile/entries", lambda body: body[:-1], MalformedError),
    "huge bundle": ("/tile/entries", lambda _: bytes(10**6), MalformedError),
    "checkpoint": ("/checkpoint", lambda body: body.replace(b"\n4\n", b"\n5\n"), SignatureError),
    "no checkpoint": ("/checkpoint", lambda _: b"", MalformedError),
    "huge checkpoint": ("/checkpoint", lambda _: bytes(10**6), MalformedError),
    "info is no JSON": ("/info", lambda _: b"<html>", MalformedError),
    "info is deep": ("/info", lambda _: b"[" * 60_000, MalformedError),
    "info is empty": ("/info", lambda _: b"{}", MalformedError),
    "operator": ("/info", lambda body: body.replace(b'"grace_s": 3600', b'"grace_s": 1'), DishonestError),
    "no number": ("/account", lambda _: b'{"free": 1, "nonce": 0, "entry": "3"}', MalformedError),
    "negative": ("/account", lambda _: b'{"free": 1, "nonce": 0, "entry": -3}', MalformedError),
    "another entry": ("/account", lambda _: b'{"free": 1, "nonce": 0, "entry": 0}', DishonestError),
    "beyond": ("/account", lambda _: b'{"free": 1, "nonce": 0, "entry": 77}', RefusedError),
    "session": ("/session", lambda _: b'{"opened": 1, "latest": 3}', DishonestError),
    "session's last": ("/session", lambda _: b'{"opened": 2, "latest": 1}', DishonestError),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("lie", FLIP)
async def test_lies_are_found(ledger: RunningLedger, lie: str) -> None:
    path, change, error = FLIP[lie]
    lies: dict[str, Callable[[bytes], bytes]] = {path: change}
    async with lying_ledger(ledger.url, lies) as url, LedgerClient(url, verifier_key=ledger.verifier_key) as client:
        with pytest.raises(error):
            await ask_everything(client)
        lies.clear()
        await ask_everything(client)  # nothing of the lie stays


@pytest.mark.asyncio
async def test_an_older_entry_is_not_passed_off_as_the_last(ledger: RunningLedger) -> None:
    lies: dict[str, Callable[[bytes], bytes]] = {}
    async with lying_ledger(ledger.url, lies) as url, LedgerClient(url) as client:
        assert await client.account(CLIENT.address) == Account(7 * MILLION, 1)
        for stale in (b'{"free": 0, "nonce": 0, "entry": 1}', b'{"free": 0, "nonce": 0, "entry": null}'):
            lies["/account"] = lambda _, stale=stale: stale  # type: ignore[misc]
            with pytest.raises(DishonestError, match="entry 2 changed it"):
                await client.account(CLIENT.address)
        assert await client.session(session_id(make_terms())) is not None
        lies["/session"] = lambda _: b'{"opened": 2, "latest": 2}'
        with pytest.raises(DishonestError, match="entry 3 changed it"):
            await client.session(session_id(make_terms()))


@pytest.mark.asyncio
@pytest.mark.parametrize("said", [b'{"index": 1, "size": 9}', b'{"index": 50, "size": 60}'])
async def test_acknowledged_but_not_there(ledger: RunningLedger, said: bytes) -> None:
    lies = {"/ops": lambda _: said, "/faucet": lambda _: said}
    async with lying_ledger(ledger.url, lies) as url, LedgerClient(url) as client:
        with pytest.raises(DishonestError, match="acknowledged"):
            await client.submit(Withdraw(amount=1, reference=""), CLIENT)
        with pytest.raises(DishonestError, match="acknowledged"):
            await client.faucet(STRANGER.address, 7)


@pytest.mark.asyncio
async def test_one_key_from_two_places(ledger: RunningLedger) -> None:
    """Two clients do not know of each other's nonces; both get their operations in."""
    async with LedgerClient(ledger.url) as one, LedgerClient(ledger.url) as other:
        for _ in range(3):
            await one.submit(Withdraw(amount=1, reference="one"), CLIENT)
            await other.submit(Withdraw(amount=1, reference="other"), CLIENT)
        await asyncio.gather(*(one.submit(Withdraw(amount=1, reference="many"), CLIENT) for _ in range(10)))
        assert await one.account(CLIENT.address) == Account(7 * MILLION - 16, 17)


@pytest.mark.asyncio
async def test_a_ledger_that_is_down(tmp_path: Path) -> None:
    settings = ledger_settings(tmp_path / "ledger")
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger:
        client = LedgerClient(ledger.url, timeout_s=5)
        await client.connect()
    for ask in (
        client.checkpoint, client.info, lambda: client.account(CLIENT.address), lambda: client.session(bytes(32)),
        lambda: client.submit(Withdraw(amount=1, reference=""), CLIENT), lambda: client.faucet(CLIENT.address, 1),
    ):  # fmt: skip
        with pytest.raises(UnreachableError, match=ledger.url) as down:
            await ask()  # type: ignore[operator]
        assert down.value.hint == "is it running? start it with: joule ledger run"
    await client.close()
    async with LedgerClient("http://nowhere.invalid:1") as client:
        with pytest.raises(UnreachableError):
            await client.info()


@pytest.mark.asyncio
async def test_a_service_that_is_no_ledger() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, LedgerClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        with pytest.raises(UnreachableError):
            await client.info()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '{"verifier_key": "x", "checkpoint": "y"}', '{"verifier_key": 1, "checkpoint": 2}', "\xff"],
)
async def test_a_spoiled_memory_is_not_ignored(tmp_path: Path, content: str) -> None:
    memory = tmp_path / "remembered.json"
    memory.write_text(content)
    with pytest.raises(ConfigurationError, match="cannot be read") as refused:
        LedgerClient("http://127.0.0.1:9", remembered=memory)
    assert "trust" in refused.value.hint


@pytest.mark.asyncio
async def test_memory_that_cannot_be_written(ledger: RunningLedger, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with LedgerClient(ledger.url, remembered=tmp_path / "file" / "remembered.json") as client:
        with pytest.raises(ConfigurationError, match="cannot remember"):
            await client.connect()


@pytest.mark.asyncio
async def test_errors_from_a_hostile_ledger_are_cleaned(ledger: RunningLedger) -> None:
    async with LedgerClient(ledger.url) as client:
        with pytest.raises(JoulemeshError):
            await client.submit(Withdraw(amount=2**62, reference=""), STRANGER)
    hostile = {"error": "RuleError", "code": "x\x1b[2J", "message": "a\nb\x1b[31m" + "y" * 5000, "hint": 7}
    error = remote_error(422, hostile)
    assert error.message.isprintable()
    assert error.code.isprintable()
    assert len(error.message) <= 400
    assert isinstance(remote_error(400, ["x"]), PeerError)
    assert isinstance(remote_error(502, None), UnreachableError)


@pytest.mark.asyncio
async def test_a_checkpoint_signed_twice_for_one_size(ledger: RunningLedger, tmp_path: Path) -> None:
    """Two notes of one size with two roots are a proof against the operator all by themselves."""
    key = log_key(tmp_path)
    async with LedgerClient(ledger.url) as client:
        other = sign_checkpoint(Checkpoint(key.verifier.name, (await client.checkpoint()).size, bytes(32)), key)
        with pytest.raises(DishonestError, match="contradicts itself"):
            await client.compare(other)
        with pytest.raises(SignatureError):
            await client.compare(sign_checkpoint(Checkpoint("x", 1, bytes(32)), NoteKey("x", bytes(32))))
