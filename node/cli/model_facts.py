"""What `joule model` prints for programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.app.survey import Survey
    from protocol.ids import ModelManifest

__all__ = ["ModelBlock", "ModelFileFacts", "ModelFileState", "ShownModel", "WrittenManifest", "shown_model", "written"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFileFacts:
    """A file of a manifest."""

    name: str
    """In the model's directory."""
    size: int
    """Bytes."""
    sha256: bytes
    """Of its content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFileState:
    """A file of a manifest, looked at."""

    name: str
    """In the model's directory."""
    size: int
    """Bytes."""
    sha256: bytes
    """Of its content, as the manifest has it."""
    state: str
    """``here``, ``missing``, or ``differs`` from the manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBlock:
    """What serving one block alone takes."""

    block: int
    """Counted from 0."""
    size: int | None
    """Bytes of weights as stored; null where not all of its files are here."""
    files: tuple[str, ...]
    """That hold them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenManifest:
    """A manifest file."""

    file: Path
    """Where it is."""
    written: bool
    """Whether it was written now; false where it said so already."""
    name: str
    """Of the model."""
    license: str
    """SPDX expression; empty where it is not stated."""
    root: bytes
    """The hash that stands for the whole model, in fp32."""
    blocks: int
    """Transformer blocks."""
    hidden_size: int
    """Numbers in a row between blocks."""
    vocabulary: int
    """Tokens that it knows."""
    max_context: int
    """Tokens that a sequence may have."""
    stop_tokens: tuple[int, ...]
    """Ids that end an answer."""
    files: tuple[ModelFileFacts, ...]
    """Of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownModel:
    """A model directory, looked at."""

    name: str
    """Of the model."""
    license: str
    """SPDX expression; empty where it is not stated."""
    architecture: str
    """As its configuration names it."""
    blocks: int
    """Transformer blocks."""
    hidden_size: int
    """Numbers in a row between blocks."""
    vocabulary: int
    """Tokens that it knows."""
    max_context: int
    """Tokens that a sequence may have."""
    stop_tokens: tuple[int, ...]
    """Ids that end an answer."""
    manifest_file: bool
    """Whether there is a manifest file; else the manifest was made of the files."""
    roots: dict[str, str]
    """The hash that stands for the whole model, in hex, by precision."""
    files: tuple[ModelFileState, ...]
    """Of the manifest."""
    needs: tuple[ModelBlock, ...]
    """Block by block."""


def written(manifest: ModelManifest, file: Path, *, now: bool) -> WrittenManifest:
    """A manifest that stands in `file`, written `now` or before."""
    files = tuple(ModelFileFacts(name=each.name, size=each.size, sha256=each.sha256) for each in manifest.files)
    return WrittenManifest(
        file=file,
        written=now,
        name=manifest.name,
        license=manifest.license,
        root=manifest.root,
        blocks=manifest.blocks,
        hidden_size=manifest.hidden_size,
        vocabulary=manifest.vocabulary,
        max_context=manifest.max_context,
        stop_tokens=manifest.stop_tokens,
        files=files,
    )


def shown_model(found: Survey) -> ShownModel:
    """A directory as it was found."""
    facts = found.facts
    return ShownModel(
        name=found.manifest.name,
        license=found.manifest.license,
        architecture=facts.architecture,
        blocks=facts.blocks,
        hidden_size=facts.hidden_size,
        vocabulary=facts.vocabulary,
        max_context=facts.max_context,
        stop_tokens=tuple(facts.stop_tokens),
        manifest_file=found.from_file,
        roots=found.roots,
        files=tuple(
            ModelFileState(name=each.file.name, size=each.file.size, sha256=each.file.sha256, state=each.state)
            for each in found.files
        ),
        needs=tuple(ModelBlock(block=each.block, size=each.size, files=each.files) for each in found.blocks),
    )
