"""Putting a LoRA adapter beside the weights that it was trained on, as a product of its own (`joule model adapt`).

The new folder has the base's files as they are (links, where the disk can) and one more: the adapter's matrices, under
the names of the products that they change. So its manifest, and its root, say which base and which adapter it is; it
costs hardly any room beside the base; and each block comes with its own part of the adapter.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from node.model_directory.facts import ADAPTER, load_config, model_facts
from node.model_directory.files import read_json
from node.model_directory.manifest import CONFIG_FILE, TEXT_FILES
from node.model_directory.weights import (
    INDEX_FILE,
    SINGLE_FILE,
    TensorPlace,
    read_header,
    tensor_places,
    weight_files,
)
from protocol.errors import ModelError

__all__ = ["ADAPTER_FILE", "adapt_model"]

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""As PEFT saves them."""
ADAPTER_FILE = "adapter.safetensors"
BASE_FILE = "base.safetensors"
"""What a base of one file is called: a model with an index has no `SINGLE_FILE`."""
MAX_CONFIG_BYTES = 1 << 20
MAX_RANK = 1024
_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_TENSOR = re.compile(r"base_model\.model\.(model\.layers\.\d{1,9}\..+)\.lora_([AB])(?:\.default)?\.weight")
_KNOWN = {"bias": ("none", None), "use_dora": (False, None), "fan_in_fan_out": (False, None)}
"""What else would change how a product is computed."""
_EMPTY = ("modules_to_save", "rank_pattern", "alpha_pattern", "layer_replication", "lora_bias", "target_parameters")

Matrix = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class _Low:
    """What is added to a product: `up` times `down`, of a few dimensions between them."""

    down: TensorPlace
    up: TensorPlace

    @property
    def rank(self) -> int:
        return self.down.shape[0]


