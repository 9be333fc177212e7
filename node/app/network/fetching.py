"""A model that is named, not here: which one is meant, who has it, and the blocks of it that this node is to serve."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from node.app.models.held_model import HASHES_FILE
from node.app.models.obtaining import fetch_manifest
from node.app.network.catalogues import Catalogues, require_true
from node.app.network.membership import Network
from node.app.network.shunned import address_of
from node.config import NodeConfig
from node.events import Events, FetchingModel, ModelFetched, SourceLied
from node.fetching import FolderSource, MirrorSource, ModelFetch, PeerSource, Source, Swarm, Uplink
from node.model_directory import (
    MANIFEST_FILE,
    PRECISIONS,
    HashMemory,
    load_manifest,
    model_manifest,
    read_manifest,
)
from node.ports import PeerMemory
from protocol.errors import DishonestError, JoulemeshError, ModelError, RefusedError, UnreachableError
from protocol.identity.ids import BlockSpan, ModelManifest, ModelRoot
from protocol.market.offer import Offer
from protocol.models.model_catalogue import CatalogueEntry
from protocol.models.precisions import beside
from protocol.reputation.standing import Deed

__all__ = ["Fetching", "Named", "named_model", "open_fetching", "places_of", "store_of", "stored_models", "uplink_of"]

MAX_MANIFEST_BYTES = 256 * 1024
MIRROR_S = 20.0
"""For a mirror to answer with a manifest."""
MANIFEST_TRIES_S = 60.0
"""Seconds in which somebody has to hand out the manifest."""
AGAIN_S = 2.0
TOLD_S = 5.0
"""Between two words on how far a fetch is."""


@dataclass(frozen=True, slots=True)
class Named:
    """A model that is meant by its name or root."""

    root: ModelRoot
    entry: CatalogueEntry | None
    """What a catalogue says of it; None where it was named by its root."""
    directory: Path
    """Where it lies, or will."""


def store_of(data_dir: Path) -> Path:
    """Where models are that were fetched, each in a folder named by its root."""
    return data_dir / "weights"


def stored_models(store: Path) -> Iterator[tuple[ModelManifest, Path]]:
    """The models that were fetched, whole or in part, with their folders."""
    for folder in sorted(store.iterdir()) if store.is_dir() else ():
        for precision in PRECISIONS:
            with contextlib.suppress(ModelError):
                manifest = read_manifest(folder, precision=precision)
                if manifest.root.hex() == folder.name:
                    yield manifest, folder


def named_model(config: NodeConfig) -> Named | None:
    """What ``--model`` names; None where it is a directory. Raises ModelError for a name that nobody here knows."""
    if config.model.is_dir():
        return None
    name, entry = str(config.model), None
    if re.fullmatch(r"[0-9a-f]{64}", name):
        root = ModelRoot(bytes.fromhex(name))
    else:
        entry, _ = Catalogues(config.data_dir, int(time.time())).find(name, config.precision)
        root = ModelRoot(entry.root)
    return Named(root, entry, store_of(config.data_dir) / root.hex())


def places_of(config: NodeConfig, named: Named) -> Iterator[str]:
    """Mirrors and folders that have the model: what the settings name, and what the catalogue does."""
    yield from config.mirrors
    if named.entry is not None:
        yield from (url for url in named.entry.mirrors if url.startswith(("http://", "https://")))


def uplink_of(config: NodeConfig, memory: PeerMemory) -> Uplink:
    """What the settings give of this node's bandwidth to those who fetch; the known have had a part in a job."""
    return Uplink(
        config.upload_kb_per_s * 1000,
        now=time.monotonic,
        is_known=lambda peer: not memory.standing(address_of(peer)).is_newcomer,
    )


