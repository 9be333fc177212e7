"""A client before ledgers that lie, rewrite their past, change their key or go away."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
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
    make_session,
    open_session,
    release,
    settle,
    voucher_of,
    withdraw,
)

from node.ledger import LedgerClient, RunningLedger, run_ledger
from node.ledger.log_key import read_log_key
from node.ledger.log_source import HttpLog
from node.ledger.wire import remote_error
from protocol.encoding.codec import decode, encode
from protocol.errors import (
    ConfigurationError,
    DishonestError,
    ForkedError,
    JoulemeshError,
    MalformedError,
    PeerError,
    RefusedError,
    SignatureError,
    UnreachableError,
)
from protocol.identity.ids import checksum_address
from protocol.log.checkpoint import Checkpoint, format_checkpoint, sign_checkpoint
from protocol.log.merkle import leaf_hash, node_hash
from protocol.log.note import NoteKey, VerifierKey, sign_note
from protocol.session.messages import session_id
from protocol.settlement import Account
from protocol.settlement.evidence import LogProof, check_log_proof
from protocol.settlement.operations import LogEntry


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[RunningLedger]:
    async with run_ledger(ledger_settings(tmp_path / "ledger"), OPERATOR, HandClock()) as running:
        async with LedgerClient(running.url) as client:
            await client.faucet(CLIENT.address, 10 * MILLION)
            await client.submit(open_session(make_session()), CLIENT)
            await client.submit(settle(client.domain, make_session(), 5, 6, 7), PROVIDERS[0])
        yield running


def log_key(tmp_path: Path) -> NoteKey:
    return read_log_key(tmp_path / "ledger" / "log.key")


@pytest.mark.asyncio
async def test_what_it_returns_verifies_offline(ledger: RunningLedger) -> None:
    key = VerifierKey.parse(ledger.verifier_key)
    async with LedgerClient(ledger.url) as client:
        evidence = await client.evidence(session_id(make_session()))
        assert client.note is not None
        await client.compare(client.note)
        info = await client.info()
        assert (info.operator, info.verifier_key, info.fee) == (OPERATOR.address, ledger.verifier_key, 1)
        rules = await client.rules()
        assert (rules.grace_s, rules.fee) == (3600, 1)
        with pytest.raises(RefusedError, match="none at 99"):
            await client.entry(99)
    proof = decode(evidence, LogProof)
    entry, checkpoint = check_log_proof(proof, key)
    assert checkpoint.size == 4
    assert entry.sessions[0].settled == (5, 6, 7)
    with pytest.raises(DishonestError):
        check_log_proof(proof.replace(entry=encode(entry.replace(time=1))), key)
    with pytest.raises(SignatureError):
        check_log_proof(proof, NoteKey(key.name, bytes(32)).verifier)


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
                assert size == 7 or str(now) in refused.value.message  # from 5 on it is proven, and stays so
                assert isinstance(refused.value, ForkedError) == (size >= 5)
                with pytest.raises(DishonestError):  # and again: nothing of the other history is remembered
                    await client.submit(withdraw(1), CLIENT)
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
                with pytest.raises(DishonestError):
                    await client.checkpoint()
        with pytest.raises(ConfigurationError, match="is remembered"):
            LedgerClient(ledger.url, remembered=memory, verifier_key=ledger.verifier_key)


def changed(*path: str, to: Any) -> Callable[[bytes], bytes]:
    """Puts another value where `path` leads in an answer; `to` may be a function of the old one."""

    def change(body: bytes) -> bytes:
        answer = json.loads(body)
        inner = answer
        for name in path[:-1]:
            inner = inner[name]
        if path[-1] in inner:
            inner[path[-1]] = to(inner[path[-1]]) if callable(to) else to
        return json.dumps(answer).encode()

    return change


def entry_changed(spelled: str) -> str:
    return base64.b64encode(encode(decode(base64.b64decode(spelled), LogEntry).replace(time=1))).decode()


def first_changed(spelled: list[str]) -> list[str]:
    return [base64.b64encode(bytes(32)).decode(), *spelled[1:]]


async def ask_everything(client: LedgerClient) -> None:
    await client.info()
    await client.account(CLIENT.address)
    await client.session(session_id(make_session()))
    await client.entry(1)
    await client.checkpoint()


FLIP = {
    "proof": ("/entry", changed("entry", "proof", to=first_changed), DishonestError),
    "short proof": ("/entry", changed("entry", "proof", to=lambda said: said[:-1]), MalformedError),
    "long proof": ("/entry", changed("entry", "proof", to=lambda said: [*said, said[0]]), MalformedError),
    "endless proof": ("/entry", changed("entry", "proof", to=lambda said: said * 99), MalformedError),
    "half a hash": ("/entry", changed("entry", "proof", to=lambda said: ["AAAA", *said[1:]]), MalformedError),
    "no base64": ("/entry", changed("entry", "proof", to=lambda said: ["?", *said[1:]]), MalformedError),
    "entry": ("/entry", changed("entry", "entry", to=entry_changed), DishonestError),
    "another index": ("/entry", changed("entry", "index", to="2"), DishonestError),
    "a number": ("/entry", changed("entry", "index", to=1), MalformedError),
    "no entry": ("/entry", changed("entry", to=None), MalformedError),
    "checkpoint": (
        "/consistency",
        changed("checkpoint", to=lambda note: note.replace("\n4\n", "\n5\n")),
        SignatureError,
    ),
    "no checkpoint": ("/consistency", changed("checkpoint", to=""), MalformedError),
    "no note": ("/consistency", changed("checkpoint", to=None), MalformedError),
    "no consistency": ("/consistency", changed("consistency", to={}), DishonestError),
    "consistency": ("/consistency", changed("consistency", to=lambda _: {"4": ["A" * 43 + "="]}), DishonestError),
    "consistency's kind": ("/consistency", changed("consistency", to=[]), MalformedError),
    "huge": ("/consistency", lambda _: bytes(10**6), MalformedError),
    "one key twice": ("/consistency", lambda body: body[:-1] + b', "checkpoint": "x"}', MalformedError),
    "info is no JSON": ("/info", lambda _: b"<html>", MalformedError),
    "info is deep": ("/info", lambda _: b"[" * 60_000, MalformedError),
    "info is empty": ("/info", lambda _: b"{}", MalformedError),
    "grace": ("/info", changed("grace_s", to=1), DishonestError),
    "fee": ("/info", changed("fee", to="2"), DishonestError),
    "operator": ("/info", changed("operator", to="0x" + "11" * 20), DishonestError),
    "key": ("/info", changed("verifier_key", to=lambda _: str(NoteKey("x", bytes(32)).verifier)), DishonestError),
    "genesis": ("/info", changed("genesis", "index", to="1"), DishonestError),
    "missing": ("/account", lambda body: body.replace(b'"entry": {', b'"entri": {'), MalformedError),
    "nothing": ("/account", changed("entry", to=None), DishonestError),
    "session's last": ("/session", changed("latest", "index", to="1"), DishonestError),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("lie", FLIP)
async def test_lies_are_found(ledger: RunningLedger, lie: str) -> None:
    path, change, error = FLIP[lie]
    lies: dict[str, Callable[[bytes], bytes]] = {}
    async with lying_ledger(ledger.url, lies) as url, LedgerClient(url, verifier_key=ledger.verifier_key) as client:
        await client.entry(3)  # what it has seen already, no answer takes back
        await client.entry(2)
        lies[path] = change
        with pytest.raises(error):
            await ask_everything(client)
        lies.clear()
        await ask_everything(client)  # nothing of the lie stays


@pytest.mark.asyncio
async def test_an_older_entry_is_not_passed_off_as_the_last(ledger: RunningLedger) -> None:
    lies: dict[str, Callable[[bytes], bytes]] = {}
    async with (
        aiohttp.ClientSession() as http,
        lying_ledger(ledger.url, lies) as url,
        LedgerClient(url) as client,
    ):
        async with http.get(f"{ledger.url}/entry/1") as answer:
            older = (await answer.json())["entry"]
        async with http.get(f"{ledger.url}/entry/2") as answer:
            opening = (await answer.json())["entry"]
        assert await client.account(CLIENT.address) == Account(7 * MILLION - 1, 1)
        for stale in (older, None):
            lies["/account"] = changed("entry", to=stale)
            with pytest.raises(DishonestError, match="entry 2 changed it"):
                await client.account(CLIENT.address)
        assert await client.session(session_id(make_session())) is not None
        lies["/session"] = changed("latest", to=opening)
        with pytest.raises(DishonestError, match="entry 3 changed it"):
            await client.session(session_id(make_session()))
        lies["/session"] = changed("opened", to=older)
        with pytest.raises(DishonestError, match="does not open"):
            await client.session(session_id(make_session()))
        lies["/account"] = changed("entry", to=lambda _: opening)
        with pytest.raises(DishonestError, match="does not change account"):
            await client.account(STRANGER.address)


@pytest.mark.asyncio
async def test_acknowledged_but_not_there(ledger: RunningLedger) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{ledger.url}/entry/1") as answer:
        another = (await answer.json())["entry"]
    lies: dict[str, Callable[[bytes], bytes]] = {}
    async with lying_ledger(ledger.url, lies) as url, LedgerClient(url) as client:
        lies["/ops"] = lies["/faucet"] = changed("entry", "entry", to=entry_changed)
        with pytest.raises(DishonestError, match="acknowledged"):
            await client.submit(withdraw(1), CLIENT)
        with pytest.raises(DishonestError, match="acknowledged"):
            await client.faucet(STRANGER.address, 7)
        lies["/ops"] = changed("entry", "index", to="2")
        with pytest.raises(PeerError):
            await client.submit(withdraw(1), CLIENT)
        lies["/ops"] = changed("entry", to=another)
        with pytest.raises(PeerError):  # its proof is of an older, smaller log
            await client.submit(withdraw(1), CLIENT)


@pytest.mark.asyncio
async def test_an_operation_takes_one_request(ledger: RunningLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    request = HttpLog._request

    async def counted(log: HttpLog, method: str, path: str, *rest: Any) -> bytes:
        asked.append(f"{method} {path.partition('?')[0]}")
        return await request(log, method, path, *rest)

    monkeypatch.setattr(HttpLog, "_request", counted)
    session, other = make_session(salt=1), make_session(salt=2)
    async with LedgerClient(ledger.url) as client:
        await client.account(CLIENT.address)
        assert asked == ["GET info", f"GET account/{checksum_address(CLIENT.address)}"]
        asked.clear()
        await client.check_opened(session, await client.open(session, CLIENT))
        await client.open(other, CLIENT)
        await client.settle([voucher_of(client.domain, each, 1, 2, 3) for each in (session, other)], CLIENT)
        assert asked == ["POST ops"] * 3
        await client.session(session_id(session))
        await client.evidence(session_id(session))
        assert len(asked) == 5


@pytest.mark.asyncio
async def test_one_key_from_two_places(ledger: RunningLedger) -> None:
    """Two clients do not know of each other's nonces; both get their operations in."""
    async with LedgerClient(ledger.url) as one, LedgerClient(ledger.url) as other:
        for _ in range(3):
            await one.submit(withdraw(1, "one"), CLIENT)
            await other.submit(withdraw(1, "other"), CLIENT)
        await asyncio.gather(*(each.submit(withdraw(1, "many"), CLIENT) for each in (one, other) for _ in range(5)))
        assert await one.account(CLIENT.address) == Account(7 * MILLION - 33, 17)


