"""Handing out chunks of the model that a node serves, within what it gives of its bandwidth.

A chunk is read and hashed before it goes: a file that was changed under the running node makes it refuse, not lie.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from node.fetching.disk import ChunkFile
from node.model_directory import HashMemory
from protocol.errors import ModelError, RefusedError
from protocol.identity.ids import ModelFile, ModelManifest
from protocol.market.catalog import MAX_FILE_BYTES
from protocol.models.chunks import HASH_BYTES, chunk_bytes, chunk_count, joined_hashes

__all__ = ["ChunkDesk", "Uplink"]

SHARE = 4
"""One stranger gets one part in so many of the bandwidth at most."""
WAIT_S = 5.0
"""Who would wait longer is told to come back."""
MOST_PEERS = 1024


class _Meter:
    """Bytes at a rate: a debt that is paid off as time goes by."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._debt = 0.0
        self._at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until what was taken is paid off."""
        self._debt = max(0.0, self._debt - (now - self._at) * self._rate)
        self._at = now
        return self._debt / self._rate

    def take(self, size: int) -> None:
        """Owe so many bytes more."""
        self._debt += size


class Uplink:
    """What a node gives of its bandwidth to those who fetch, in all and to one stranger.

    Args:
        rate: bytes a second; 0 gives nothing.
        now: seconds of any steady clock.
        is_known: whether a peer has been of use before; others have a share of the rate.
    """

    def __init__(self, rate: int, *, now: Callable[[], float], is_known: Callable[[bytes], bool]) -> None:
        self.rate = rate
        self._now = now
        self._is_known = is_known
        self._all = _Meter(rate or 1)
        self._peers: OrderedDict[bytes, _Meter] = OrderedDict()

    def admit(self, peer: bytes, size: int) -> float:
        """Seconds to wait before sending so many bytes to a peer. Raises RefusedError (``file``, ``busy``)."""
        if not self.rate:
            raise RefusedError("this node hands out no weights", code="file")
        now = self._now()
        own = self._peers.pop(peer, None) or _Meter(self.rate if self._is_known(peer) else self.rate / SHARE)
        self._peers[peer] = own
        if len(self._peers) > MOST_PEERS:
            self._peers.popitem(last=False)
        wait = max(self._all.wait(now), own.wait(now))
        if wait > WAIT_S:
            raise RefusedError("the bandwidth that this node gives is used up for now", code="busy")
        for meter in (self._all, own):
            meter.take(size)
        return wait


class ChunkDesk:
    """Answers for chunks of the files in one directory, whole or in part."""

    def __init__(self, directory: Path, manifest: ModelManifest, hashes: HashMemory, uplink: Uplink) -> None:
        self._directory = directory
        self._listed = {file.name: file for file in manifest.files}
        self._hashes = hashes
        self._uplink = uplink
        self._lists: dict[str, Sequence[bytes] | None] = {}
        self._listing = asyncio.Lock()

    async def chunk_list(self, peer: bytes, name: str) -> bytes:
        """The hashes of a file's chunks. Raises RefusedError."""
        file = self._file(name)
        size = HASH_BYTES * chunk_count(file.size)
        if size > MAX_FILE_BYTES:
            raise RefusedError(f"the chunk list of {name} is too long to be handed out", code="file")
        await asyncio.sleep(self._uplink.admit(peer, size))
        return joined_hashes(await self._list(file))

    async def chunk(self, peer: bytes, name: str, index: int) -> bytes:
        """One chunk. Raises RefusedError."""
        file = self._file(name)
        if index >= chunk_count(file.size):
            raise RefusedError(f"{name} has no chunk {index}", code="file")
        held = ChunkFile(self._directory, file, await self._list(file))
        await asyncio.sleep(self._uplink.admit(peer, chunk_bytes(file.size, index)))
        chunk = await asyncio.to_thread(held.read, index)
        if chunk is None:
            raise RefusedError(f"this node does not have chunk {index} of {name}", code="file")
        return chunk

    def _file(self, name: str) -> ModelFile:
        if name not in self._listed:
            raise RefusedError(f"the model has no file {name!r}", code="file")
        return self._listed[name]

    async def _list(self, file: ModelFile) -> Sequence[bytes]:
        """A file's chunk list; where it is not kept, the file is read for it once."""
        if chunk_count(file.size) == 1:
            return [file.chunks]
        async with self._listing:
            if file.name not in self._lists:
                self._lists[file.name] = await asyncio.to_thread(self._find_list, file)
            known = self._lists[file.name]
        if known is None:
            raise RefusedError(f"this node does not have all of {file.name}", code="file")
        return known

    def _find_list(self, file: ModelFile) -> Sequence[bytes] | None:
        known = self._hashes.chunk_list(file)
        if known is None:
            try:
                self._hashes.read_anew(self._directory / file.name)
                known = self._hashes.chunk_list(file)
            except ModelError:
                return None
        return known
