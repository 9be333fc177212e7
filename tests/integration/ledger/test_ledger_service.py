"""The ledger's HTTP interface: what it serves, and what it does with requests that are hostile or broken."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from brevity import at_length
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
    deposit,
    discharge_of,
    genesis,
    ledger_settings,
    make_session,
    open_session,
    release,
    release_all,
    settle,
    withdraw,
)

from node.ledger import (
    LedgerClient,
    Proven,
    Rate,
    Rates,
    RunningLedger,
    door,
    published,
    run_ledger,
    tree,
    verify_url,
)
from node.ledger.store import Store
from node.ledger.wire import MAX_KNOWN, MAX_OP_BYTES, Answer
from protocol.encoding.codec import decode, encode
from protocol.errors import ConfigurationError, ListenError, RefusedError, RuleError, SignatureError, UnreachableError
from protocol.identity.eip712 import sign_typed
from protocol.identity.ids import checksum_address
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import open_checkpoint
from protocol.log.merkle import leaf_hash, verify_consistency
from protocol.log.note import VerifierKey
from protocol.log.tiles import decode_bundle
from protocol.session.messages import session_id
from protocol.settlement import Account, ledger_domain
from protocol.settlement.evidence import LogProof, check_log_proof
from protocol.settlement.operations import Action, SignedOp, sign_op


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


def signed_by(key: SigningKey, ledger: LedgerClient, action: Action, nonce: int) -> SignedOp:
    return sign_op(ledger.domain, key, action.replace(actor=key.address, nonce=nonce))


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
    async with http.get("/tile/0/000.p/2") as answer:
        assert await answer.read() == b"".join(map(leaf_hash, entries))
    async with http.get("/tile/0/000.p/1") as answer:  # a narrower one from before stays readable
        assert await answer.read() == leaf_hash(entries[0])
    for path, code in (
        ("/tile/0/000.p/3", "not-found"), ("/tile/entries/000.p/3", "not-found"), ("/tile/0/000", "not-found"),
        ("/tile/1/000.p/1", "not-found"), ("/tile/7/000", "not-found"), ("/tile/0/0", "not-found"),
        ("/tile/9/000", "not-found"), ("/tile/63/000", "not-found"), ("/tile/0/000.p/0", "not-found"),
        ("/tile/0/000.p/256", "not-found"), ("/tile/x/000", "not-found"), ("/tile/0/x000/000", "not-found"),
        ("/tile/", "http"), ("/nothing", "http"),
    ):  # fmt: skip
        async with http.get(path) as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, code), path


@pytest.mark.asyncio
async def test_tiles_may_be_kept_forever_and_the_checkpoint_never(
    client: LedgerClient, http: aiohttp.ClientSession
) -> None:
    """A partial tile too: one that has grown has another path."""
    await asyncio.gather(*(client.faucet(STRANGER.address, 1) for _ in range(260)))
    paths = ("/tile/0/000", "/tile/entries/000", "/tile/0/001.p/6", "/tile/entries/001.p/6", "/tile/1/000.p/1")
    for path in paths:
        async with http.get(path) as answer:
            assert answer.status == 200, path
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    for path in ("/checkpoint", "/info", "/consistency"):
        async with http.get(path) as answer:
            assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.asyncio
async def test_bundles_are_packed_for_those_who_can_unpack_them(
    ledger: RunningLedger, client: LedgerClient, http: aiohttp.ClientSession
) -> None:
    await asyncio.gather(*(client.faucet(STRANGER.address, 1) for _ in range(20)))
    sizes, contents = {}, set()
    async with aiohttp.ClientSession(base_url=ledger.url, auto_decompress=False) as raw:
        for accepted in ("gzip", "br, GZIP;q=0.5", "gzip;q=0", "identity", "deflate"):
            async with raw.get("/tile/entries/000.p/20", headers={"Accept-Encoding": accepted}) as answer:
                body, packed = await answer.read(), answer.headers.get("Content-Encoding") == "gzip"
                assert answer.headers["Vary"] == "Accept-Encoding"
            assert packed is (accepted in ("gzip", "br, GZIP;q=0.5"))
            sizes[accepted] = len(body)
            contents.add(gzip.decompress(body) if packed else body)
        async with raw.get("/tile/0/000.p/20", headers={"Accept-Encoding": "gzip"}) as answer:
            assert "Content-Encoding" not in answer.headers  # hashes cannot be packed
    assert len(contents) == 1
    assert sizes["gzip"] < sizes["identity"] // 2
    assert len(decode_bundle(contents.pop(), 20)) == 20


@pytest.mark.asyncio
async def test_what_it_says_beside_the_log(
    ledger: RunningLedger, client: LedgerClient, http: aiohttp.ClientSession
) -> None:
    async with http.get("/info") as answer:
        info = await answer.json()
    assert info["verifier_key"] == ledger.verifier_key
    assert ledger.verifier_key.startswith(info["origin"] + "+")
    assert info["operator"] == checksum_address(OPERATOR.address)
    assert info["domain"] == {
        "name": "joulemesh",
        "version": "2",
        "chainId": ledger.domain.chain_id,
        "verifyingContract": checksum_address(ledger.domain.verifying_contract),
    }
    assert info["venue"] == "0x" + ledger.domain.separator.hex()
    assert (info["grace_s"], info["faucet_limit"], info["fee"]) == (3600, str(100 * MILLION), "1")
    assert info["peers"] == ["/ip4/127.0.0.1/tcp/4001/p2p/16Uiu2"]
    async with http.get(f"/account/{checksum_address(CLIENT.address)}") as answer:
        said = await answer.json()
        assert (said["free"], said["nonce"], said["entry"]["index"]) == (str(10 * MILLION), "0", "1")
    async with http.get(f"/account/{checksum_address(STRANGER.address)}") as answer:
        said = await answer.json()
        assert (said["free"], said["nonce"], said["entry"]) == ("0", "0", None)
    session = make_session()
    await client.submit(open_session(session), CLIENT)
    await client.submit(settle(client.domain, session, 1, 2, 3), CLIENT)
    async with http.get(f"/session/{session_id(session).hex()}") as answer:
        said = await answer.json()
    assert (said["settled"], said["ceilings"]) == (["1", "2", "3"], [str(MILLION)] * 3)
    assert (said["opened"]["index"], said["latest"]["index"]) == ("2", "3")
    for path, status in (
        ("/session/" + "00" * 32, 404), ("/session/xyz", 400), ("/session/" + "AB" * 32, 400), ("/account/0x12", 400),
        ("/account/" + checksum_address(CLIENT.address).swapcase(), 400), ("/entry/4", 404), ("/entry/-1", 400),
        ("/entry/01", 400), ("/entry/9223372036854775808", 400),
    ):  # fmt: skip
        async with http.get(path) as answer:
            assert answer.status == status, path
            assert (await answer.json())["message"]


@pytest.mark.asyncio
async def test_every_answer_proves_itself(
    ledger: RunningLedger, client: LedgerClient, http: aiohttp.ClientSession
) -> None:
    """Verified with nothing but the answer and the key; each says how its checkpoint continues the sizes asked from."""
    key = VerifierKey.parse(ledger.verifier_key)
    session = make_session()
    await client.submit(open_session(session), CLIENT)
    roots = {}
    for size in (1, 2, 3):
        _, checkpoint = check_log_proof(proof_in(await client.entry(size - 1)), key)
        roots[checkpoint.size] = checkpoint.root
    await client.submit(settle(client.domain, session, 1, 2, 3), CLIENT)
    operation = encode(signed_by(CLIENT, client, withdraw(1), 3))
    asked = "?known=3&known=3&known=99"
    bodies = []
    for path, names in (
        (f"/account/0x{CLIENT.address.hex()}", ["entry"]),
        (f"/session/{session_id(session).hex()}", ["opened", "latest"]),
        ("/entry/2", ["entry"]),
        ("/info", ["genesis"]),
        ("/consistency", []),
    ):
        async with http.get(path + asked) as answer:
            bodies.append((await answer.json(), names))
    async with http.post("/ops" + asked, data=operation) as answer:
        bodies.append((await answer.json(), ["entry"]))
    for body, names in bodies:
        read = Answer.from_json(body)
        now = open_checkpoint(read.note, key)
        assert read.consistency.keys() == {3}  # nothing is said of a log that is longer than this one
        verify_consistency(3, now.size, roots[3], now.root, read.consistency[3])
        for name in names:
            place = read.place(name)
            proof = LogProof(entry=place.entry, index=place.index, proof=place.proof, checkpoint=read.note)
            entry, _ = check_log_proof(proof, key)
            assert encode(entry) == place.entry
    assert bodies[-1][0]["entry"]["index"] == "4"
    for bad in ("known=0", "known=x", "known=-1", "known=01", "&".join(["known=1"] * (MAX_KNOWN + 1))):
        async with http.get(f"/consistency?{bad}") as answer:
            assert answer.status == 400, bad
        async with http.post(f"/ops?{bad}", data=operation) as answer:
            assert answer.status == 400, bad


def proof_in(proven: Proven) -> LogProof:
    return decode(proven.evidence, LogProof)


@pytest.mark.asyncio
async def test_answers_take_no_query(
    client: LedgerClient, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The edge of the log and the newest entries are in memory: reads of the database are for the old parts."""
    session = make_session()
    await client.submit(open_session(session), CLIENT)

    async def no_reading(*_: object) -> None:
        raise AssertionError("an answer asked the database")

    for name in ("tile", "entries", "checkpoint", "all_accounts", "sessions"):
        monkeypatch.setattr(Store, name, no_reading)
    await client.submit(settle(client.domain, session, 1, 2, 3), CLIENT)
    assert (await client.session(session_id(session))) is not None
    assert await client.account(CLIENT.address) == Account(7 * MILLION - 2, 2)
    await client.info()
    for path in ("/checkpoint", "/tile/0/000.p/4", "/tile/entries/000.p/4", "/tile/entries/000.p/2"):
        async with http.get(path) as answer:
            assert answer.status == 200, path