@pytest.mark.asyncio
async def test_a_ledger_that_is_down(tmp_path: Path) -> None:
    settings = ledger_settings(tmp_path / "ledger")
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger:
        client = LedgerClient(ledger.url, timeout_s=5)
        await client.connect()
    for ask in (
        client.checkpoint, client.info, lambda: client.account(CLIENT.address), lambda: client.session(bytes(32)),
        lambda: client.submit(withdraw(1), CLIENT), lambda: client.faucet(CLIENT.address, 1),
    ):  # fmt: skip
        with pytest.raises(UnreachableError, match=ledger.url) as down:
            await ask()  # type: ignore[operator]
        assert down.value.hint == "is it running? start it with: joule ledger run"
    await client.disconnect()
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
            await client.submit(withdraw(2**62), STRANGER)
    hostile = {"error": "RuleError", "code": "x\x1b[2J", "message": "a\nb\x1b[31m" + "y" * 5000, "hint": 7}
    error = remote_error(422, hostile)
    assert error.message.isprintable()
    assert error.code.isprintable()
    assert len(error.message) <= 400
    assert remote_error(429, {"code": "busy"}).code == "busy"
    assert isinstance(remote_error(400, ["x"]), PeerError)
    assert isinstance(remote_error(502, None), UnreachableError)