class Fetching:
    """Fetches what a node's blocks need of one model; made by `open_fetching`."""

    def __init__(
        self,
        config: NodeConfig,
        named: Named,
        manifest: ModelManifest,
        fetch: Callable[[Callable[[int], None], Callable[[int], None]], ModelFetch],
        sources: Callable[[], int],
        events: Events,
    ) -> None:
        self.config = dataclasses.replace(config, model=named.directory)
        """The settings, with the directory in the place of the name."""
        self.manifest = manifest
        self._events = events
        self._sources = sources
        self._done = self._wanted = 0
        self._told = 0.0
        self._fetch = fetch(self._more, self._came)

    async def outline(self) -> None:
        """What says how large each block is. Raises UnreachableError, LocalError."""
        await self._fetch.texts(ends=False)
        await self._fetch.headers()

    async def blocks(self, span: BlockSpan) -> None:
        """All that these blocks need. Raises UnreachableError, LocalError."""
        before = self._done
        await self._fetch.blocks(span)
        manifest = self.manifest
        self._events(
            ModelFetched(
                model=manifest.name,
                root=manifest.root,
                blocks=str(span),
                fetched_bytes=self._done - before,
                directory=str(self._fetch.directory),
            )
        )

    def _more(self, size: int) -> None:
        self._wanted += size

    def _came(self, size: int) -> None:
        self._done += size
        if time.monotonic() - self._told > TOLD_S:
            self._told = time.monotonic()
            self._events(
                FetchingModel(
                    model=self.manifest.name, done_bytes=self._done, of_bytes=self._wanted, sources=self._sources()
                )
            )


@asynccontextmanager
async def open_fetching(
    config: NodeConfig, named: Named, network: Network, memory: PeerMemory, events: Events, own_key: bytes
) -> AsyncIterator[Fetching]:
    """Whoever has the model, and its manifest, held against the name. Raises DishonestError, UnreachableError."""
    hashes = HashMemory(config.data_dir / HASHES_FILE)
    async with aiohttp.ClientSession(trust_env=False, timeout=aiohttp.ClientTimeout(total=None)) as session:
        holders = _Holders(config, named, network, memory, session, hashes, own_key, events)
        manifest = await holders.manifest()
        if named.entry is not None:
            require_true(Catalogues(config.data_dir, int(time.time())), named.entry, manifest)

        def fetch(on_wanted: Callable[[int], None], on_chunk: Callable[[int], None]) -> ModelFetch:
            swarm = Swarm(
                partial(holders.sources, manifest),
                on_liar=lambda source, what: _tell_of_liar(source, what, memory, events),
                on_chunk=on_chunk,
            )
            return ModelFetch(named.directory, manifest, swarm, hashes, on_wanted=on_wanted)

        yield Fetching(config, named, manifest, fetch, lambda: holders.count, events)


def _tell_of_liar(source: Source, what: str, memory: PeerMemory, events: Events) -> None:
    if source.public_key is not None:
        memory.note(address_of(source.public_key), Deed.LIED, about=what)
    events(SourceLied(source=source.name, what=what))


