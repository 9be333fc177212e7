"""What lies in a model directory: facts, files against the manifest, and what each block needs (`joule model`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.model_directory import (
    MANIFEST_FILE,
    PRECISIONS,
    HashMemory,
    ModelFacts,
    belongs,
    model_facts,
    model_manifest,
    read_header,
    read_manifest,
    span_files,
    weight_files,
    write_manifest,
)
from protocol.errors import ModelError
from protocol.ids import ModelFile, ModelManifest

__all__ = ["BlockNeeds", "FileState", "Survey", "make_manifest", "survey"]


@dataclass(frozen=True, slots=True)
class FileState:
    """One file of the manifest."""

    file: ModelFile
    state: str
    """``here``, ``missing``, or ``differs`` from the manifest."""


@dataclass(frozen=True, slots=True)
class BlockNeeds:
    """What serving one block alone takes: the first one comes with the embedding, the last one with norm and head."""

    block: int
    size: int | None
    """Bytes as stored; None where not all of its files are here."""
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A model directory, looked at."""

    facts: ModelFacts
    from_file: bool
    """Whether the manifest is that of a manifest file, or else was made of the files."""
    manifest: ModelManifest
    files: tuple[FileState, ...]
    blocks: tuple[BlockNeeds, ...]

    @property
    def roots(self) -> dict[str, str]:
        """The model root in hex, by precision."""
        return {each: self.manifest.replace(precision=each).root.hex() for each in PRECISIONS}


def survey(directory: Path, hashes: HashMemory) -> Survey:
    """Look at a model directory; reads every file that was not hashed before.

    Raises ModelError: no such model, or neither a manifest file nor all files.
    """
    facts = model_facts(directory)
    from_file = (directory / MANIFEST_FILE).is_file()
    manifest = read_manifest(directory) if from_file else model_manifest(directory, hashes=hashes)
    headers = {path: read_header(path) for path in weight_files(directory) if path.is_file()}
    blocks = []
    for block in range(facts.blocks):
        alone = range(block, block + 1)
        files = span_files(directory, facts, alone)
        tensors = [
            place for path in files for name, place in headers.get(path, {}).items() if belongs(name, facts, alone)
        ]
        size = sum(place.size for place in tensors) if all(path in headers for path in files) else None
        blocks.append(BlockNeeds(block, size, tuple(path.name for path in files)))
    return Survey(
        facts=facts,
        from_file=from_file,
        manifest=manifest,
        files=tuple(FileState(file, _state(directory / file.name, file, hashes)) for file in manifest.files),
        blocks=tuple(blocks),
    )


def make_manifest(
    directory: Path, *, spdx: str | None, replace: bool, hashes: HashMemory
) -> tuple[ModelManifest, bool]:
    """Write a directory's manifest file; returns the manifest, and whether the file was not like that before.

    Args:
        spdx: the licence to state; None to keep what an existing manifest states.
        replace: whether a manifest file that says other things may be written over.

    Raises:
        ModelError: not all files are here, or the manifest file says other things.
    """
    old = None
    if (directory / MANIFEST_FILE).is_file():
        try:
            old = read_manifest(directory)
        except ModelError:
            if not replace:
                raise
    stated = spdx if spdx is not None else "" if old is None else old.license
    made = model_manifest(directory, spdx=stated, hashes=hashes)
    if made == old:
        return made, False
    if old is not None and not replace:
        raise ModelError(
            f"{MANIFEST_FILE} says other things than the files: it is of {old.root.hex()[:12]}..., "
            f"they make {made.root.hex()[:12]}...",
            hint="--replace writes it anew; offers and receipts then name another model",
        )
    write_manifest(directory, made)
    return made, True


def _state(path: Path, file: ModelFile, hashes: HashMemory) -> str:
    if not path.is_file():
        return "missing"
    return "here" if hashes.sha256(path) == (file.size, file.sha256) else "differs"