def forged(key: NoteKey, size: int, root: bytes = bytes(32)) -> bytes:
    """A checkpoint that the operator's key has signed, of a log that nobody has seen."""
    return sign_checkpoint(Checkpoint(key.verifier.name, size, root), key)


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 900])
async def test_checkpoints_of_two_histories_are_refused(ledger: RunningLedger, tmp_path: Path, size: int) -> None:
    """Two notes of one size with two roots are a proof against the operator by themselves; others need the log's."""
    key = log_key(tmp_path)
    async with LedgerClient(ledger.url) as client:
        assert (await client.checkpoint()).size == 4
        with pytest.raises(DishonestError, match="contradicts itself"):
            await client.compare(forged(key, size))
        with pytest.raises(SignatureError):
            await client.compare(sign_checkpoint(Checkpoint("x", size, bytes(32)), NoteKey("x", bytes(32))))
        await client.checkpoint()  # what is remembered is the ledger's own


@pytest.mark.asyncio
async def test_junk_signatures_make_no_news(ledger: RunningLedger, tmp_path: Path) -> None:
    """A note is known by its text: anybody can put another signature on it, and make the log's own one look new."""
    key, junk = log_key(tmp_path), [NoteKey(f"junk{number}", bytes([number]) * 32) for number in range(1, 30)]
    asked: list[bytes] = []

    def count(body: bytes) -> bytes:
        asked.append(body)
        return body

    lies = {"/consistency": count}
    async with lying_ledger(ledger.url, lies) as url, LedgerClient(url) as client:
        async with LedgerClient(ledger.url) as before:
            first = await before.checkpoint()
            await before.faucet(STRANGER.address, 1)
        await client.connect()
        asked.clear()
        await client.compare(sign_checkpoint(first, key))
        assert len(asked) == 1
        text = format_checkpoint(first)
        for other in junk:
            await client.compare(sign_note(text, [key, other]))
        assert len(asked) == 1
        lie = Checkpoint(key.verifier.name, 3, bytes(32))
        with pytest.raises(DishonestError):
            await client.compare(sign_checkpoint(lie, key))
        for other in junk:  # told once, not once for each signature
            await client.compare(sign_note(format_checkpoint(lie), [key, other]))
        assert len(asked) == 2


