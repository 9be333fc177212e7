"""Making an int8 or int4 checkpoint of one in floating point, in the same shards (`joule model quantize`).

What comes out follows from what goes in by docs/spec/quantization.md alone, to the byte: whoever quantizes the same
model has the same files, and so the same model root.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from node.model_directory.facts import load_config, model_facts
from node.model_directory.manifest import CHUNKS_FILE, CONFIG_FILE, MANIFEST_FILE, TEXT_FILES
from node.model_directory.weights import INDEX_FILE, SINGLE_FILE, TensorPlace, read_header, weight_files
from protocol.errors import InvalidError, ModelError
from protocol.models.quantizer import GROUP, Weight, to_int4, to_int8

__all__ = ["quantize_model"]

PRODUCT = "_proj.weight"
MAX_PRODUCT_BYTES = 1 << 33


@dataclass(frozen=True, slots=True)
class _Out:
    """A tensor of the new checkpoint."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int


def quantize_model(directory: Path, target: Path, bits: int) -> int:
    """Write a checkpoint with 8 or 4 bits a weight into a new folder; the bytes of its weights.

    Raises ModelError: no such model, weights that are quantized already or do not fit groups, a folder that is there.
    """
    facts = model_facts(directory)
    if facts.quantization is not None:
        hint = "begin with the checkpoint that they are made of"
        raise ModelError("the model's weights are quantized already", hint=hint)
    if facts.model_type == "gpt_oss":
        raise ModelError("weights of a gpt_oss model are not quantized here", hint="they are published in four bits")
    try:
        target.mkdir(parents=True)
    except OSError as error:
        raise ModelError(
            f"cannot make {target}: {error.strerror}", hint="name a folder that is not there yet"
        ) from None
    try:
        total = 0
        places: dict[str, str] = {}
        for path in weight_files(directory):
            outs = _convert(path, target / path.name, bits)
            places |= {out.name: path.name for out in outs}
            total += sum(out.size for out in outs)
        if not (directory / SINGLE_FILE).is_file():
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
            (target / INDEX_FILE).write_text(json.dumps(index, indent=1) + "\n")
        _copy_texts(directory, target, bits)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise ModelError(f"the model cannot be written: {error.strerror}", hint="is the disk full?") from None
    except (ModelError, InvalidError) as error:
        shutil.rmtree(target, ignore_errors=True)
        raise ModelError(f"the model cannot be quantized: {error.message}", hint=error.hint) from None
    return total


def _copy_texts(directory: Path, target: Path, bits: int) -> None:
    config = load_config(directory)
    group = -1 if bits == 8 else GROUP
    config["quantization_config"] = {"quant_method": "joulemesh", "bits": bits, "group_size": group}
    config["_name_or_path"] = f"{model_facts(directory).name}-int{bits}"
    (target / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for name in TEXT_FILES:
        if name != CONFIG_FILE and (directory / name).is_file():
            shutil.copyfile(directory / name, target / name)
    assert not (target / MANIFEST_FILE).exists()
    assert not (target / CHUNKS_FILE).exists()


def _convert(path: Path, target: Path, bits: int) -> list[_Out]:
    """One shard: tensors in order of name, each scale after its weight."""
    header = sorted(read_header(path).items())
    outs = [out for name, place in header for out in _planned(name, place, bits)]
    entries: dict[str, Any] = {}
    at = 0
    for out in outs:
        entries[out.name] = {"dtype": out.dtype, "shape": list(out.shape), "data_offsets": [at, at + out.size]}
        at += out.size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("rb") as source, target.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, place in header:
            for data in _converted(source, name, place, bits):
                file.write(data)
    return outs


def _is_quantized(name: str, place: TensorPlace) -> bool:
    return name.startswith("model.layers.") and name.endswith(PRODUCT) and len(place.shape) == 2


def _planned(name: str, place: TensorPlace, bits: int) -> Iterator[_Out]:
    if not _is_quantized(name, place):
        yield _Out(name, place.dtype, place.shape, place.size)
        return
    outputs, inputs = place.shape
    if place.dtype not in ("F32", "F16", "BF16") or place.size > MAX_PRODUCT_BYTES:
        raise ModelError(f"{name} is stored as {place.dtype}", hint="use a checkpoint in F32, F16 or BF16")
    scale = f"{name.removesuffix('.weight')}.scale"
    if bits == 8:
        yield _Out(name, "I8", (outputs, inputs), outputs * inputs)
        yield _Out(scale, "F32", (outputs,), 4 * outputs)
    else:
        if inputs % GROUP:
            raise ModelError(f"{name} has {inputs} inputs, no whole number of groups of {GROUP}", hint="use 8 bits")
        yield _Out(name, "U8", (outputs, inputs // 2), outputs * inputs // 2)
        yield _Out(scale, "BF16", (outputs, inputs // GROUP), 2 * outputs * (inputs // GROUP))


def _converted(source: BinaryIO, name: str, place: TensorPlace, bits: int) -> Iterator[bytes]:
    source.seek(place.begin)
    data = source.read(place.size)
    if len(data) != place.size:
        raise ModelError(f"{name} is cut short", hint="download the model again")
    if not _is_quantized(name, place):
        yield data
        return
    try:
        numbers, scales = (to_int8 if bits == 8 else to_int4)(_in_fp32(data, place))
    except InvalidError as error:
        raise ModelError(f"{name}: {error.message}", hint="download the model again") from None
    yield np.ascontiguousarray(numbers).tobytes()
    whole = np.ascontiguousarray(scales, dtype="<f4")
    yield (whole if bits == 8 else (whole.view("<u4") >> 16).astype("<u2")).tobytes()


def _in_fp32(data: bytes, place: TensorPlace) -> Weight:
    if place.dtype == "BF16":
        values = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    else:
        values = np.frombuffer(data, "<f4" if place.dtype == "F32" else "<f2").astype(np.float32)
    return values.reshape(place.shape)
