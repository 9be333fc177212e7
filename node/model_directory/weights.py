"""Which file holds which tensor, from safetensors headers and the index of shards. No tensor is read here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.model_directory.facts import ModelFacts
from node.model_directory.files import DOWNLOAD_AGAIN, parse_json, read_json, unreadable
from protocol.errors import ModelError
from protocol.models.chunks import chunks_of_range

__all__ = [
    "EMBEDDING",
    "HEAD",
    "INDEX_FILE",
    "NORM",
    "SINGLE_FILE",
    "TensorPlace",
    "belongs",
    "header_chunks",
    "needed_chunks",
    "read_header",
    "span_files",
    "stored_numbers",
    "tensor_places",
    "weight_files",
]

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100 * 1024 * 1024  # the safetensors format's own bound
MAX_NAME = 63
"""Characters of a weight file's name: below what a file system takes, of four bytes each. Common ones have 32."""
MAX_DIMENSIONS = 8

EMBEDDING = "model.embed_tokens.weight"
NORM = "model.norm.weight"
HEAD = "lm_head.weight"


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where a tensor lies, and what its safetensors header says of it."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    """Where its bytes begin in the file."""
    size: int
    """Bytes."""


def weight_files(directory: Path) -> tuple[Path, ...]:
    """The safetensors files of a model, whether or not all of them are there yet, in order of name."""
    if (directory / SINGLE_FILE).is_file():
        return (directory / SINGLE_FILE,)
    return tuple(sorted(set(_index(directory).values())))


def span_files(directory: Path, facts: ModelFacts, blocks: range) -> tuple[Path, ...]:
    """The safetensors files that hold the tensors of some blocks, whether or not they are there, in order of name.

    The first block comes with the embedding; the last one with the final norm and the head.
    """
    if (directory / SINGLE_FILE).is_file():
        return (directory / SINGLE_FILE,)
    return tuple(sorted({file for name, file in _index(directory).items() if belongs(name, facts, blocks)}))


def header_chunks(path: Path) -> range:
    """The chunks of a safetensors file that hold its header, once the first one is there. Raises ModelError."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise unreadable(path, error) from None
    if length > MAX_HEADER_BYTES:
        raise ModelError(f"{path.name} is not a safetensors file", hint=DOWNLOAD_AGAIN)
    return chunks_of_range(0, 8 + length)


def needed_chunks(path: Path, facts: ModelFacts, blocks: range) -> frozenset[int]:
    """The chunks of a file that some blocks need: its header's, and those of their tensors. Raises ModelError."""
    needed = set(header_chunks(path))
    for name, place in read_header(path).items():
        if belongs(name, facts, blocks):
            needed.update(chunks_of_range(place.begin, place.begin + place.size))
    return frozenset(needed)


def stored_numbers(directory: Path) -> int:
    """Numbers that a model's weights are: packed ones count by what they stand for, scales and the like not at all.

    Raises ModelError where a file is missing.
    """
    total = 0
    for path in weight_files(directory):
        for name, place in read_header(path).items():
            if name.rpartition(".")[2] in ("scale", "scales", "qzeros", "g_idx"):
                continue
            packed = {"U8": 2, "I32": 8}.get(place.dtype, 1)
            total += packed * math.prod(place.shape)
    return total


def belongs(tensor: str, facts: ModelFacts, blocks: range) -> bool:
    """Whether a tensor is needed for some blocks. A superfluous one beside a block's own counts with them."""
    if tensor.startswith("model.layers."):
        number = tensor.split(".", 3)[2]
        return number.isascii() and number.isdecimal() and len(number) < 10 and int(number) in blocks
    if tensor == EMBEDDING and blocks.start == 0:
        return True
    return blocks.stop == facts.blocks and tensor in (NORM, EMBEDDING if facts.tied else HEAD)


def tensor_places(directory: Path, names: Iterable[str]) -> dict[str, TensorPlace]:
    """Find tensors by name, opening no other shards than theirs.

    Raises:
        ModelError: a tensor, or the shard that should hold it, is missing or cut short.
    """
    single = directory / SINGLE_FILE
    shards = dict.fromkeys(names, single) if single.is_file() else _index(directory)
    headers: dict[Path, dict[str, TensorPlace]] = {}
    places = {}
    for name in sorted(names):
        if (shard := shards.get(name)) is None:
            raise _missing_tensor(directory / INDEX_FILE, name)
        if shard not in headers:
            headers[shard] = read_header(shard)
        if name not in headers[shard]:
            raise _missing_tensor(shard, name)
        places[name] = headers[shard][name]
    return places


def read_header(path: Path) -> dict[str, TensorPlace]:
    """The tensors of a safetensors file, once its header and its length agree.

    The format: 8 bytes little-endian header length, a JSON header, then the tensors' bytes, which end the file.

    Raises:
        ModelError: the file is missing, cut short, or no safetensors file.
    """
    if not path.is_file():
        raise ModelError(f"the model is half-downloaded: {path.name} is missing", hint=DOWNLOAD_AGAIN)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise _cut_short(path)
            header = file.read(length)
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        entries = {name: entry for name, entry in parse_json(header).items() if name != "__metadata__"}
        places = {name: _place(path, entry, 8 + length) for name, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
        raise ModelError(f"{path.name} is not a safetensors file", hint=DOWNLOAD_AGAIN) from None
    if size != 8 + length + end:
        raise _cut_short(path)
    return places


def _place(path: Path, entry: Any, data: int) -> TensorPlace:
    begin, end = map(_size, entry["data_offsets"])
    shape = tuple(map(_size, entry["shape"]))
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError("more dimensions than a tensor has")
    if not 0 <= begin <= end or math.prod(shape) > max(1, 8 * (end - begin)):
        raise ValueError("offsets that do not fit the shape")
    return TensorPlace(path, str(entry["dtype"]), shape, data + begin, end - begin)


def _size(value: Any) -> int:
    """A whole number that a file's size can hold: longer ones take for ever to multiply."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("a size that is none")
    return value


def _index(directory: Path) -> dict[str, Path]:
    path = directory / INDEX_FILE
    if not path.is_file():
        raise ModelError(
            f"the model is half-downloaded: {SINGLE_FILE} is missing",
            hint=f"{directory} holds neither {SINGLE_FILE} nor {INDEX_FILE}; " + DOWNLOAD_AGAIN,
        )
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{INDEX_FILE} has no weight map", hint=DOWNLOAD_AGAIN)
    for name in weight_map.values():
        # An index comes from the same stranger as the weights: it may name files of this directory only.
        sound = isinstance(name, str) and len(name) <= MAX_NAME and Path(name).name == name and name.isprintable()
        if not sound or not name.endswith(".safetensors"):
            raise ModelError(f"{INDEX_FILE} names {name!r}, which is no safetensors file", hint=DOWNLOAD_AGAIN)
    return {tensor: directory / name for tensor, name in weight_map.items()}


def _missing_tensor(path: Path, name: str) -> ModelError:
    return ModelError(f"the model is incomplete: {path.name} lacks {name}", hint=DOWNLOAD_AGAIN)


def _cut_short(path: Path) -> ModelError:
    return ModelError(f"the model is half-downloaded: {path.name} is cut short", hint=DOWNLOAD_AGAIN)
