"""A smaller model out of some blocks of one, as a checkpoint of its own (`joule model prune`)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from node.model_directory.facts import ADAPTER, load_config, model_facts
from node.model_directory.manifest import CONFIG_FILE, TEXT_FILES
from node.model_directory.weights import SINGLE_FILE, TensorPlace, read_header, weight_files
from protocol.errors import ModelError

__all__ = ["prune_model"]

PIECE = 1 << 24
LAYERS = "model.layers."
BY_NUMBER = ("max_window_layers", "mlp_only_layers", "decoder_sparse_step", "sliding_window_pattern")
"""What a configuration says of blocks by their number: it would mean others."""


def prune_model(directory: Path, target: Path, layers: Sequence[int]) -> int:
    """Write a model of these blocks, in this order, with the embedding and the head, into a new folder; its bytes.

    Raises ModelError: no such model or blocks, blocks that differ by their number, a folder that is there.
    """
    facts, config = model_facts(directory), load_config(directory)
    if not layers or list(layers) != sorted(set(layers)) or not 0 <= layers[0] <= layers[-1] < facts.blocks:
        hint = f"name some of the blocks 0 to {facts.blocks - 1}, ascending"
        raise ModelError(f"the model has no blocks {','.join(map(str, layers))} in this order", hint=hint)
    changed = _configuration(config, layers, facts.name)
    numbers = {old: new for new, old in enumerate(layers)}
    found: dict[str, TensorPlace] = {}
    for path in weight_files(directory):
        for name, place in read_header(path).items():
            kept = _renamed(name, numbers)
            if kept is not None:
                found[kept] = place
    try:
        target.mkdir(parents=True)
        size = _write(target / SINGLE_FILE, found)
        (target / CONFIG_FILE).write_text(json.dumps(changed, indent=2, sort_keys=True) + "\n")
        for name in TEXT_FILES:
            if name != CONFIG_FILE and (directory / name).is_file():
                shutil.copyfile(directory / name, target / name)
    except OSError as error:
        raise ModelError(
            f"cannot write {target}: {error.strerror}", hint="name a folder that is not there yet"
        ) from None
    return size


def _configuration(config: dict[str, Any], layers: Sequence[int], name: str) -> dict[str, Any]:
    kinds = config.get("layer_types")
    by_number = [each for each in BY_NUMBER if config.get(each) and not (kinds and "window" in each)]
    if by_number and (config.get("use_sliding_window") or "max_window_layers" not in by_number):
        raise ModelError(
            f"config.json says {by_number[0]}, which tells blocks apart by their number",
            hint="only models whose blocks are alike, or listed in layer_types, can be pruned",
        )
    own = f"{name}-of-{len(layers)}"
    changed = config | {"num_hidden_layers": len(layers), "_name_or_path": own}
    if isinstance(kinds, list):
        changed["layer_types"] = [kinds[layer] for layer in layers]
    ranks = config.get(ADAPTER)
    if isinstance(ranks, dict):
        numbers = {old: new for new, old in enumerate(layers)}
        renamed = {_renamed(module, numbers): rank for module, rank in ranks.items()}
        changed[ADAPTER] = {module: rank for module, rank in renamed.items() if module is not None}
    return changed


def _renamed(name: str, numbers: dict[int, int]) -> str | None:
    if not name.startswith(LAYERS):
        return name
    number, _, rest = name.removeprefix(LAYERS).partition(".")
    if not (number.isascii() and number.isdecimal() and len(number) < 10 and int(number) in numbers):
        return None
    return f"{LAYERS}{numbers[int(number)]}.{rest}"


def _write(path: Path, tensors: dict[str, TensorPlace]) -> int:
    entries: dict[str, Any] = {}
    at = 0
    for name, place in sorted(tensors.items()):
        entries[name] = {"dtype": place.dtype, "shape": list(place.shape), "data_offsets": [at, at + place.size]}
        at += place.size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, place in sorted(tensors.items()):
            with place.file.open("rb") as source:
                source.seek(place.begin)
                left = place.size
                while left:
                    piece = source.read(min(left, PIECE))
                    if not piece:
                        raise ModelError(f"{place.file.name} is cut short", hint="download the model again")
                    file.write(piece)
                    left -= len(piece)
    return at