@pytest.mark.asyncio
async def test_old_parts_are_still_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart, and with next to nothing kept in memory."""
    settings = ledger_settings(tmp_path)
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        for _ in range(10):
            await asyncio.gather(*(client.faucet(STRANGER.address, 1) for _ in range(30)))
    for module, name in ((tree, "_TILES"), (tree, "_NODES"), (published, "_ENTRIES"), (published, "_PROOFS")):
        monkeypatch.setattr(module, name, 2)
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await asyncio.gather(*(client.faucet(STRANGER.address, 1) for _ in range(10)))
        size = (await client.checkpoint()).size
        for index in (0, 1, 255, 256, 257, size // 2, size - 1):
            assert (await client.entry(index)).index == index
        assert (await verify_url(ledger.url)).fault is None


@pytest.mark.asyncio
async def test_each_rule_comes_back_with_its_code(client: LedgerClient, clock: HandClock) -> None:
    session, other = make_session(), make_session(salt=5)
    await client.submit(open_session(session), CLIENT)
    await client.submit(settle(client.domain, session, 50, 10, 0), CLIENT)
    domain = client.domain
    refused = [
        (open_session(session), CLIENT, "exists"),
        (open_session(make_session(salt=1), bytes(64)), CLIENT, "not-client"),
        (open_session(make_session(salt=1, expiry=NOW)), CLIENT, "expiry"),
        (open_session(make_session(salt=1, cap=10**9)), CLIENT, "balance"),
        (settle(domain, other, 1, 1, 1), CLIENT, "unknown-session"),
        (settle(domain, session, 50, 9, 0), CLIENT, "settled"),
        (settle(domain, session, 60, MILLION + 1, 0), CLIENT, "cap"),
        (settle(domain, session, 60, 60), CLIENT, "mismatch"),
        (release_all(discharge_of(domain, session, 0, MILLION)), CLIENT, "released"),
        (close(session), CLIENT, "early"),
        (withdraw(0), CLIENT, "amount"),
        (withdraw(10**9), STRANGER, "balance"),
        (deposit(STRANGER, 1), STRANGER, "not-operator"),
        (genesis("x"), OPERATOR, "genesis"),
    ]
    for action, key, code in refused:
        with pytest.raises(RuleError) as error:
            await client.submit(action, key)
        assert error.value.code == code
        assert error.value.message
    elsewhere = ledger_domain("another")
    for forged in (settle(domain, session, 60, 1, 1, key=STRANGER), settle(elsewhere, session, 60, 1, 1)):
        with pytest.raises(SignatureError, match="not signed by the session's client"):
            await client.submit(forged, CLIENT)
    with pytest.raises(SignatureError, match="not signed by its leg"):
        await client.submit(release(elsewhere, session, [50, 10, 0]), CLIENT)
    clock.now = session.expiry + 3601
    with pytest.raises(RuleError) as error:
        await client.submit(settle(domain, session, 60, 10, 0), CLIENT)
    assert error.value.code == "expired"
    await client.faucet(STRANGER.address, 1)
    await client.submit(close(session), STRANGER)  # after the grace anybody may close who pays the fee
    with pytest.raises(RuleError) as error:
        await client.submit(settle(domain, session, 60, 10, 0), CLIENT)
    assert error.value.code == "unknown-session"


@pytest.mark.asyncio
async def test_anybody_who_pays_the_fee_opens_for_a_client(client: LedgerClient) -> None:
    """The client has only signed the session, as a wallet can; it spends its caps and no fee."""
    session = make_session()
    signature = sign_typed(client.domain, session, CLIENT)
    with pytest.raises(RuleError) as refused:
        await client.submit_open_for(session, signature, STRANGER)
    assert refused.value.code == "balance"  # the fee is the relay's own
    await client.faucet(STRANGER.address, 5)
    for forged in (
        bytes(64),
        sign_typed(client.domain, session, STRANGER),
        sign_typed(ledger_domain("x"), session, CLIENT),
    ):
        with pytest.raises(SignatureError):
            await client.submit_open_for(session, forged, STRANGER)
    await client.check_opened(session, await client.submit_open_for(session, signature, STRANGER))
    assert await client.account(CLIENT.address) == Account(7 * MILLION, 0)
    assert await client.account(STRANGER.address) == Account(4, 1)
    with pytest.raises(RuleError) as refused:
        await client.submit_open_for(session, signature, STRANGER)
    assert refused.value.code == "exists"


@pytest.mark.asyncio
async def test_forged_and_replayed_operations(client: LedgerClient, http: aiohttp.ClientSession) -> None:
    domain = client.domain
    action = withdraw(1, "once").replace(actor=CLIENT.address, nonce=5)
    good = sign_op(domain, CLIENT, action)
    assert await post(http, encode(good)) == (200, "")
    assert await post(http, encode(good)) == (422, "nonce")
    assert await post(http, encode(sign_op(domain, CLIENT, action.replace(nonce=4)))) == (422, "nonce")
    for bad in (
        good.replace(action=encode(action.replace(nonce=6))),
        good.replace(action=encode(action.replace(actor=STRANGER.address))),
        good.replace(action=encode(action.replace(amount=2))),
        good.replace(signature=bytes(64)),
        good.replace(signature=b"\xff" * 64),
        sign_op(domain, STRANGER, action.replace(nonce=6)),
        sign_op(ledger_domain("another ledger"), CLIENT, action.replace(nonce=6)),
    ):
        assert await post(http, encode(bad)) == (400, "bad-signature")
    for no_action in (b"\x91\xa5other", encode(good), b"\xc1"):
        assert await post(http, encode(good.replace(action=no_action))) == (400, "malformed")
    assert (await client.account(CLIENT.address)).free == 10 * MILLION - 2


@pytest.mark.asyncio
async def test_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    rates = Rates(
        address=Rate(30, 0.5), guest=Rate(2, 0.5), proven=Rate(10, 0.5), key=Rate(3, 0.5), faucet=Rate(4, 0.5)
    )
    async with (
        run_ledger(ledger_settings(tmp_path, rates=rates), OPERATOR, HandClock()) as ledger,
        LedgerClient(ledger.url) as client,
        aiohttp.ClientSession(base_url=ledger.url) as http,
    ):
        await asyncio.gather(
            *(client.faucet(key.address, 1000) for key in (CLIENT, STRANGER, PROVIDERS[0], PROVIDERS[1]))
        )
        body = json.dumps({"account": checksum_address(CLIENT.address), "amount": "1"}).encode()
        async with http.post("/faucet", data=body) as answer:  # the faucet's own share is used up
            assert answer.status == 429
            assert 1 <= int(answer.headers["Retry-After"]) <= 2
            said = await answer.json()
            assert (said["error"], said["code"]) == ("RefusedError", "busy")
        for _ in range(3):
            await client.submit(withdraw(1), CLIENT)
        with pytest.raises(UnreachableError, match="too many requests") as refused:
            await client.submit(withdraw(1), CLIENT)
        assert refused.value.code == "busy"
        assert "try again in" in refused.value.hint
        await client.submit(withdraw(1), STRANGER)  # other keys have their own
        # Who has not signed it cannot use up a key's share.
        good = signed_by(PROVIDERS[0], client, withdraw(1), 1)
        for _ in range(4):
            assert await post(http, encode(good.replace(signature=bytes(64)))) == (400, "bad-signature")
        assert await post(http, encode(good)) == (200, "")
        statuses = []
        for _ in range(30):
            async with http.get("/checkpoint") as answer:
                statuses.append(answer.status)
        assert statuses[-1] == 429
        assert 200 in statuses


@pytest.mark.asyncio
async def test_broken_requests(client: LedgerClient, http: aiohttp.ClientSession) -> None:
    good = encode(signed_by(CLIENT, client, withdraw(1), 1))
    for body in (b"", b"{}", good[:-1], good + b"\0", bytes(100), b"\xc1", good.replace(b"op/2", b"op/1")):
        assert await post(http, body) == (400, "malformed")
    assert (await post(http, bytes(MAX_OP_BYTES + 1)))[0] == 413
    for path in ("/ops", "/faucet"):
        async with http.get(path) as answer:
            assert answer.status == 405
    account = checksum_address(STRANGER.address)
    twice = f'{{"account": "{account}", "amount": "1", "amount": "2"}}'.encode()
    for body in (b"", b"[]", b"{", b"\xff", b"[" * 900, b" " * 1025, twice):
        assert await post(http, body, "/faucet") == (400, "malformed"), body
    for request in (
        {"account": account},
        {"account": account, "amount": True},
        {"account": account, "amount": 1},
        {"account": account, "amount": "0"},
        {"account": account, "amount": "-1"},
        {"account": account, "amount": "01"},
        {"account": account, "amount": str(2**63)},
        {"account": account, "amount": "1", "more": 1},
        {"account": 1, "amount": "1"},
        {"account": "0x12", "amount": "1"},
    ):
        assert await post(http, json.dumps(request).encode(), "/faucet") == (400, "malformed"), request
    await client.faucet(STRANGER.address, 1)


@pytest.mark.asyncio
async def test_garbage_never_stops_the_ledger(client: LedgerClient, http: aiohttp.ClientSession) -> None:
    good = encode(signed_by(CLIENT, client, withdraw(1), 1))
    bodies: list[bytes] = []

    @settings(max_examples=at_length(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
    await client.submit(withdraw(1), CLIENT)


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
        with pytest.raises(RefusedError, match="no faucet"):
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
    monkeypatch.setitem(door._PATIENCE_S, door.GuestRank.WAITING, 0.2)
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
    with pytest.raises(RefusedError) as refused:
        await client.evidence(bytes(32))
    assert refused.value.code == "unknown-session"
