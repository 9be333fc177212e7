"""What exactly is sold: the manifest of a model, and whether a directory holds what it says.

Whoever has all files of a model can write its manifest beside them (`joule model manifest`). Where it lies, a node
needs no other weights than those of its own blocks: the manifest says what the whole model is, and a hash says of each
file whether it is the one that is meant.

The file is JSON: the fields of `ModelManifest` but the precision, which is the node's choice. A manifest proves nothing
about where a model comes from: everybody who serves or asks for the same root means the same files, no more.
"""

from __future__ import annotations

import json
from pathlib import Path

from node.durable import replace_file
from node.model_directory.facts import PRECISIONS, ModelFacts, model_facts
from node.model_directory.files import DOWNLOAD_AGAIN, read_text_file, require_own_file
from node.model_directory.hashes import HashMemory
from node.model_directory.weights import (
    INDEX_FILE,
    SINGLE_FILE,
    needed_chunks,
    read_header,
    span_files,
    weight_files,
)
from protocol.encoding.strict_json import parse_object
from protocol.errors import JoulemeshError, MalformedError, ModelError
from protocol.identity.ids import BlockSpan, ModelFile, ModelManifest
from protocol.market.catalog import CLIENT_FILES
from protocol.models.chunks import CHUNK_BYTES, joined_hashes

__all__ = [
    "CHUNKS_FILE",
    "MANIFEST_FILE",
    "check_model",
    "dump_manifest",
    "held_manifest",
    "load_manifest",
    "model_manifest",
    "read_manifest",
    "write_chunk_lists",
    "write_manifest",
]

MANIFEST_FILE = "joulemesh-manifest.json"
CHUNKS_FILE = "joulemesh-chunks.bin"
"""Beside a manifest: the chunk lists of all its files, one after the other, for mirrors."""
FORMAT = "joulemesh-manifest/2"
MAX_MANIFEST_BYTES = 256 * 1024
CONFIG_FILE = "config.json"
TEXT_FILES = (*CLIENT_FILES, CONFIG_FILE, "generation_config.json")
FACTS = ("name", "blocks", "hidden_size", "vocabulary", "max_context", "stop_tokens")
"""Fields that a manifest shares with `ModelFacts`."""

_FULL_MODEL = (
    f"download the rest, or put a {MANIFEST_FILE} beside it, written where all files are with `joule model manifest`: "
    "with it a node needs the weights of its own blocks only"
)
_WRITE_ANEW = "copy it again, or write it on a machine that has all files: joule model manifest DIR"


def model_manifest(
    directory: Path, *, precision: str = "fp32", spdx: str = "", hashes: HashMemory | None = None
) -> ModelManifest:
    """The manifest of a directory that holds a whole model; its `root` is what is sold.

    Args:
        spdx: the model's licence, as an SPDX expression; empty where it is not stated.
        hashes: remembers files that it has hashed before; the others are read once.

    Raises:
        ModelError: no such model; a weight file is missing or cut short.
    """
    _check_precision(precision)
    facts = model_facts(directory)
    _require_served(facts, precision)
    weights = weight_files(directory)
    for path in weights:
        if not path.is_file():
            raise ModelError(f"the model is half-downloaded: {path.name} is missing", hint=_FULL_MODEL)
        read_header(path)
    names = {name for name in TEXT_FILES if (directory / name).is_file()} | {path.name for path in weights}
    if (directory / SINGLE_FILE) not in weights:
        names.add(INDEX_FILE)
    if len(names) > 256:
        raise ModelError(f"{directory} has {len(names)} files", hint="a model of up to 256 files can be served")
    memory = HashMemory() if hashes is None else hashes
    files = tuple(_file(directory / name, memory) for name in sorted(names))
    shared = {name: getattr(facts, name) for name in FACTS}
    try:
        return ModelManifest(**shared, license=spdx, precision=precision, files=files)
    except JoulemeshError as error:
        raise ModelError(f"the model cannot be described: {error.message}", hint=DOWNLOAD_AGAIN) from None


