"""What lies in a model directory: facts, files against the manifest, and what each block needs (`joule model`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from node.model_directory import (
    MANIFEST_FILE,
    HashMemory,
    ModelFacts,
    belongs,
    model_facts,
    model_manifest,
    read_header,
    read_manifest,
    span_files,
    weight_files,
    write_chunk_lists,
    write_manifest,
)
from protocol.errors import ModelError
from protocol.identity.ids import ModelFile, ModelManifest

__all__ = ["BlockNeeds", "FileState", "KeptManifest", "Survey", "block_needs", "make_manifest", "survey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """One file of a model's manifest."""

    name: str
    """Inside the model's directory."""
    size: int
    """Bytes, as the manifest has it."""
    sha256: bytes
    """As the manifest has it."""
    state: Literal["here", "partly", "missing", "differs"]
    """In this directory; ``differs`` is another content than the manifest's, ``partly`` has holes: only what some
    blocks need was fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockNeeds:
    """What serving one block alone takes: the first one comes with the embedding, the last one with norm and head."""

    block: int
    """Counted from 0."""
    size: int | None
    """Bytes of its weights as stored; None where not all of its files are here."""
    files: tuple[str, ...]
    """Names of the weight files that hold them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A model directory, looked at."""

    name: str
    """For people."""
    license: str
    """SPDX expression; empty where it is not stated."""
    roots: dict[str, bytes]
    """What offers and receipts name the model by, for each precision that it can be served in."""
    manifest_file: bool
    """Whether the directory has a manifest file; else the manifest was made of the files."""
    architecture: str
    """Class name of the model, such as ``LlamaForCausalLM``."""
    blocks: int
    """Transformer blocks in the whole model."""
    hidden_size: int
    """Width of the activations between blocks."""
    vocabulary: int
    """Token ids are below this."""
    max_context: int
    """Positions that the model can attend to."""
    stop_tokens: tuple[int, ...]
    """Token ids that end an answer."""
    files: tuple[FileState, ...]
    """In order of name."""
    needs: tuple[BlockNeeds, ...]
    """For each block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptManifest:
    """The manifest file of a model directory."""

    file: Path
    """Where it is."""
    written: bool
    """Whether it was written now; else it said so already."""
    name: str
    """Of the model, for people."""
    license: str
    """SPDX expression; empty where it is not stated."""
    roots: dict[str, bytes]
    """What offers and receipts name the model by, for each precision that it can be served in."""
    files: int
    """How many files the model has."""
    size: int
    """Bytes of them all."""


def survey(directory: Path, hashes: HashMemory) -> Survey:
    """Look at a model directory; reads every file that was not hashed before.

    Raises ModelError: no such model, or neither a manifest file nor all files.
    """
    facts = model_facts(directory)
    from_file = (directory / MANIFEST_FILE).is_file()
    usual = facts.precisions[0]
    made = partial(model_manifest, directory, precision=usual, hashes=hashes)
    manifest = read_manifest(directory, precision=usual) if from_file else made()
    return Survey(
        name=manifest.name,
        license=manifest.license,
        roots=_roots(manifest, facts.precisions),
        manifest_file=from_file,
        architecture=facts.architecture,
        blocks=facts.blocks,
        hidden_size=facts.hidden_size,
        vocabulary=facts.vocabulary,
        max_context=facts.max_context,
        stop_tokens=facts.stop_tokens,
        files=tuple(_state(directory / file.name, file, hashes) for file in manifest.files),
        needs=tuple(block_needs(directory, facts)),
    )


def make_manifest(directory: Path, *, spdx: str | None, replace: bool, hashes: HashMemory) -> KeptManifest:
    """Write a directory's manifest file, where it does not say the same already.

    Args:
        spdx: the licence to state; None to keep what an existing manifest states.
        replace: whether a manifest file that says other things may be written over.

    Raises:
        ModelError: not all files are here, or the manifest file says other things.
    """
    old = _old_manifest(directory, replace=replace)
    stated = spdx if spdx is not None else "" if old is None else old.license
    precisions = model_facts(directory).precisions
    made = model_manifest(directory, precision=precisions[0], spdx=stated, hashes=hashes)
    same = old is not None and made == old.replace(precision=precisions[0])
    if old is not None and not same and not replace:
        raise ModelError(
            f"{MANIFEST_FILE} says other things than the files and the flags",
            hint="--replace writes it anew; offers and receipts then name another model",
        )
    if not same:
        write_manifest(directory, made)
    write_chunk_lists(directory, made, hashes)
    return KeptManifest(
        file=directory / MANIFEST_FILE,
        written=not same,
        name=made.name,
        license=made.license,
        roots=_roots(made, precisions),
        files=len(made.files),
        size=sum(file.size for file in made.files),
    )


def _old_manifest(directory: Path, *, replace: bool) -> ModelManifest | None:
    if not (directory / MANIFEST_FILE).is_file():
        return None
    try:
        return read_manifest(directory)
    except ModelError:
        if not replace:
            raise
        return None


def _roots(manifest: ModelManifest, precisions: tuple[str, ...]) -> dict[str, bytes]:
    return {each: manifest.replace(precision=each).root for each in precisions}


def block_needs(directory: Path, facts: ModelFacts) -> Iterator[BlockNeeds]:
    """What each block of a model takes. Raises ModelError for a file that is no weights."""
    headers = {path: read_header(path) for path in weight_files(directory) if path.is_file()}
    for block in range(facts.blocks):
        alone = range(block, block + 1)
        files = span_files(directory, facts, alone)
        held = [tensor for path in files for tensor in headers.get(path, {}).items()]
        size = sum(place.size for name, place in held if belongs(name, facts, alone))
        whole = all(path in headers for path in files)
        yield BlockNeeds(block=block, size=size if whole else None, files=tuple(path.name for path in files))


def _state(path: Path, file: ModelFile, hashes: HashMemory) -> FileState:
    state: Literal["here", "partly", "missing", "differs"] = "missing"
    if path.is_file():
        found = hashes.of(path)
        same = (found.size, found.sha256) == (file.size, file.sha256)
        state = "here" if same else "partly" if _has_holes(path, file) else "differs"
    return FileState(name=file.name, size=file.size, sha256=file.sha256, state=state)


def _has_holes(path: Path, file: ModelFile) -> bool:
    """Whether a file has its full size, and less of it on the disk."""
    status = path.stat()
    return status.st_size == file.size and status.st_blocks * 512 < file.size
