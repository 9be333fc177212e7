"""A model from an empty disk: folders, mirrors and two peers with real endpoints, honest and not."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from many_chunks import make_big_model

from node.app.models.obtaining import ModelServer
from node.fetching import (
    ChunkDesk,
    FolderSource,
    MirrorSource,
    ModelFetch,
    PeerSource,
    Source,
    Swarm,
    Uplink,
)
from node.model_directory import HashMemory, check_model, held_manifest, write_chunk_lists
from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime
from protocol.errors import LocalError, ModelError, RefusedError, UnreachableError
from protocol.identity.ids import BlockSpan, ModelManifest
from protocol.models.chunks import CHUNK_BYTES, chunk_count
from protocol.names import MODEL_PROTOCOL

pytestmark = pytest.mark.asyncio

WEIGHTS = "model.safetensors"
SPAN = BlockSpan(start=2, end=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelManifest]:
    directory = tmp_path_factory.mktemp("big") / "model"
    return directory, make_big_model(directory)


@pytest_asyncio.fixture
async def hosts() -> AsyncIterator[Callable[[], Awaitable[P2PHost]]]:
    async with TrioRuntime.open() as runtime, AsyncExitStack() as stack:

        async def start() -> P2PHost:
            return await stack.enter_async_context(P2PHost.open(runtime, os.urandom(32)))

        yield start


class Kitchen:
    """One fetch into an empty directory."""

    def __init__(self, home: Path, manifest: ModelManifest, *sources: Source, patience_s: float = 0.0) -> None:
        self.hashes = HashMemory(home / "hashes.json")
        self.came = 0
        self.liars: list[tuple[str, str]] = []
        self.sources = list(sources)
        self.manifest = manifest

        async def find() -> list[Source]:
            return self.sources

        swarm = Swarm(find, on_liar=self._caught, on_chunk=self._came, patience_s=patience_s, look_s=0.05)
        self.fetch = ModelFetch(home / "model", manifest, swarm, self.hashes)

    def _came(self, size: int) -> None:
        self.came += size

    def _caught(self, source: Source, what: str) -> None:
        self.liars.append((source.name, what))

    def require_held(self, span: BlockSpan) -> None:
        check_model(self.fetch.directory, self.manifest, span, hashes=self.hashes)


def folder(model: tuple[Path, ModelManifest], home: Path) -> FolderSource:
    return FolderSource(model[0], HashMemory(home / "theirs.json"))


async def serve(host: P2PHost, directory: Path, manifest: ModelManifest, rate: int = 10**9) -> None:
    uplink = Uplink(rate, now=asyncio.get_running_loop().time, is_known=lambda _: True)
    desk = ChunkDesk(directory, manifest, HashMemory(), uplink)
    host.serve(MODEL_PROTOCOL, ModelServer(directory, manifest, desk).answer, max_request=1024)


def peer(asker: P2PHost, other: P2PHost, manifest: ModelManifest) -> PeerSource:
    connect = partial(asker.connect, other.addresses[0])
    return PeerSource(asker, connect, other.public_key, manifest.root, other.peer_id)


async def test_a_span_is_a_part_of_the_weights(model: tuple[Path, ModelManifest], tmp_path: Path) -> None:
    _, manifest = model
    kitchen = Kitchen(tmp_path, manifest, folder(model, tmp_path))
    await kitchen.fetch.blocks(SPAN)
    kitchen.require_held(SPAN)
    weights = kitchen.fetch.directory / WEIGHTS
    assert weights.stat().st_size == (model[0] / WEIGHTS).stat().st_size
    assert kitchen.came < weights.stat().st_size * 3 // 4
    assert weights.stat().st_blocks * 512 < weights.stat().st_size
    assert not (kitchen.fetch.directory / "tokenizer.json").exists()
    for other in (BlockSpan(start=0, end=1), BlockSpan(start=5, end=6), BlockSpan(start=0, end=6)):
        with pytest.raises(ModelError):
            kitchen.require_held(other)
    with pytest.raises(ModelError, match="another content"):
        held_manifest(kitchen.fetch.directory, BlockSpan(start=3, end=6), hashes=HashMemory(tmp_path / "hashes.json"))
    came = kitchen.came
    await kitchen.fetch.blocks(SPAN)
    assert kitchen.came == came  # what is there is not fetched again
    await kitchen.fetch.blocks(BlockSpan(start=0, end=6))
    kitchen.require_held(BlockSpan(start=0, end=6))
    assert (kitchen.fetch.directory / WEIGHTS).read_bytes() == (model[0] / WEIGHTS).read_bytes()
    assert kitchen.came == sum(file.size for file in manifest.files)


async def test_a_chunk_that_was_spoilt_on_the_disk_is_fetched_again(
    model: tuple[Path, ModelManifest], tmp_path: Path
) -> None:
    kitchen = Kitchen(tmp_path, model[1], folder(model, tmp_path))
    await kitchen.fetch.blocks(SPAN)
    came = kitchen.came
    with (kitchen.fetch.directory / WEIGHTS).open("r+b") as file:
        file.seek(4 * CHUNK_BYTES)
        file.write(b"spoilt")
    with pytest.raises(ModelError):
        kitchen.require_held(SPAN)
    await kitchen.fetch.blocks(SPAN)
    kitchen.require_held(SPAN)
    assert kitchen.came == came + CHUNK_BYTES


async def test_two_peers_share_the_work_and_a_liar_is_caught(
    model: tuple[Path, ModelManifest], tmp_path: Path, hosts: Callable[[], Awaitable[P2PHost]]
) -> None:
    directory, manifest = model
    me, one, other, liar = [await hosts() for _ in range(4)]
    asked: dict[str, int] = {}
    for host in (one, other):
        await serve(host, directory, manifest)

    async def poisoned(_peer: bytes, _question: bytes) -> bytes:
        return bytes(CHUNK_BYTES)

    liar.serve(MODEL_PROTOCOL, poisoned)
    sources = [peer(me, host, manifest) for host in (liar, one, other)]
    for source in sources:
        source.chunk = _counted(source, asked)  # type: ignore[method-assign]
    kitchen = Kitchen(tmp_path, manifest, *sources, patience_s=5.0)
    await kitchen.fetch.blocks(BlockSpan(start=0, end=6))
    kitchen.require_held(BlockSpan(start=0, end=6))
    assert [name for name, _ in kitchen.liars] == [liar.peer_id]
    assert all(asked[host.peer_id] > 0 for host in (one, other))
    assert asked[liar.peer_id] <= 6


def _counted(source: PeerSource, asked: dict[str, int]) -> Callable[..., Awaitable[bytes]]:
    ask = source.chunk

    async def chunk(*arguments: object) -> bytes:
        asked[source.name] = asked.get(source.name, 0) + 1
        return await ask(*arguments)  # type: ignore[arg-type]

    return chunk


async def test_a_peer_with_other_blocks_gives_what_it_has(
    model: tuple[Path, ModelManifest], tmp_path: Path, hosts: Callable[[], Awaitable[P2PHost]]
) -> None:
    manifest = model[1]
    me, one, other = [await hosts() for _ in range(3)]
    for host, start in ((one, 0), (other, 3)):
        part = Kitchen(tmp_path / str(start), manifest, folder(model, tmp_path))
        await part.fetch.blocks(BlockSpan(start=start, end=start + 3))
        uplink = Uplink(10**9, now=asyncio.get_running_loop().time, is_known=lambda _: True)
        desk = ChunkDesk(part.fetch.directory, manifest, part.hashes, uplink)
        host.serve(MODEL_PROTOCOL, ModelServer(part.fetch.directory, manifest, desk).answer)
    alone = Kitchen(tmp_path / "alone", manifest, peer(me, one, manifest))
    with pytest.raises(UnreachableError, match="nobody hands out"):
        await alone.fetch.blocks(SPAN)
    alone.sources.append(peer(me, other, manifest))
    await alone.fetch.blocks(SPAN)
    alone.require_held(SPAN)
    assert alone.liars == []


async def test_a_file_that_changes_under_a_running_node_is_refused_not_handed_out(
    model: tuple[Path, ModelManifest], tmp_path: Path
) -> None:
    directory, manifest = model
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", WEIGHTS):
        (copy / name).write_bytes((directory / name).read_bytes())
    uplink = Uplink(10**9, now=asyncio.get_running_loop().time, is_known=lambda _: True)
    desk = ChunkDesk(copy, manifest, HashMemory(), uplink)
    whole = await desk.chunk(b"p", WEIGHTS, 1)
    assert whole == (directory / WEIGHTS).read_bytes()[CHUNK_BYTES : 2 * CHUNK_BYTES]
    with (copy / WEIGHTS).open("r+b") as file:
        file.seek(CHUNK_BYTES + 5)
        file.write(b"x")
    with pytest.raises(RefusedError, match="does not have chunk 1") as refused:
        await desk.chunk(b"p", WEIGHTS, 1)
    assert refused.value.code == "file"
    assert await desk.chunk(b"p", WEIGHTS, 2)
    for name, index in (("absent", 0), (WEIGHTS, chunk_count((copy / WEIGHTS).stat().st_size)), ("tokenizer.json", 0)):
        with pytest.raises(RefusedError):
            await desk.chunk(b"p", name, index)


async def test_bandwidth_is_bounded_in_all_and_for_a_stranger() -> None:
    now = 0.0
    uplink = Uplink(8_000_000, now=lambda: now, is_known=lambda who: who == b"friend")
    assert [uplink.admit(b"stranger", CHUNK_BYTES) for _ in range(2)] == [0.0, pytest.approx(CHUNK_BYTES / 2e6)]
    assert uplink.admit(b"friend", CHUNK_BYTES) == pytest.approx(2 * CHUNK_BYTES / 8e6)
    for _ in range(8):
        uplink.admit(b"stranger", CHUNK_BYTES)
    with pytest.raises(RefusedError, match="bandwidth") as refused:
        uplink.admit(b"stranger", CHUNK_BYTES)
    assert refused.value.code == "busy"
    assert uplink.admit(b"friend", CHUNK_BYTES) < 2
    now = 60.0
    assert uplink.admit(b"stranger", CHUNK_BYTES) == 0.0
    with pytest.raises(RefusedError, match="no weights"):
        Uplink(0, now=lambda: now, is_known=lambda _: True).admit(b"friend", 1)


@contextmanager
def longest_file(size: int) -> Iterator[None]:
    """The system refuses to write beyond so many bytes of a file, as a disk does that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_disk_that_fills_ends_the_fetch_and_the_next_one_goes_on(
    model: tuple[Path, ModelManifest], tmp_path: Path
) -> None:
    kitchen = Kitchen(tmp_path, model[1], folder(model, tmp_path))
    await kitchen.fetch.texts(ends=False)
    before = kitchen.came
    with longest_file(2 * CHUNK_BYTES), pytest.raises(LocalError, match="disk is full") as full:
        await kitchen.fetch.blocks(SPAN)
    assert full.value.code == "disk-full"
    with pytest.raises(ModelError):
        kitchen.require_held(SPAN)
    assert kitchen.came == before
    await kitchen.fetch.blocks(SPAN)
    kitchen.require_held(SPAN)


async def test_a_mirror_answers_ranges_and_one_that_lies_is_left(
    model: tuple[Path, ModelManifest], tmp_path: Path
) -> None:
    directory, manifest = model
    (tmp_path / "web").mkdir()
    for file in manifest.files:
        (tmp_path / "web" / file.name).symlink_to(directory / file.name)
    write_chunk_lists(tmp_path / "web", manifest, HashMemory())
    app = web.Application()
    app.router.add_static("/good", tmp_path / "web", follow_symlinks=True)

    async def lie(_: web.Request) -> web.Response:
        return web.Response(status=206, body=bytes(2 * CHUNK_BYTES))

    app.router.add_get("/bad/{name}", lie)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession() as session:
            mirrors = [MirrorSource(f"{url}/{name}", manifest, session) for name in ("bad", "none", "good")]
            kitchen = Kitchen(tmp_path / "home", manifest, *mirrors, patience_s=5.0)
            await kitchen.fetch.blocks(SPAN)
        kitchen.require_held(SPAN)
        assert [name for name, _ in kitchen.liars] == [f"{url}/bad"]
    finally:
        await runner.cleanup()