@pytest.mark.asyncio
async def test_evidence_is_checked_without_asking_and_its_checkpoint_with_the_next_answer(
    ledger: RunningLedger, tmp_path: Path
) -> None:
    key, session = log_key(tmp_path), make_session(salt=7)
    async with LedgerClient(ledger.url) as client, LedgerClient(ledger.url) as provider:
        await provider.connect()
        evidence = await client.open(session, CLIENT)
        await provider.check_opened(session, evidence)
        for wrong in (make_session(salt=8), make_session(salt=7, cap=1)):
            with pytest.raises(DishonestError, match="not of this session's opening"):
                await provider.check_opened(wrong, evidence)
        with pytest.raises(PeerError):
            await provider.check_opened(session, evidence[:-1])
        await client.submit(release(client.domain, session, [0, 0, 0]), CLIENT)
        with pytest.raises(DishonestError):
            await provider.check_opened(session, await client.evidence(session_id(session)))
        await provider.account(CLIENT.address)  # proves that the evidence's checkpoint is of its history
        # A log that only the evidence shows: one entry, signed for by the operator.
        entry = decode(evidence, LogProof).entry
        for size, proof in ((1, ()), (2, (bytes(32),))):
            root = leaf_hash(entry) if size == 1 else node_hash(bytes(32), leaf_hash(entry))
            lie = LogProof(entry=entry, index=size - 1, proof=proof, checkpoint=forged(key, size, root))
            async with LedgerClient(ledger.url) as fresh:
                await fresh.connect()
                await fresh.check_opened(session, encode(lie))  # nothing known speaks against it yet
                with pytest.raises(DishonestError, match="contradicts itself"):
                    await fresh.account(CLIENT.address)
                with pytest.raises(DishonestError, match="contradicts itself"):  # and from now on it is known
                    await fresh.check_opened(session, encode(lie))
                await fresh.account(CLIENT.address)  # the ledger itself has not changed its story
