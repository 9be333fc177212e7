"""What the blocks of a node need of a model, fetched into a directory that other code finds as if it were whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from node.fetching.disk import ChunkFile, require_space
from node.fetching.swarm import Swarm, Want
from node.model_directory import (
    HashMemory,
    header_chunks,
    model_facts,
    needed_chunks,
    span_files,
    weight_files,
    write_manifest,
)
from node.model_directory.manifest import TEXT_FILES
from node.model_directory.weights import INDEX_FILE, SINGLE_FILE
from protocol.errors import LocalError, ModelError
from protocol.identity.ids import BlockSpan, ModelFile, ModelManifest
from protocol.market.catalog import CLIENT_FILES
from protocol.models.chunks import chunk_bytes, chunk_count, joined_hashes, open_chunk_list

__all__ = ["ModelFetch"]


class ModelFetch:
    """Fetches parts of one model into a directory of its own, which has the manifest from the first moment on.

    Args:
        hashes: keeps the chunk lists.
        on_wanted: told of how many bytes are missing whenever more is known to be.

    Raises:
        LocalError: the directory cannot be written.
    """

    def __init__(
        self,
        directory: Path,
        manifest: ModelManifest,
        swarm: Swarm,
        hashes: HashMemory,
        *,
        on_wanted: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.directory = directory
        self.manifest = manifest
        self._swarm = swarm
        self._hashes = hashes
        self._on_wanted = on_wanted
        self._listed = {file.name: file for file in manifest.files}
        try:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            hint = "the data directory must be yours"
            raise LocalError(f"cannot make {directory}: {error.strerror}", hint=hint) from None
        write_manifest(directory, manifest)

    async def texts(self, *, ends: bool) -> None:
        """Configuration and index; with `ends` also tokenizer and template: clients ask for them where block 0 is, and
        masks are made of one where the last block is.

        Raises UnreachableError where nobody hands a file out, ModelError for a model without weights in files.
        """
        names = [name for name in TEXT_FILES if name in self._listed and (ends or name not in CLIENT_FILES)]
        if SINGLE_FILE not in self._listed:
            names.append(INDEX_FILE)
        await self._fetch({self._file(name): range(chunk_count(self._file(name).size)) for name in names})

    async def headers(self) -> None:
        """What says which tensors lie where, of all weights: enough to know how large each block is."""
        await self._headers(weight_files(self.directory) if SINGLE_FILE not in self._listed else [self._single()])

    async def blocks(self, span: BlockSpan) -> None:
        """All that serving these blocks takes, and no other tensors. Raises as `texts`, ModelError, LocalError."""
        await self.texts(ends=span.start == 0 or span.end == self.manifest.blocks)
        facts = await asyncio.to_thread(model_facts, self.directory)
        blocks = range(span.start, span.end)
        single = SINGLE_FILE in self._listed
        paths = [self._single()] if single else list(span_files(self.directory, facts, blocks))
        await self._headers(paths)
        await self._fetch({self._file(path.name): needed_chunks(path, facts, blocks) for path in paths})

    async def _headers(self, paths: Iterable[Path]) -> None:
        paths = list(paths)
        await self._fetch({self._file(path.name): range(1) for path in paths})
        await self._fetch({self._file(path.name): header_chunks(path) for path in paths})

    async def _fetch(self, wanted: dict[ModelFile, Iterable[int]]) -> None:
        wants: list[Want] = []
        for file, indices in wanted.items():
            held = ChunkFile(self.directory, file, await self._chunk_list(file))
            missing = await asyncio.to_thread(held.missing, [i for i in indices if i < chunk_count(file.size)])
            wants += [Want(held, index) for index in missing]
        if not wants:
            return
        size = sum(chunk_bytes(want.file.file.size, want.index) for want in wants)
        require_space(self.directory, size)
        self._on_wanted(size)
        await self._swarm.fetch(wants)

    async def _chunk_list(self, file: ModelFile) -> list[bytes]:
        if chunk_count(file.size) == 1:  # the root of one leaf is the leaf
            return [file.chunks]
        known = self._hashes.chunk_list(file)
        if known is None:
            data = await self._swarm.chunk_list(file)
            known = open_chunk_list(file, data)
            self._hashes.keep_list(file.chunks, joined_hashes(known))
        return list(known)

    def _file(self, name: str) -> ModelFile:
        if name not in self._listed:
            raise ModelError(f"{name} is not in the manifest of {self.manifest.name}", hint="it cannot be fetched")
        return self._listed[name]

    def _single(self) -> Path:
        return self.directory / SINGLE_FILE
