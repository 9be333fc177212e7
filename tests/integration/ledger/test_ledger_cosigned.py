"""A ledger and its witnesses together: what is shown, what readers ask for, and what they refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from ledger_world import CLIENT, MILLION, NOW, OPERATOR, HandClock, ledger_settings, make_session, voucher_of

from node.events import Event, Events, WitnessBack, WitnessLost, unheard
from node.ledger import (
    LedgerClient,
    LedgerSettings,
    Pace,
    RunningLedger,
    Witnessed,
    WitnessServer,
    WitnessSettings,
    run_ledger,
    run_witness,
    second_key,
    verify_url,
    witness_key,
)
from node.ledger.log_source import HttpLog
from node.ledger.replayed import Replayed
from node.ledger.witness_state import log_name
from protocol.encoding.codec import decode, encode
from protocol.errors import DishonestError, ForkedError, UnwitnessedError
from protocol.log.checkpoint import Checkpoint, Operator, check_gossiped, check_operator_line, open_checkpoint
from protocol.log.cosignature import CosignerKey, CosigningKey, WitnessPolicy, cosigned_by, parse_add_checkpoint
from protocol.log.merkle import Frontier, leaf_hash
from protocol.log.note import VerifierKey, parse_note
from protocol.log.post_quantum import PostQuantumCosigningKey
from protocol.log.tiles import Tile
from protocol.settlement.evidence import LogProof
from protocol.settlement.operations import LogEntry

QUICK = Pace(every_s=0.01, again_s=0.2, round_s=2, rest_s=0.1, patience_s=1)
PATIENT = Pace(every_s=0.01, again_s=30, rest_s=0.1, patience_s=20)


class Told:
    """Events, and a way to wait for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._more = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._more.set()

    async def of(self, kind: type[Event], count: int = 1) -> Any:
        async with asyncio.timeout(30):
            while True:
                found = [each for each in self.events if isinstance(each, kind)]
                if len(found) >= count:
                    return found[count - 1]
                self._more.clear()
                await self._more.wait()


def key_of(server: WitnessServer) -> CosignerKey:
    assert isinstance(server.key, CosignerKey)
    return server.key


def server(folder: Path, name: str, port: int) -> WitnessServer:
    key = CosignerKey.parse(str(witness_key(folder / name, f"{name}.example").verifier))
    return WitnessServer(key, f"http://127.0.0.1:{port}")


@asynccontextmanager
async def witness_for(
    folder: Path, name: str, ledger: RunningLedger, port: int, *, events: Events = unheard, **changes: Any
) -> AsyncIterator[str]:
    log = (VerifierKey.parse(ledger.verifier_key), ledger.url)
    settings = WitnessSettings(folder=folder / name, logs=[log], port=port, **changes)
    async with run_witness(settings, HandClock(), events=events) as running:
        yield running.url


def settings_with(folder: Path, *servers: WitnessServer, pace: Pace = PATIENT, **changes: Any) -> LedgerSettings:
    return ledger_settings(folder / "ledger", witnesses=servers, pace=pace, **changes)


def reader(ledger: RunningLedger, servers: tuple[WitnessServer, ...], least: int, age: int = 0) -> LedgerClient:
    policy = WitnessPolicy(tuple(map(key_of, servers)), least, age)
    return LedgerClient(ledger.url, witnessed=Witnessed(policy, HandClock()))