def held_manifest(
    directory: Path, span: BlockSpan | None = None, *, precision: str = "fp32", hashes: HashMemory | None = None
) -> ModelManifest:
    """The manifest by which some blocks of a model, or all of it, are served from a directory.

    Where the directory has a manifest file, that is the one, and only the files that the blocks need are looked at.
    Elsewhere all files have to be there, and the licence is not stated. Raises ModelError.
    """
    path = directory / MANIFEST_FILE
    if not path.is_file() and not path.is_symlink():
        return model_manifest(directory, precision=precision, hashes=hashes)
    manifest = read_manifest(directory, precision=precision)
    check_model(directory, manifest, span, hashes=hashes)
    return manifest


def check_model(
    directory: Path, manifest: ModelManifest, span: BlockSpan | None = None, *, hashes: HashMemory | None = None
) -> None:
    """Hold a directory against a manifest: the configuration, and all that the blocks of a span (all blocks) need.

    Tokenizer and template are needed where the first block is, and looked at where the last one is: masks are made of
    the tokenizer there. Raises ModelError, which names the file that differs.
    """
    listed = {file.name: file for file in manifest.files}
    memory = HashMemory() if hashes is None else hashes
    first, last = span is None or span.start == 0, span is not None and span.end == manifest.blocks
    for name in TEXT_FILES:
        needed = first or name not in CLIENT_FILES or (last and (directory / name).exists())
        if name == CONFIG_FILE or (name in listed and needed):
            _check_file(directory / name, listed, memory)
    facts = model_facts(directory)
    _check_facts(facts, manifest)
    _require_served(facts, manifest.precision)
    if span is not None and span.end > facts.blocks:
        raise ModelError(f"the model has no blocks {span}", hint=f"choose a span within 0:{facts.blocks}")
    blocks = range(facts.blocks) if span is None else range(span.start, span.end)
    if not (directory / SINGLE_FILE).is_file():
        _check_file(directory / INDEX_FILE, listed, memory)
    for path in span_files(directory, facts, blocks):
        _check_weights(path, listed, memory, facts, blocks)
        read_header(path)


def read_manifest(directory: Path, *, precision: str = "fp32") -> ModelManifest:
    """The manifest file of a directory, not held against anything yet. Raises ModelError."""
    return load_manifest(read_text_file(directory / MANIFEST_FILE, MAX_MANIFEST_BYTES), precision=precision)


def write_manifest(directory: Path, manifest: ModelManifest) -> Path:
    """Write the manifest file into a directory, for everybody to read. Raises ModelError."""
    path = directory / MANIFEST_FILE
    try:
        replace_file(path, dump_manifest(manifest))
        path.chmod(0o644)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}", hint="the model's directory must be yours") from None
    return path


def write_chunk_lists(directory: Path, manifest: ModelManifest, hashes: HashMemory) -> Path:
    """Write the hashes of all files' chunks beside the manifest, for mirrors. Raises ModelError."""
    path = directory / CHUNKS_FILE
    lists: list[bytes] = []
    for file in manifest.files:
        known = hashes.chunk_list(file)
        if known is None:
            hashes.read_anew(directory / file.name)
            known = hashes.chunk_list(file)
        if known is None:
            raise ModelError(f"{file.name} changed while it was read", hint="run it again")
        lists += known
    try:
        replace_file(path, joined_hashes(lists))
        path.chmod(0o644)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}", hint="the model's directory must be yours") from None
    return path


