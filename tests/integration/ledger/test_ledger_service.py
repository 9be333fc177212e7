"""The ledger's HTTP interface: what it serves, and what it does with requests that are hostile or broken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_world import (
    CLIENT,
    MILLION,
    NOW,
    OPERATOR,
    PROVIDERS,
    STRANGER,
    HandClock,
    close,
    ledger_settings,
    make_terms,
    open_session,
    settle,
)

from node.ledger import LedgerClient, RunningLedger, run_ledger, service
from node.ledger.wire import MAX_OP_BYTES
from protocol.checkpoint import open_checkpoint
from protocol.codec import encode
from protocol.errors import ConfigurationError, ListenError, RefusedError, RuleError, SignatureError
from protocol.ids import checksum_address
from protocol.merkle import leaf_hash
from protocol.messages import Close, Deposit, Genesis, Settle, SignedOp, Withdraw, session_id, sign_op
from protocol.note import VerifierKey
from protocol.session import ledger_domain
from protocol.tiles import decode_bundle


@pytest_asyncio.fixture
async def clock() -> HandClock:
    return HandClock()


@pytest_asyncio.fixture
async def ledger(tmp_path: Path, clock: HandClock) -> AsyncIterator[RunningLedger]:
    settings = ledger_settings(tmp_path / "ledger", faucet_limit=100 * MILLION)
    async with run_ledger(settings, OPERATOR, clock, peers=["/ip4/127.0.0.1/tcp/4001/p2p/16Uiu2"]) as running:
        yield running


@pytest_asyncio.fixture
async def client(ledger: RunningLedger) -> AsyncIterator[LedgerClient]:
    async with LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 10 * MILLION)
        yield client


@pytest_asyncio.fixture
async def http(ledger: RunningLedger) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base_url=ledger.url) as session:
        yield session


async def post(http: aiohttp.ClientSession, body: bytes, path: str = "/ops") -> tuple[int, str]:
    """Status and code of an answer that refuses."""
    async with http.post(path, data=body) as answer:
        said = await answer.json()
        assert answer.status == 200 or {"code", "message"} <= said.keys()
        return answer.status, said.get("code", "")


@pytest.mark.asyncio
async def test_static_files_of_the_log(
    ledger: RunningLedger, client: LedgerClient, http: aiohttp.ClientSession
) -> None:
    async with http.get("/checkpoint") as answer:
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        checkpoint = open_checkpoint(await answer.read(), VerifierKey.parse(ledger.verifier_key))
    assert checkpoint.size == 2
    async with http.get("/tile/entries/000.p/2") as answer:
        entries = decode_bundle(await answer.read(), 2)
        assert "no-store" in answer.headers["Cache-Control"]
    async with http.get("/tile/0/000.p/2") as answer:
        assert await answer.read() == b"".join(map(leaf_hash, entries))
    async with http.get("/tile/0/000.p/1") as answer:  # a narrower one from before stays readable
        assert await answer.read() == leaf_hash(entries[0])
    for path, status, code in (
        ("/tile/0/000.p/3", 404, "not-found"), ("/tile/entries/000.p/3", 404, "not-found"),
        ("/tile/0/000", 404, "not-found"), ("/tile/1/000.p/1", 404, "not-found"), ("/tile/0/0", 400, "malformed"),
        ("/tile/9/000", 400, "malformed"), ("/tile/0/000.p/0", 400, "malformed"), ("/nothing", 404, "http"),
    ):  # fmt: skip
        async with http.get(path) as answer:
            assert (answer.status, (await answer.json())["code"]) == (status, code), path


@pytest.mark.asyncio
async def test_full_tiles_may_be_kept_forever(client: LedgerClient, http: aiohttp.ClientSession) -> None:
    await asyncio.gather(*(client.faucet(STRANGER.address, 1) for _ in range(255)))
    for path in ("/tile/0/000", "/tile/entries/000"):
        async with http.get(path) as answer:
            assert answer.status == 200
            assert "immutable" in answer.headers["Cache-Control"]


@pytest.mark.asyncio
async def test_what_it_says_beside_the_log(
    ledger: RunningLedger, client: LedgerClient, http: aiohttp.ClientSession
) -> None:
    async with http.get("/info") as answer:
        info = await answer.json()
    assert info["verifier_key"] == ledger.verifier_key
    assert ledger.verifier_key.startswith(info["origin"] + "+")
    assert info["operator"] == checksum_address(OPERATOR.address)
    assert info["domain"]["verifyingContract"] == checksum_address(ledger.domain.verifying_contract)
    assert (info["grace_s"], info["faucet_limit"]) == (3600, 100 * MILLION)
    assert info["peers"] == ["/ip4/127.0.0.1/tcp/4001/p2p/16Uiu2"]
    async with http.get(f"/account/{checksum_address(CLIENT.address)}") as answer:
        assert await answer.json() == {"free": 10 * MILLION, "nonce": 0, "entry": 1}
    async with http.get(f"/account/{checksum_address(STRANGER.address)}") as answer:
        assert await answer.json() == {"free": 0, "nonce": 0, "entry": None}
    terms = make_terms()
    await client.submit(open_session(terms), CLIENT)
    await client.submit(settle(client.domain, terms, 1, 1), CLIENT)
    async with http.get(f"/session/{session_id(terms).hex()}") as answer:
        assert await answer.json() == {"opened": 2, "latest": 3}
    for path, status in (
        ("/session/" + "00" * 32, 404), ("/session/xyz", 400), ("/session/" + "AB" * 32, 400), ("/account/0x12", 400),
        ("/account/" + checksum_address(CLIENT.address).swapcase(), 400),
    ):  # fmt: skip
        async with http.get(path) as answer:
            assert answer.status == status, path
            assert (await answer.json())["message"]


@pytest.mark.asyncio
async def test_each_rule_comes_back_with_its_code(client: LedgerClient, clock: HandClock) -> None:
    terms = make_terms()
    await client.submit(open_session(terms), CLIENT)
    await client.submit(settle(client.domain, terms, 50, 10), CLIENT)
    identity = session_id(terms)
    domain = client.domain
    other = make_terms(salt=5)
    early = Close(session=identity, discharges=())
    refused = [
        (open_session(terms), CLIENT, "exists"),
        (open_session(other), STRANGER, "not-client"),
        (open_session(make_terms(salt=1, expiry=NOW)), CLIENT, "expiry"),
        (open_session(make_terms(salt=1, cap=10**9)), CLIENT, "balance"),
        (settle(domain, other, 1, 1), CLIENT, "unknown-session"),
        (settle(domain, terms, 50, 9), CLIENT, "stale"),
        (settle(domain, terms, 10**6, 10**6), CLIENT, "cap"),
        (early, CLIENT, "early"),
        (close(domain, terms, 50, 9), CLIENT, "discharge"),
        (Withdraw(amount=0, reference=""), CLIENT, "amount"),
        (Withdraw(amount=10**9, reference=""), STRANGER, "balance"),
        (Deposit(account=STRANGER.address, amount=1, reference=""), STRANGER, "not-operator"),
        (Genesis(verifier_key="x", grace_s=0, faucet_limit=0), OPERATOR, "genesis"),
    ]
    for action, key, code in refused:
        with pytest.raises(RuleError) as error:
            await client.submit(action, key)
        assert error.value.code == code
        assert error.value.message
    for forged in (settle(domain, terms, 60, 10, STRANGER), settle(ledger_domain("another"), terms, 60, 10)):
        with pytest.raises(SignatureError, match="not signed by the session's client"):
            await client.submit(forged, CLIENT)
    clock.now = terms.expiry + 3601
    with pytest.raises(RuleError) as error:
        await client.submit(settle(domain, terms, 60, 10), CLIENT)
    assert error.value.code == "expired"
    await client.submit(early, STRANGER)  # after the grace anybody may close, and the ledger is none the worse
    with pytest.raises(RuleError) as error:
        await client.submit(settle(domain, terms, 60, 10), CLIENT)
    assert error.value.code == "closed"


@pytest.mark.asyncio
async def test_forged_and_replayed_operations(client: LedgerClient, http: aiohttp.ClientSession) -> None:
    domain = client.domain
    good = sign_op(domain, CLIENT, 5, Withdraw(amount=1, reference="once"))
    assert await post(http, encode(good)) == (200, "")
    assert await post(http, encode(good)) == (422, "nonce")
    for bad in (
        good.replace(nonce=6),
        good.replace(actor=STRANGER.address),
        good.replace(action=encode(Withdraw(amount=2, reference="once"))),
        good.replace(signature=bytes(64)),
        good.replace(signature=b"\xff" * 64),
        sign_op(ledger_domain("another ledger"), CLIENT, 6, Withdraw(amount=1, reference="")),
    ):
        assert await post(http, encode(bad)) == (400, "bad-signature")
    unknown = SignedOp(actor=CLIENT.address, nonce=6, action=b"\x91\xa5other", signature=bytes(64))
    signed = unknown.replace(signature=CLIENT.sign_digest(bytes(32)))
    assert (await post(http, encode(signed)))[0] == 400
    assert (await client.account(CLIENT.address)).free == 10 * MILLION - 1


@pytest.mark.asyncio
async def test_broken_requests(client: LedgerClient, http: aiohttp.ClientSession) -> None:
    good = encode(sign_op(client.domain, CLIENT, 1, Withdraw(amount=1, reference="")))
    for body in (b"", b"{}", good[:-1], good + b"\0", bytes(100), b"\xc1", good.replace(b"op/1", b"op/2")):
        assert await post(http, body) == (400, "malformed")
    assert (await post(http, bytes(MAX_OP_BYTES + 1)))[0] == 413
    for path in ("/ops", "/faucet"):
        async with http.get(path) as answer:
            assert answer.status == 405
    account = checksum_address(STRANGER.address)
    for body in (b"", b"[]", b"{", b"\xff", b"[" * 5000):
        assert await post(http, body, "/faucet") == (400, "malformed"), body
    for request in (
        {"account": account},
        {"account": account, "amount": True},
        {"account": account, "amount": -1},
        {"account": account, "amount": 2**63},
        {"account": account, "amount": 1, "more": 1},
        {"account": 1, "amount": 1},
        {"account": "0x12", "amount": 1},
    ):
        assert await post(http, json.dumps(request).encode(), "/faucet") == (400, "malformed"), request
    await client.faucet(STRANGER.address, 1)


@pytest.mark.asyncio
async def test_garbage_never_stops_the_ledger(client: LedgerClient, http: aiohttp.ClientSession) -> None:
    good = encode(sign_op(client.domain, CLIENT, 1, Withdraw(amount=1, reference="")))
    bodies: list[bytes] = []

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.binary(max_size=200) | st.tuples(st.integers(0, len(good) - 1), st.integers(1, 255)))
    def gather(case: bytes | tuple[int, int]) -> None:
        bodies.append(
            case
            if isinstance(case, bytes)
            else good[: case[0]] + bytes([good[case[0]] ^ case[1]]) + good[case[0] + 1 :]
        )

    await asyncio.to_thread(gather)
    for body in bodies:
        status, code = await post(http, body)
        assert status in (400, 422), code
    await client.submit(Withdraw(amount=1, reference=""), CLIENT)


@pytest.mark.asyncio
async def test_the_faucet_has_a_limit_for_each_account(tmp_path: Path) -> None:
    settings = ledger_settings(tmp_path, faucet_limit=100)
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 60)
        answers = await asyncio.gather(*(client.faucet(CLIENT.address, 15) for _ in range(4)), return_exceptions=True)
        assert sorted(type(answer).__name__ for answer in answers) == ["Proven", "Proven", "RuleError", "RuleError"]
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        with pytest.raises(RuleError, match=r"0\.000010 left") as refused:  # it remembers across a restart
            await client.faucet(CLIENT.address, 11)
        assert refused.value.code == "faucet"
        await client.faucet(CLIENT.address, 10)
        await client.faucet(STRANGER.address, 100)


@pytest.mark.asyncio
async def test_there_is_no_faucet_unless_asked_for(tmp_path: Path) -> None:
    settings = ledger_settings(tmp_path, faucet_limit=0)
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        with pytest.raises(RefusedError):
            await client.faucet(CLIENT.address, 1)
        assert (await client.info()).faucet_limit == 0


@pytest.mark.asyncio
async def test_a_port_in_use(ledger: RunningLedger, tmp_path: Path) -> None:
    port = int(ledger.url.rsplit(":", 1)[1])
    with pytest.raises(ListenError, match=f"127.0.0.1:{port}") as refused:
        async with run_ledger(ledger_settings(tmp_path / "second", port=port), OPERATOR, HandClock()):
            pass
    assert "another port" in refused.value.hint
    async with run_ledger(ledger_settings(tmp_path / "second"), OPERATOR, HandClock()):
        pass  # and the attempt has left nothing locked


@pytest.mark.asyncio
async def test_settings_that_cannot_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for changes, says in (
        ({"folder": tmp_path / "file" / "ledger"}, "cannot make the ledger's folder"),
        ({"origin": "x" * 41}, "more than 40 bytes"),
        ({"database": "mysql://host/x"}, "no ledger is kept in mysql"),
        ({"database": "not a url"}, "cannot be read"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            async with run_ledger(ledger_settings(**{"folder": tmp_path / "ledger", **changes}), OPERATOR, HandClock()):
                pass


@pytest.mark.asyncio
async def test_slow_and_silent_connections_are_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_REQUEST_SECONDS", 0.2)
    monkeypatch.setattr("node.ledger.ledger._KEEPALIVE_SECONDS", 0.2)
    async with run_ledger(ledger_settings(tmp_path), OPERATOR, HandClock()) as ledger:
        port = int(ledger.url.rsplit(":", 1)[1])
        for sent in (b"", b"GET /info HT", b"POST /ops HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            async with asyncio.timeout(10):
                with_end = await reader.read()  # until the ledger closes
            assert b"200 OK" not in with_end
            writer.close()
        async with LedgerClient(ledger.url) as client:
            await client.info()


@pytest.mark.asyncio
async def test_unused_provider_keys_have_no_account(client: LedgerClient) -> None:
    assert (await client.account(PROVIDERS[2].address)).free == 0
    assert await client.session(bytes(32)) is None
    assert isinstance(settle(client.domain, make_terms(), 1, 1), Settle)