async def checkpoint_at(url: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/checkpoint") as response:
        return await response.read()


@pytest.mark.asyncio
async def test_a_witness_signs_with_a_second_key_that_those_who_ask_for_it_rely_on(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    first = server(tmp_path, "one", unused_tcp_port)
    made = second_key(tmp_path / "one", first.key.name, make=True)
    assert made is not None
    second = WitnessServer(made.verifier, first.url)
    policy = WitnessPolicy((key_of(first),), 1, 60, (made.verifier,))
    told, session = Told(), make_session(cap=1_000)
    async with (
        run_ledger(settings_with(tmp_path, first, second), OPERATOR, HandClock(), events=told) as ledger,
        witness_for(tmp_path, "one", ledger, unused_tcp_port),
        LedgerClient(ledger.url, witnessed=Witnessed(policy, HandClock())) as both,
        reader(ledger, (first,), 1, 60) as one,
    ):
        await told.of(WitnessBack)
        assert cosigned_by(await checkpoint_at(ledger.url), made.verifier) == NOW
        assert (await verify_url(ledger.url, witnessed=Witnessed(policy, HandClock()))).fault is None
        stranger = PostQuantumCosigningKey(first.key.name, bytes(32)).verifier
        forged = Witnessed(WitnessPolicy((key_of(first),), 1, 60, (stranger,)), HandClock())
        fault = (await verify_url(ledger.url, witnessed=forged)).fault
        assert "0 of the 1 witnesses" in str(fault)
        await both.faucet(CLIENT.address, MILLION)
        await both.require_witnessed()
        evidence = await both.open(session, CLIENT)
        await one.connect()
        await one.check_opened(session, evidence)
        assert cosigned_by(decode(evidence, LogProof).checkpoint, made.verifier) == NOW
        other = make_session(salt=7, cap=10)
        plain = await one.open(other, CLIENT)  # without the long line, for which this reader has not asked
        assert cosigned_by(decode(plain, LogProof).checkpoint, made.verifier) is None
        await both.connect()
        with pytest.raises(UnwitnessedError):
            await both.check_opened(other, plain)


@pytest.mark.asyncio
async def test_a_witness_with_two_keys_is_asked_once_for_both_lines(tmp_path: Path, unused_tcp_port: int) -> None:
    """By hand, and its answer comes in pieces; later it leaves its second line out, and the first one still counts."""
    first, second = CosigningKey("two.example", b"\x21" * 32), PostQuantumCosigningKey("two.example", b"\x22" * 32)
    asked, has_second = list[int](), True

    async def add(request: web.Request) -> web.StreamResponse:
        checkpoint = parse_add_checkpoint(await request.read())
        asked.append(checkpoint.checkpoint.size)
        text = parse_note(checkpoint.note).text
        lines = [first.cosign(text, NOW), *([second.cosign(text, NOW)] if has_second else [])]
        response = web.StreamResponse()
        await response.prepare(request)
        for line in lines:
            for half in (str(line)[:40], str(line)[40:]):
                await response.write(half.encode())
                await asyncio.sleep(0)
        return response

    app = web.Application()
    app.router.add_post("/add-checkpoint", add)
    runner = web.AppRunner(app)
    await runner.setup()
    keys = (CosignerKey.parse(str(first.verifier)), second.verifier)
    url, pace = f"http://127.0.0.1:{unused_tcp_port}", Pace(every_s=0.01, again_s=600)
    servers = (WitnessServer(keys[0], url), WitnessServer(keys[1], f"{url}/"))
    told = Told()
    try:
        await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
        async with (
            run_ledger(settings_with(tmp_path, *servers, pace=pace), OPERATOR, HandClock(), events=told) as ledger,
            LedgerClient(ledger.url) as client,
        ):
            await told.of(WitnessBack)
            note = await checkpoint_at(ledger.url)
            assert [cosigned_by(note, key) for key in keys] == [NOW, NOW]
            has_second = False
            await client.faucet(CLIENT.address, MILLION)
            lost = await told.of(WitnessLost)
            assert lost.witness == "two.example"
            assert "no ML-DSA-44 cosignature" in lost.reason
            async with asyncio.timeout(20):
                while [cosigned_by(note, key) for key in keys] != [NOW, None]:
                    note = await checkpoint_at(ledger.url)
            assert asked == [1, 2]
    finally:
        await runner.cleanup()


@pytest.mark.asyncio
async def test_a_session_is_opened_under_the_cosignatures_that_a_client_and_a_node_ask_for(
    tmp_path: Path, unused_tcp_port_factory: Any
) -> None:
    ports = [unused_tcp_port_factory() for _ in range(2)]
    servers = tuple(server(tmp_path, name, port) for name, port in zip(("one", "two"), ports, strict=True))
    told, session = Told(), make_session(cap=1_000)
    async with (
        run_ledger(settings_with(tmp_path, *servers), OPERATOR, HandClock(), events=told) as ledger,
        witness_for(tmp_path, "one", ledger, ports[0]),
        witness_for(tmp_path, "two", ledger, ports[1], validate=True),
        reader(ledger, servers, 2, 60) as client,
        reader(ledger, servers[:1], 1, 60) as node,
        LedgerClient(ledger.url) as bare,
    ):
        await told.of(WitnessBack, 2)
        await client.require_witnessed()
        await client.faucet(CLIENT.address, MILLION)
        assert (await client.account(CLIENT.address)).free == MILLION
        evidence = await client.open(session, CLIENT)
        await node.connect()
        await node.check_opened(session, evidence)
        await client.settle([voucher_of(ledger.domain, session, 5, 5, 5)], CLIENT)
        unwitnessed = await bare.submit_open_for(make_session(salt=7, cap=10), b"", CLIENT)
        await node.connect()
        with pytest.raises(UnwitnessedError, match="0 of the 1"):
            await node.check_opened(make_session(salt=7, cap=10), unwitnessed)
        report = await verify_url(ledger.url)
        assert report.fault is None
        # What is gossiped has no cosignatures, and the operator's line.
        await client.account(CLIENT.address)
        await client.account(CLIENT.address)
        assert client.note is not None
        operator = Operator(ledger.domain, OPERATOR.address)
        assert client.operator == operator
        check_gossiped(client.note, VerifierKey.parse(ledger.verifier_key), operator)
        assert check_operator_line(client.note, operator) is not None


@pytest.mark.asyncio
async def test_what_is_shown_has_all_lines_and_stays_fresh(tmp_path: Path, unused_tcp_port_factory: Any) -> None:
    ports = [unused_tcp_port_factory() for _ in range(2)]
    servers = tuple(server(tmp_path, name, port) for name, port in zip(("one", "two"), ports, strict=True))
    told = Told()
    async with (
        run_ledger(settings_with(tmp_path, *servers, pace=QUICK), OPERATOR, HandClock(), events=told) as ledger,
        witness_for(tmp_path, "one", ledger, ports[0]) as one,
        witness_for(tmp_path, "two", ledger, ports[1]),
    ):
        await told.of(WitnessBack, 2)
        async with asyncio.timeout(20):
            while True:
                note = await checkpoint_at(ledger.url)
                if all(cosigned_by(note, each.key) for each in servers):
                    break
        assert open_checkpoint(note, VerifierKey.parse(ledger.verifier_key)).size == 1
        name = log_name(ledger.verifier_key.partition("+")[0])
        kept = await checkpoint_at(f"{one}/{name}")
        assert cosigned_by(kept, servers[0].key) is not None


@pytest.mark.asyncio
async def test_a_witness_that_is_away_holds_nobody_up_who_does_not_ask_for_it(
    tmp_path: Path, unused_tcp_port_factory: Any
) -> None:
    port = unused_tcp_port_factory()
    servers = (server(tmp_path, "one", port),)
    told, session = Told(), make_session(cap=1_000)
    async with run_ledger(settings_with(tmp_path, *servers, pace=QUICK), OPERATOR, HandClock(), events=told) as ledger:
        await told.of(WitnessLost)
        async with LedgerClient(ledger.url) as easy, reader(ledger, servers, 1) as strict:
            await easy.faucet(CLIENT.address, MILLION)
            await strict.connect()
            with pytest.raises(UnwitnessedError, match="0 of the 1") as refused:
                await strict.open(session, CLIENT)
            assert "min_witnesses" in refused.value.hint
            with pytest.raises(UnwitnessedError):
                await strict.account(CLIENT.address)
            # What was begun is ended all the same.
            await strict.settle([voucher_of(ledger.domain, session, 5, 5, 5)], CLIENT)
            async with witness_for(tmp_path, "one", ledger, port):
                await told.of(WitnessBack)
                await strict.open(make_session(salt=1, cap=1_000), CLIENT)
        assert len([each for each in told.events if isinstance(each, WitnessLost)]) == 1


@pytest.mark.asyncio
async def test_a_cosignature_that_is_too_old_does_not_count(tmp_path: Path, unused_tcp_port_factory: Any) -> None:
    port = unused_tcp_port_factory()
    servers = (server(tmp_path, "one", port),)
    told = Told()
    async with (
        run_ledger(settings_with(tmp_path, *servers), OPERATOR, HandClock(), events=told) as ledger,
        witness_for(tmp_path, "one", ledger, port),
    ):
        await told.of(WitnessBack)
        later = HandClock()
        later.now += 601
        policy = WitnessPolicy((servers[0].key,), 1, 600)
        async with LedgerClient(ledger.url, witnessed=Witnessed(policy, later)) as late:
            with pytest.raises(UnwitnessedError, match="within the last 600 s"):
                await late.require_witnessed()
            later.now -= 1
            await late.require_witnessed()


@pytest.mark.asyncio
async def test_a_ledger_that_was_set_back_is_not_cosigned(tmp_path: Path, unused_tcp_port_factory: Any) -> None:
    """The witness has seen more: the ledger's operator is told, and readers who ask for cosignatures stop."""
    import shutil

    port = unused_tcp_port_factory()
    servers = (server(tmp_path, "one", port),)
    settings = settings_with(tmp_path, *servers, pace=QUICK)
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger:
        pass
    await asyncio.to_thread(shutil.copytree, tmp_path / "ledger", tmp_path / "backup")
    told, again = Told(), Told()
    async with (
        run_ledger(settings, OPERATOR, HandClock(), events=told) as ledger,
        witness_for(tmp_path, "one", ledger, port),
        reader(ledger, servers, 1) as client,
    ):
        await told.of(WitnessBack)
        await client.faucet(CLIENT.address, MILLION)
        await client.account(CLIENT.address)
    await asyncio.to_thread(shutil.rmtree, tmp_path / "ledger")
    await asyncio.to_thread(shutil.copytree, tmp_path / "backup", tmp_path / "ledger")
    async with (
        run_ledger(settings, OPERATOR, HandClock(), events=again) as ledger,
        witness_for(tmp_path, "one", ledger, port),
        reader(ledger, servers, 1) as client,
    ):
        lost = await again.of(WitnessLost)
        if "set back" not in lost.reason:  # it was asked before it was up
            lost = await again.of(WitnessLost, 2)
        assert "set back" in lost.reason
        with pytest.raises(UnwitnessedError):
            await client.account(CLIENT.address)
        async with LedgerClient(ledger.url) as easy:
            await easy.faucet(OPERATOR.address, 1)  # another entry of the same number
        with pytest.raises((UnwitnessedError, ForkedError)):
            await client.account(CLIENT.address)


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", ["", "— one.example AAAA\n", "no line\n", "x" * 20_000])
async def test_a_witness_that_answers_nonsense_is_a_witness_lost(
    tmp_path: Path, unused_tcp_port_factory: Any, answer: str
) -> None:
    async def nonsense(_request: web.Request) -> web.Response:
        return web.Response(text=answer)

    port = unused_tcp_port_factory()
    app = web.Application()
    app.router.add_post("/add-checkpoint", nonsense)
    runner = web.AppRunner(app)
    await runner.setup()
    told = Told()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        settings = settings_with(tmp_path, server(tmp_path, "one", port), pace=QUICK)
        async with run_ledger(settings, OPERATOR, HandClock(), events=told) as ledger:
            await told.of(WitnessLost)
            async with LedgerClient(ledger.url) as client:
                await client.faucet(CLIENT.address, 1)
    finally:
        await runner.cleanup()


@pytest.mark.asyncio
async def test_a_reader_says_plainly_which_witnesses_it_means(tmp_path: Path) -> None:
    async with run_ledger(settings_with(tmp_path), OPERATOR, HandClock()) as ledger, aiohttp.ClientSession() as http:
        for query, status in (
            ("witnesses=1&by=0a0b0c0d", 200),
            ("witnesses=0&by=0a0b0c0d", 400),
            ("witnesses=17&by=0a0b0c0d", 400),
            ("witnesses=x&by=0a0b0c0d", 400),
            ("witnesses=1", 400),
            ("witnesses=1&by=0A0B0C0D", 400),
            ("witnesses=1" + "&by=0a0b0c0d" * 17, 400),
        ):
            async with http.get(f"{ledger.url}/consistency?{query}") as response:
                assert response.status == status, query


@pytest.mark.asyncio
async def test_a_witness_that_pulls_is_asked_by_nobody(tmp_path: Path) -> None:
    witness_key(tmp_path / "puller", "puller.example")
    async with (
        run_ledger(settings_with(tmp_path), OPERATOR, HandClock()) as ledger,
        LedgerClient(ledger.url) as client,
        witness_for(tmp_path, "puller", ledger, 0, validate=True, pull_s=0.05) as url,
    ):
        await client.faucet(CLIENT.address, MILLION)
        key = VerifierKey.parse(ledger.verifier_key)
        async with asyncio.timeout(20):
            while True:
                note = await checkpoint_at(f"{url}/{log_name(key.name)}")
                if note.startswith(key.name.encode()) and open_checkpoint(note, key).size == 2:
                    break
                await client.checkpoint()


class ListLog:
    """A log whose entries are in memory."""

    def __init__(self, entries: list[bytes]) -> None:
        self.entries = entries

    async def checkpoint(self) -> bytes:
        raise NotImplementedError

    async def tile(self, tile: Tile) -> bytes:
        raise NotImplementedError

    async def bundle(self, tile: Tile) -> list[bytes]:
        begin = tile.index * 256
        return self.entries[begin : begin + tile.width]

    def signed(self) -> Checkpoint:
        tree = Frontier()
        for entry in self.entries:
            tree.append(leaf_hash(entry))
        return Checkpoint("ledger", tree.size, tree.root)


@pytest.mark.asyncio
async def test_a_witness_that_validates_names_the_entry_that_breaks_the_rules(tmp_path: Path) -> None:
    async with run_ledger(settings_with(tmp_path), OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        for amount in range(1, 5):
            await client.faucet(CLIENT.address, amount)
        log = HttpLog(ledger.url)
        honest = await log.bundle(Tile(None, 0, 5))
        await log.close()
    key = VerifierKey.parse(ledger.verifier_key)
    replayed, source = Replayed(ListLog(honest), key), ListLog(honest)
    await replayed.reach(ListLog(honest[:3]).signed())
    await replayed.reach(source.signed())
    assert replayed.size == 5
    entry = decode(honest[3], LogEntry)
    richer = entry.replace(accounts=tuple(each.replace(free=each.free + 1) for each in entry.accounts))
    for forged, wrong in (
        ([*honest[:3], encode(richer), honest[4]], "entry 3"),
        ([honest[1], honest[0], *honest[2:]], "entry 0"),
        ([*honest[:2], *honest[3:], honest[2]], "entry"),
    ):
        with pytest.raises(DishonestError, match=wrong):
            await Replayed(ListLog(forged), key).reach(ListLog(forged).signed())
    with pytest.raises(DishonestError, match="root"):
        await Replayed(ListLog(honest), key).reach(ListLog([*honest[:4], b"another"]).signed())
    with pytest.raises(DishonestError, match="missing"):
        await Replayed(ListLog(honest[:4]), key).reach(source.signed())