def dump_manifest(manifest: ModelManifest) -> bytes:
    """The content of a manifest file."""
    fields = {name: getattr(manifest, name) for name in FACTS}
    files = [
        {"name": file.name, "size": file.size, "sha256": file.sha256.hex(), "chunks": file.chunks.hex()}
        for file in manifest.files
    ]
    value = {"format": FORMAT, "license": manifest.license, **fields, "files": files}
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def load_manifest(data: bytes, *, precision: str = "fp32") -> ModelManifest:
    """What a manifest file says. It is from a stranger: anything but what `dump_manifest` writes is refused.

    Raises ModelError.
    """
    _check_precision(precision)
    try:
        value = parse_object(data, limit=MAX_MANIFEST_BYTES, depth=3)
    except MalformedError as error:
        raise ModelError(f"{MANIFEST_FILE} cannot be read: {error.message}", hint=_WRITE_ANEW) from None
    if value.get("format") != FORMAT:
        raise ModelError(f"{MANIFEST_FILE} is no manifest of this kind ({FORMAT})", hint=_WRITE_ANEW)
    try:
        files = tuple(
            ModelFile(
                name=each["name"],
                size=each["size"],
                sha256=bytes.fromhex(each["sha256"]),
                chunks=bytes.fromhex(each["chunks"]),
            )
            for each in value["files"]
        )
        facts = {name: value[name] for name in FACTS} | {"stop_tokens": tuple(value["stop_tokens"])}
        manifest = ModelManifest(**facts, license=value["license"], precision=precision, files=files)
    except JoulemeshError as error:
        raise ModelError(f"{MANIFEST_FILE} is not what it should be: {error.message}", hint=_WRITE_ANEW) from None
    except (ValueError, TypeError, KeyError) as error:
        why = f"lacks {error}" if isinstance(error, KeyError) else "is not what it should be"
        raise ModelError(f"{MANIFEST_FILE} {why}", hint=_WRITE_ANEW) from None
    if json.loads(dump_manifest(manifest)) != value:
        raise ModelError(f"{MANIFEST_FILE} says more than a manifest does", hint=_WRITE_ANEW)
    return manifest


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ModelError(f"unknown precision {precision!r}", hint=f"use one of {', '.join(PRECISIONS)}")


def _require_served(facts: ModelFacts, precision: str) -> None:
    if precision not in facts.precisions:
        what = "are not quantized" if facts.quantization is None else f"are {facts.precisions[0]}"
        raise ModelError(
            f"the weights of {facts.name} {what}: they cannot be served in {precision}",
            hint=f"use --precision {' or '.join(facts.precisions)}; `joule model quantize` makes other weights",
        )


def _check_facts(facts: ModelFacts, manifest: ModelManifest) -> None:
    for name in FACTS:
        if getattr(facts, name) != getattr(manifest, name):
            said, found = getattr(manifest, name), getattr(facts, name)
            raise ModelError(
                f"the manifest says {name} = {said!r}, the model's configuration {found!r}", hint=_WRITE_ANEW
            )


def _check_weights(
    path: Path, listed: dict[str, ModelFile], hashes: HashMemory, facts: ModelFacts, blocks: range
) -> None:
    """Of a file whose chunk list is here only the chunks that the blocks need: the rest may not have been fetched."""
    file = listed.get(path.name)
    if file is None or file.size <= CHUNK_BYTES or not path.is_file() or hashes.chunk_list(file) is None:
        _check_file(path, listed, hashes)
    elif path.stat().st_size != file.size or not hashes.has_chunks(path, file, needed_chunks(path, facts, blocks)):
        raise _another(path, file, path.stat().st_size)


def _check_file(path: Path, listed: dict[str, ModelFile], hashes: HashMemory) -> None:
    expected = listed.get(path.name)
    if expected is None:
        hint = f"remove it, or write the manifest anew: joule model manifest {path.parent} --replace"
        raise ModelError(f"{path.name} is not in the manifest of the model", hint=hint)
    if not path.is_file():
        raise ModelError(f"{path.name} is missing, and is needed here", hint="download this file of the model")
    found = _file(path, hashes)
    if found != expected:
        raise _another(path, expected, found.size)


def _another(path: Path, expected: ModelFile, size: int) -> ModelError:
    what = f"{size} bytes, not {expected.size}" if size != expected.size else "another content"
    return ModelError(
        f"{path.name} is not the one of the manifest: it has {what}",
        hint=f"download it again; its SHA-256 should be {expected.sha256.hex()}",
    )


def _file(path: Path, hashes: HashMemory) -> ModelFile:
    if path.name in TEXT_FILES or path.name == INDEX_FILE:
        require_own_file(path)
    found = hashes.of(path)
    return ModelFile(name=path.name, size=found.size, sha256=found.sha256, chunks=found.chunks)