def adapt_model(directory: Path, adapter: Path, target: Path, *, name: str | None = None) -> int:
    """Write the model in `directory` with an adapter into a new folder; the bytes of the adapter's weights there.

    Args:
        adapter: a folder as PEFT saves it.
        name: what the result is called besides the base's name; the adapter's folder's where None.

    Raises ModelError: no such model or adapter, one of another kind or for another model, a folder that is there.
    """
    facts, config = model_facts(directory), load_config(directory)
    if ADAPTER in config:
        raise ModelError("the model has an adapter already", hint="begin with the base")
    if facts.model_type in ("phi3", "gpt_oss"):
        raise ModelError(f"adapters of {facts.model_type} models are not known", hint="merge it into the weights")
    scale_of, found = _scaling(adapter), _modules(adapter)
    _require_fitting(directory, found)
    try:
        target.mkdir(parents=True)
    except OSError as error:
        raise ModelError(
            f"cannot make {target}: {error.strerror}", hint="name a folder that is not there yet"
        ) from None
    try:
        index = {each: file for path in weight_files(directory) for each, file in _linked(path, target)}
        size = _write(target / ADAPTER_FILE, found, scale_of)
        index |= {f"{module}.lora_{part}": ADAPTER_FILE for module in found for part in "AB"}
        text = {"metadata": {}, "weight_map": dict(sorted(index.items()))}
        (target / INDEX_FILE).write_text(json.dumps(text, indent=1) + "\n")
        config[ADAPTER] = {module: low.rank for module, low in sorted(found.items())}
        config["_name_or_path"] = f"{facts.name}+{adapter.resolve().name if name is None else name}"
        (target / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        for each in TEXT_FILES:
            if each != CONFIG_FILE and (directory / each).is_file():
                shutil.copyfile(directory / each, target / each)
        model_facts(target)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise ModelError(f"the model cannot be written: {error.strerror}", hint="is the disk full?") from None
    except ModelError:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return size


class _Scaling:
    """What an adapter's product is multiplied by, by its rank."""

    def __init__(self, alpha: float, *, by_root: bool) -> None:
        self._alpha, self._by_root = alpha, by_root

    def of(self, rank: int) -> np.float32:
        return np.float32(self._alpha / (math.sqrt(rank) if self._by_root else rank))


def _scaling(adapter: Path) -> _Scaling:
    path = adapter / ADAPTER_CONFIG
    if not path.is_file():
        raise ModelError(f"{adapter} holds no {ADAPTER_CONFIG}", hint="name a folder as PEFT saves an adapter")
    said = read_json(path, MAX_CONFIG_BYTES)
    alpha = said.get("lora_alpha")
    odd = [each for each, known in _KNOWN.items() if said.get(each) not in known]
    odd += [each for each in _EMPTY if said.get(each)]
    if said.get("peft_type") != "LORA" or odd:
        what = odd[0] if odd else f"peft_type {str(said.get('peft_type'))[:40]!r}"
        raise ModelError(f"the adapter is of a kind that is not known: {what}", hint="merge it into the weights")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha < 1e6:
        raise ModelError(f"{ADAPTER_CONFIG} says lora_alpha = {str(alpha)[:40]}", hint="download the adapter again")
    return _Scaling(float(alpha), by_root=said.get("use_rslora") is True)


def _modules(adapter: Path) -> dict[str, _Low]:
    """By the name of the product that each changes."""
    parts: dict[str, dict[str, TensorPlace]] = {}
    for name, place in read_header(adapter / ADAPTER_WEIGHTS).items():
        match = _TENSOR.fullmatch(name)
        sound = place.size == _BYTES.get(place.dtype, 0) * math.prod(place.shape)
        if match is None or len(place.shape) != 2 or not sound:
            raise ModelError(
                f"the adapter has a tensor that is not known: {name[:80]}", hint="only products of blocks are adapted"
            )
        parts.setdefault(match[1], {})[match[2]] = place
    found = {}
    for module, both in parts.items():
        if (
            set(both) != {"A", "B"}
            or both["A"].shape[0] != both["B"].shape[1]
            or not 0 < both["A"].shape[0] <= MAX_RANK
        ):
            raise ModelError(f"the adapter of {module[:80]} is incomplete", hint="download the adapter again")
        found[module] = _Low(both["A"], both["B"])
    if not found:
        raise ModelError("the adapter changes nothing", hint="download it again")
    return found


def _require_fitting(directory: Path, found: Mapping[str, _Low]) -> None:
    try:
        places = tensor_places(directory, [f"{module}.weight" for module in found])
    except ModelError as error:
        raise ModelError(f"the adapter is not for this model: {error.message}", hint="give its base") from None
    for module, low in found.items():
        place = places[f"{module}.weight"]
        outputs, inputs = place.shape if len(place.shape) == 2 else (0, 0)
        inputs *= 2 if place.dtype == "U8" else 1  # two numbers in a byte
        if (low.up.shape[0], low.down.shape[1]) != (outputs, inputs):
            raise ModelError(f"the adapter is not for this model: {module} has another shape", hint="give its base")


def _linked(path: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Put a file of the base into the folder; its tensors, and its name there."""
    name = BASE_FILE if path.name == SINGLE_FILE else path.name
    if name == ADAPTER_FILE:
        raise ModelError(f"the model has a file of the name {ADAPTER_FILE}", hint="rename it, and in the index")
    header = read_header(path)
    try:
        (target / name).hardlink_to(path.resolve())
    except OSError:
        shutil.copyfile(path, target / name)
    yield from ((tensor, name) for tensor in header)


def _write(path: Path, found: Mapping[str, _Low], scaling: _Scaling) -> int:
    """Both matrices of each product, in order of name, in fp32; what is added is scaled already."""
    tensors = [
        (f"{module}.lora_{part}", place, np.float32(1) if part == "A" else scaling.of(low.rank))
        for module, low in sorted(found.items())
        for part, place in (("A", low.down), ("B", low.up))
    ]
    entries: dict[str, Any] = {}
    at = 0
    for name, place, _ in tensors:
        size = 4 * math.prod(place.shape)
        entries[name] = {"dtype": "F32", "shape": list(place.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, place, scale in tensors:
            matrix = _in_fp32(place) * scale
            if not np.isfinite(matrix).all():
                raise ModelError(f"{name} holds a number that is not finite", hint="download the adapter again")
            file.write(matrix.astype("<f4").tobytes())
    return at


def _in_fp32(place: TensorPlace) -> Matrix:
    with place.file.open("rb") as file:
        file.seek(place.begin)
        data = file.read(place.size)
    if place.dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, "<f4" if place.dtype == "F32" else "<f2").astype(np.float32)
