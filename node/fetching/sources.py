"""Where chunks come from: a folder with the model's files, a web server with them, or a peer that serves the model.

No source is believed: what it gives is held against the manifest by whoever asked (`swarm`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import aiohttp

from node.model_directory import CHUNKS_FILE, HashMemory
from node.ports import Requests
from protocol.encoding.codec import encode
from protocol.errors import LostPeerError, MalformedError, ModelError, RefusedError, UnreachableError
from protocol.identity.ids import ModelFile, ModelManifest, ModelRoot
from protocol.market.catalog import ChunkListRequest, ChunkRequest
from protocol.models.chunks import CHUNK_BYTES, HASH_BYTES, chunk_bytes, chunk_count, joined_hashes
from protocol.names import MODEL_PROTOCOL

__all__ = ["FolderSource", "MirrorSource", "PeerSource", "Source"]

CHUNK_S = 60.0
"""For one chunk, or one list, to arrive."""


class Source(Protocol):
    """Somebody who may have chunks of a model."""

    name: str
    """For people, and for programs to tell one from another."""
    at_once: int
    """Chunks to ask it for at a time."""
    public_key: bytes | None
    """Whose word it is; None for a folder and a mirror, which vouch for nothing."""

    async def chunk_list(self, file: ModelFile) -> bytes:
        """The hashes of a file's chunks, not held against anything. Raises JoulemeshError, OSError."""

    async def chunk(self, file: ModelFile, index: int) -> bytes:
        """A chunk, not held against anything.

        Raises RefusedError (code ``file``: it does not have it; ``busy``: later), and any other JoulemeshError.
        """


class FolderSource:
    """A directory with some files of the model, whole or in part.

    Args:
        hashes: to make chunk lists with; it reads a file once for it.
    """

    at_once = 1
    public_key: bytes | None = None

    def __init__(self, directory: Path, hashes: HashMemory) -> None:
        self.name = str(directory)
        self._directory = directory
        self._hashes = hashes

    async def chunk_list(self, file: ModelFile) -> bytes:
        """See `Source`."""
        known = self._hashes.chunk_list(file)
        if known is None:
            try:
                await asyncio.to_thread(self._hashes.read_anew, self._directory / file.name)
            except ModelError as error:
                raise RefusedError(error.message, code="file") from None
            known = self._hashes.chunk_list(file)
        if known is None:
            raise RefusedError(f"{self.name} has another {file.name}", code="file")
        return joined_hashes(known)

    async def chunk(self, file: ModelFile, index: int) -> bytes:
        """See `Source`."""
        try:
            return await asyncio.to_thread(self._read, file, index)
        except OSError as error:
            raise RefusedError(f"cannot read {file.name}: {error.strerror}", code="file") from None

    def _read(self, file: ModelFile, index: int) -> bytes:
        with (self._directory / file.name).open("rb") as opened:
            opened.seek(index * CHUNK_BYTES)
            return opened.read(chunk_bytes(file.size, index))


class MirrorSource:
    """A web server that has the model's files under one URL and answers requests for ranges.

    Args:
        manifest: whose chunk lists lie there as `CHUNKS_FILE`.
    """

    at_once = 4
    public_key: bytes | None = None

    def __init__(self, url: str, manifest: ModelManifest, session: aiohttp.ClientSession) -> None:
        self.name = url
        self._manifest = manifest
        self._session = session

    async def chunk_list(self, file: ModelFile) -> bytes:
        """See `Source`."""
        begin = 0
        for each in self._manifest.files:
            if each.name == file.name:
                break
            begin += HASH_BYTES * chunk_count(each.size)
        return await self._range(CHUNKS_FILE, begin, HASH_BYTES * chunk_count(file.size))

    async def chunk(self, file: ModelFile, index: int) -> bytes:
        """See `Source`."""
        return await self._range(file.name, index * CHUNK_BYTES, chunk_bytes(file.size, index))

    async def _range(self, name: str, begin: int, size: int) -> bytes:
        asked = {"Range": f"bytes={begin}-{begin + size - 1}", "Accept-Encoding": "identity"}
        try:
            async with (
                asyncio.timeout(CHUNK_S),
                self._session.get(f"{self.name}/{name}", headers=asked, allow_redirects=True, max_redirects=5) as reply,
            ):
                if reply.status == 404:
                    raise RefusedError(f"{self.name} has no {name}", code="file")
                if reply.status in (429, 503):
                    raise RefusedError(f"{self.name} is busy", code="busy")
                if reply.status not in (200, 206):
                    raise UnreachableError(f"{self.name} answers {reply.status} for {name}", hint="check the mirror")
                if reply.status == 200 and begin:  # it does not know ranges: everything before would have to be read
                    raise UnreachableError(f"{self.name} knows no ranges", hint="use a server that does")
                return await _exactly(reply.content, size)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(f"{self.name} does not answer: {error or 'no answer in time'}") from None


async def _exactly(content: aiohttp.StreamReader, size: int) -> bytes:
    try:
        return await content.readexactly(size)
    except asyncio.IncompleteReadError:
        raise MalformedError("a mirror sent fewer bytes than were asked for") from None


class PeerSource:
    """A node that offers the model.

    Args:
        connect: makes sure of a connection to it, and gives its peer id. Raises JoulemeshError.
        public_key: of the node: whom a wrong chunk is held against.
    """

    at_once = 2

    def __init__(
        self, requests: Requests, connect: Callable[[], Awaitable[str]], public_key: bytes, root: ModelRoot, name: str
    ) -> None:
        self.name = name
        self.public_key: bytes | None = public_key
        self._requests = requests
        self._connect = connect
        self._connecting = asyncio.Lock()
        self._peer: str | None = None
        self._root = root

    async def chunk_list(self, file: ModelFile) -> bytes:
        """See `Source`."""
        return await self._ask(ChunkListRequest(model=self._root, name=file.name), HASH_BYTES * chunk_count(file.size))

    async def chunk(self, file: ModelFile, index: int) -> bytes:
        """See `Source`."""
        question = ChunkRequest(model=self._root, name=file.name, chunk=index)
        return await self._ask(question, chunk_bytes(file.size, index))

    async def _ask(self, question: ChunkListRequest | ChunkRequest, size: int) -> bytes:
        async with self._connecting:
            if self._peer is None:
                try:
                    async with asyncio.timeout(CHUNK_S):
                        self._peer = await self._connect()
                except TimeoutError:
                    raise UnreachableError(f"{self.name} does not answer") from None
        try:
            return await self._requests.request(
                self._peer, MODEL_PROTOCOL, encode(question), timeout_s=CHUNK_S, max_reply=size
            )
        except (LostPeerError, UnreachableError):
            self._peer = None
            raise