class _Holders:
    """Who may have a model: folders and mirrors that are named, and nodes that offer it."""

    def __init__(
        self,
        config: NodeConfig,
        named: Named,
        network: Network,
        memory: PeerMemory,
        session: aiohttp.ClientSession,
        hashes: HashMemory,
        own_key: bytes,
        events: Events,
    ) -> None:
        self._config = config
        self._named = named
        self._network = network
        self._memory = memory
        self._session = session
        self._hashes = hashes
        self._own_key = own_key
        self._events = events
        self._peers: dict[bytes, PeerSource] = {}
        self.count = 0
        """Sources at the last look."""

    async def sources(self, manifest: ModelManifest) -> Sequence[Source]:
        """All of them; a node whose files are served in another precision has the same files."""
        roots = [manifest.root, *(manifest.replace(precision=each).root for each in beside(manifest.precision))]
        found: list[Source] = []
        for place in places_of(self._config, self._named):
            if "://" in place:
                found.append(MirrorSource(place, manifest, self._session))
            else:
                found.append(FolderSource(Path(place), self._hashes))
        for offer in self._offers(roots):
            if offer.public_key not in self._peers:
                connect = partial(self._connect, offer.public_key, roots)
                name = offer.addresses[0]
                self._peers[offer.public_key] = PeerSource(
                    self._network.host, connect, offer.public_key, ModelRoot(offer.model), name
                )
            found.append(self._peers[offer.public_key])
        self.count = len(found)
        return found

    async def manifest(self) -> ModelManifest:
        """From the disk, a mirror or a peer, whoever has the right one. Raises UnreachableError, LocalError."""
        if (self._named.directory / MANIFEST_FILE).is_file():
            kept = read_manifest(self._named.directory, precision=self._config.precision)
            if kept.root == self._named.root:
                return kept
        began, reason = time.monotonic(), "nobody offers it"
        while True:
            for place in places_of(self._config, self._named):
                try:
                    return await self._manifest_of(place)
                except JoulemeshError as error:
                    reason = f"{place}: {error.message}"
            try:
                return await self._manifest_of_peers()
            except JoulemeshError as error:
                reason = error.message
            if time.monotonic() - began > MANIFEST_TRIES_S:
                raise UnreachableError(
                    f"nobody hands out the manifest of {self._config.model}: {reason}",
                    hint="start again when others serve it, or name a --mirror",
                )
            await asyncio.sleep(AGAIN_S)

    async def _manifest_of(self, place: str) -> ModelManifest:
        if "://" in place:
            data = await self._download(f"{place}/{MANIFEST_FILE}")
            manifest = load_manifest(data, precision=self._config.precision)
        else:
            make = read_manifest if (Path(place) / MANIFEST_FILE).is_file() else self._made_manifest
            manifest = await asyncio.to_thread(make, Path(place), precision=self._config.precision)
        if manifest.root != self._named.root:
            raise ModelError("its manifest is of another model", hint="check --mirror, and --precision")
        return manifest

    def _made_manifest(self, directory: Path, *, precision: str) -> ModelManifest:
        return model_manifest(directory, precision=precision, hashes=self._hashes)

    async def _download(self, url: str) -> bytes:
        try:
            async with asyncio.timeout(MIRROR_S), self._session.get(url, max_redirects=5) as reply:
                if reply.status != 200:
                    raise RefusedError(f"{url} answers {reply.status}", code="file")
                return await reply.content.read(MAX_MANIFEST_BYTES + 1)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(f"{url} does not answer: {error or 'no answer in time'}") from None

    async def _manifest_of_peers(self) -> ModelManifest:
        root, cache = self._named.root, self._config.data_dir / "models"
        failure: JoulemeshError = UnreachableError("nobody offers it")
        for offer in list(self._offers([root])):
            try:
                peer = await self._connect(offer.public_key, [root])
                return await fetch_manifest(self._network.host, [peer], root, cache)
            except DishonestError as error:
                failure = error
                self._memory.note(address_of(offer.public_key), Deed.LIED, about=error.message)
                self._events(SourceLied(source=offer.addresses[0], what=error.message))
            except JoulemeshError as error:
                failure = error
        raise failure

    def _offers(self, roots: Sequence[bytes]) -> Iterator[Offer]:
        """One of each node that is not this one and has done nothing that no honest node does."""
        seen = {self._own_key}
        for root in dict.fromkeys(roots):
            for offer in self._network.book.offers(ModelRoot(root)):
                if offer.public_key not in seen and not self._memory.standing(address_of(offer.public_key)).offended:
                    seen.add(offer.public_key)
                    yield offer

    async def _connect(self, public_key: bytes, roots: Sequence[bytes]) -> str:
        """To wherever the newest offer says that a node is."""
        offer = next((each for each in self._offers(roots) if each.public_key == public_key), None)
        if offer is None:
            raise UnreachableError("its offer is gone")
        failure: JoulemeshError | None = None
        for address in offer.addresses:
            try:
                return await self._network.connect(address)
            except JoulemeshError as error:
                failure = error
        assert failure is not None, "an offer has an address"
        raise failure
