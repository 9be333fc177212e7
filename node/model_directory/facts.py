"""A Hugging Face model directory as a node, a client and the command line see it: facts, files, and what is missing.

It reads JSON and safetensors headers and hashes files; it needs no torch and runs nothing that the directory holds.
Only safetensors weights are known here: a pickle is never opened.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.errors import ModelError
from protocol.ids import ModelFile, ModelManifest

__all__ = [
    "ARCHITECTURES",
    "PRECISIONS",
    "ModelFacts",
    "TensorPlace",
    "load_config",
    "model_facts",
    "model_manifest",
    "read_header",
    "tensor_places",
    "weight_files",
]

ARCHITECTURES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
"""`model_type` of the supported models, and the prefix of their class names."""

PRECISIONS = ("fp32", "bf16")
"""Number formats that a model can be served in."""

STATIC_ROPE = ("default", "linear", "llama3", "yarn")
"""Position embeddings that depend on the position alone. Others change with the longest sequence at hand, so that a
session's tokens would depend on who shares its batch."""

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
TEXT_FILES = ("chat_template.jinja", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
MAX_JSON_BYTES = 64 * 1024 * 1024
MAX_HEADER_BYTES = 100 * 1024 * 1024  # the safetensors format's own bound
MAX_NAME_BYTES = 96

_DOWNLOAD_AGAIN = "download the model again; only complete Hugging Face directories with safetensors weights are read"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a model's configuration says about it, checked."""

    architecture: str
    """Class name of the causal language model, such as ``LlamaForCausalLM``."""
    model_type: str
    """Key of `ARCHITECTURES`."""
    name: str
    """For people; follows from the files alone, so that every holder of a model calls it the same."""
    blocks: int
    """Transformer blocks in the whole model."""
    hidden_size: int
    """Width of the activations between blocks."""
    vocabulary: int
    """Token ids are below this."""
    max_context: int
    """Positions that the model can attend to."""
    stop_tokens: tuple[int, ...]
    """Token ids that end an answer, ascending."""
    tied: bool
    """Whether the head is the embedding, transposed."""


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where a tensor lies, and what its safetensors header says of it."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


def model_facts(directory: Path) -> ModelFacts:
    """Read and check a model's configuration. Raises ModelError."""
    config = load_config(directory)
    model_type = _check_architecture(config)
    blocks = _positive(config, "num_hidden_layers")
    hidden_size = _positive(config, "hidden_size")
    return ModelFacts(
        architecture=f"{ARCHITECTURES[model_type]}ForCausalLM",
        model_type=model_type,
        name=_name(config, f"{model_type}-{blocks}x{hidden_size}"),
        blocks=blocks,
        hidden_size=hidden_size,
        vocabulary=_positive(config, "vocab_size"),
        max_context=_positive(config, "max_position_embeddings"),
        stop_tokens=_stop_tokens(directory, config),
        tied=config.get("tie_word_embeddings") is True,
    )


def model_manifest(directory: Path, *, precision: str = "fp32") -> ModelManifest:
    """The model's facts and the hashes of all files that fix what it computes; its `root` is what is sold.

    Reads every weight file once. Raises ModelError, also where a weight file is missing or cut short.
    """
    if precision not in PRECISIONS:
        raise ModelError(f"unknown precision {precision!r}", hint=f"use one of {', '.join(PRECISIONS)}")
    facts = model_facts(directory)
    weights = weight_files(directory)
    for path in weights:
        read_header(path)
    names = {name for name in TEXT_FILES if (directory / name).is_file()} | {path.name for path in weights}
    if (directory / SINGLE_FILE) not in weights:
        names.add(INDEX_FILE)
    if len(names) > 256:
        raise ModelError(f"{directory} has {len(names)} files", hint="a model of up to 256 files can be served")
    return ModelManifest(
        name=facts.name,
        precision=precision,
        blocks=facts.blocks,
        hidden_size=facts.hidden_size,
        vocabulary=facts.vocabulary,
        max_context=facts.max_context,
        stop_tokens=facts.stop_tokens,
        files=tuple(_hash_file(directory / name) for name in sorted(names)),
    )


def load_config(directory: Path) -> dict[str, Any]:
    """``config.json``. Raises ModelError when the directory or the file is missing or is not what it should be."""
    if not directory.is_dir():
        raise ModelError(f"there is no model directory {directory}", hint="check the path given to --model")
    path = directory / "config.json"
    if not path.is_file():
        raise ModelError(
            f"{directory} holds no config.json", hint="point --model at a Hugging Face model directory with config.json"
        )
    return _read_json(path)


def weight_files(directory: Path) -> tuple[Path, ...]:
    """The safetensors files of a model, whether or not all of them are there yet, in order of name."""
    if (directory / SINGLE_FILE).is_file():
        return (directory / SINGLE_FILE,)
    return tuple(sorted(set(_index(directory).values())))


def tensor_places(directory: Path, names: set[str]) -> dict[str, TensorPlace]:
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
        raise ModelError(f"the model is half-downloaded: {path.name} is missing", hint=_DOWNLOAD_AGAIN)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
            raise _cut_short(path)
        header = file.read(length)
    try:
        entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        places = {n: TensorPlace(path, str(e["dtype"]), tuple(map(int, e["shape"]))) for n, e in entries.items()}
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise ModelError(f"{path.name} is not a safetensors file", hint=_DOWNLOAD_AGAIN) from None
    if size != 8 + length + end:
        raise _cut_short(path)
    return places


def _check_architecture(config: dict[str, Any]) -> str:
    model_type = config.get("model_type")
    named = config.get("architectures") or [f"{ARCHITECTURES.get(str(model_type))}ForCausalLM"]
    supported = f"supported are {', '.join(f'{prefix}ForCausalLM' for prefix in ARCHITECTURES.values())}"
    if (
        not isinstance(model_type, str)
        or model_type not in ARCHITECTURES
        or named != [f"{ARCHITECTURES[model_type]}ForCausalLM"]
    ):
        what = named[0] if isinstance(named, list) and config.get("architectures") else f"model type {model_type!r}"
        raise ModelError(f"the model's architecture is not supported: {what}", hint=supported)
    if config.get("quantization_config") is not None:
        raise ModelError("the model's weights are quantized", hint="use the unquantized checkpoint of this model")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope_type = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else None
    if rope_type not in STATIC_ROPE:
        hint = f"supported are {', '.join(STATIC_ROPE)}"
        raise ModelError(f"the model's position embedding is not supported: {rope_type}", hint=hint)
    return model_type


def _positive(config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise ModelError(f"config.json says {key} = {value!r}", hint=f"{key} must be a positive integer")
    return value


def _name(config: dict[str, Any], default: str) -> str:
    # Where a checkpoint names itself that name is used, unless it is the path of someone's disk.
    name = config.get("_name_or_path")
    if isinstance(name, str) and name and name[0] not in "./~\\" and len(name.encode()) <= MAX_NAME_BYTES:
        return name
    return default


def _stop_tokens(directory: Path, config: dict[str, Any]) -> tuple[int, ...]:
    path = directory / "generation_config.json"
    generation = _read_json(path) if path.is_file() else {}
    # As in Hugging Face's generation, the generation configuration wins over the model's.
    value = generation.get("eos_token_id", config.get("eos_token_id"))
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if len(ids) > 16 or not all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i < 2**31 for i in ids):
        raise ModelError(f"eos_token_id = {value!r}", hint="it must be a token id, or a list of at most 16")
    return tuple(sorted(set(ids)))


def _index(directory: Path) -> dict[str, Path]:
    path = directory / INDEX_FILE
    if not path.is_file():
        raise ModelError(
            f"the model is half-downloaded: {SINGLE_FILE} is missing",
            hint=f"{directory} holds neither {SINGLE_FILE} nor {INDEX_FILE}; " + _DOWNLOAD_AGAIN,
        )
    weight_map = _read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{INDEX_FILE} has no weight map", hint=_DOWNLOAD_AGAIN)
    for name in weight_map.values():
        # An index comes from the same stranger as the weights: it may name files of this directory only.
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{INDEX_FILE} names {name!r}, which is no safetensors file", hint=_DOWNLOAD_AGAIN)
    return {tensor: directory / name for tensor, name in weight_map.items()}


def _read_json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ModelError(f"{path.name} is {path.stat().st_size} bytes long", hint=_DOWNLOAD_AGAIN)
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        raise ModelError(f"{path.name} is not valid JSON", hint=_DOWNLOAD_AGAIN) from None
    if not isinstance(value, dict):
        raise ModelError(f"{path.name} is not a JSON object", hint=_DOWNLOAD_AGAIN)
    return value


def _hash_file(path: Path) -> ModelFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        return ModelFile(name=path.name, size=file.tell(), sha256=digest)


def _missing_tensor(path: Path, name: str) -> ModelError:
    return ModelError(f"the model is incomplete: {path.name} lacks {name}", hint=_DOWNLOAD_AGAIN)


def _cut_short(path: Path) -> ModelError:
    return ModelError(f"the model is half-downloaded: {path.name} is cut short", hint=_DOWNLOAD_AGAIN)
