"""A span's weights from disk: only its own tensors are read, and memory for no others is ever set aside.

Layers are built on torch's meta device, which holds shapes without memory, and then take over the tensors read. No
code from a model directory is run and no pickle is opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import nn

from node.engine.attention import ATTENTION, Backend, CpuBackend, register
from node.engine.span import DTYPES, LayerShape, Span
from node.model_directory import (
    ARCHITECTURES,
    EMBEDDING,
    HEAD,
    NORM,
    ModelFacts,
    load_config,
    model_facts,
    tensor_places,
)
from protocol.errors import ModelError

__all__ = ["load_layers", "load_span"]

STORED_DTYPES = ("F32", "F16", "BF16")

# What transformers' configuration and layer classes raise for values that make no model.
_BAD_CONFIGURATION = (
    StrictDataclassError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    ZeroDivisionError,
    RuntimeError,
)


def load_span(directory: Path, start: int, end: int, *, dtype: str = "fp32", backend: Backend | None = None) -> Span:
    """The blocks ``[start, end)`` of a model; with the embedding when they are the first, norm and head when the last.

    Args:
        backend: what computes; this machine's processor where None.

    Raises:
        ModelError: no such directory, architecture, block or precision; a file or tensor missing or damaged.
    """
    facts = model_facts(directory)
    if not 0 <= start < end <= facts.blocks:
        raise ModelError(
            f"the model has no blocks {start}:{end}", hint=f"choose a span within 0:{facts.blocks}, such as 0:1"
        )
    return _load(directory, facts, range(start, end), dtype, backend, first=start == 0, last=end == facts.blocks)


def load_layers(directory: Path, layers: Sequence[int], *, dtype: str = "fp32", backend: Backend | None = None) -> Span:
    """A smaller model out of some blocks of one, in this order, with its embedding and its head.

    Raises ModelError, as `load_span` does.
    """
    facts = model_facts(directory)
    if not layers or list(layers) != sorted(set(layers)) or not 0 <= layers[0] <= layers[-1] < facts.blocks:
        raise ModelError(
            f"the model has no layers {','.join(map(str, layers))} in this order",
            hint=f"name some of its layers 0 to {facts.blocks - 1}, ascending, such as 0,{facts.blocks - 1}",
        )
    return _load(directory, facts, layers, dtype, backend, first=True, last=True)


def _load(
    directory: Path,
    facts: ModelFacts,
    blocks: Sequence[int],
    dtype: str,
    backend: Backend | None,
    *,
    first: bool,
    last: bool,
) -> Span:
    """Some blocks of a model, one after the other."""
    if dtype not in DTYPES:
        raise ModelError(f"unknown precision {dtype!r}", hint=f"use one of {', '.join(DTYPES)}")
    computes = CpuBackend() if backend is None else backend
    config, layers, norm, rotary = _build(facts, load_config(directory), blocks)
    read = _read(directory, _wanted(facts, blocks, layers, norm, first=first, last=last), DTYPES[dtype])
    tensors = {name: computes.take_in(tensor) for name, tensor in read.items()}
    for block, layer in zip(blocks, layers, strict=True):
        _fill(layer, f"model.layers.{block}.", tensors)
    if last:
        _fill(norm, NORM.removesuffix("weight"), {NORM: tensors[NORM].float()})
    through = range(blocks[0], blocks[-1] + 1)
    if first and last:  # a model of its own, whose blocks are counted from 0
        facts, through = replace(facts, blocks=len(blocks)), range(len(blocks))
        for number, layer in enumerate(layers):
            layer.self_attn.layer_idx = number  # type: ignore[union-attr]
    return Span(
        facts,
        through,
        layers,
        rotary,
        shape=LayerShape(config),
        dtype=DTYPES[dtype],
        backend=computes,
        embedding=tensors[EMBEDDING] if first else None,
        norm=norm if last else None,
        head=tensors[EMBEDDING if facts.tied else HEAD].float() if last else None,
    )


def _build(
    facts: ModelFacts, raw: dict[str, Any], blocks: Sequence[int]
) -> tuple[Any, list[nn.Module], nn.Module, nn.Module]:
    """Configuration, layers and final norm without memory, and the position embedding, which has no weights."""
    register()
    prefix = ARCHITECTURES[facts.model_type]
    # The one modelling module is imported by name: the Auto classes would be slower and know many more.
    package = f"transformers.models.{facts.model_type}"
    configuration = importlib.import_module(f"{package}.configuration_{facts.model_type}")
    modeling = importlib.import_module(f"{package}.modeling_{facts.model_type}")
    try:
        config = getattr(configuration, f"{prefix}Config").from_dict(raw)
        config._attn_implementation = ATTENTION
        with torch.device("meta"):
            layers = [getattr(modeling, f"{prefix}DecoderLayer")(config, block) for block in blocks]
            norm = getattr(modeling, f"{prefix}RMSNorm")(config.hidden_size, eps=config.rms_norm_eps)
        rotary = getattr(modeling, f"{prefix}RotaryEmbedding")(config=config)
    except _BAD_CONFIGURATION as error:
        why = " ".join(str(error).split())
        raise ModelError(
            f"config.json does not describe a {prefix} model: {why}", hint="download config.json again"
        ) from error
    for module in (*layers, norm, rotary):
        module.eval()
    return config, layers, norm, rotary


def _wanted(
    facts: ModelFacts, blocks: Sequence[int], layers: list[nn.Module], norm: nn.Module, *, first: bool, last: bool
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a span consists of."""
    wanted = {
        f"model.layers.{block}.{name}": tuple(tensor.shape)
        for block, layer in zip(blocks, layers, strict=True)
        for name, tensor in layer.state_dict().items()
    }
    table = (facts.vocabulary, facts.hidden_size)
    if first:
        wanted[EMBEDDING] = table
    if last:
        wanted[NORM] = tuple(norm.state_dict()["weight"].shape)
        wanted[EMBEDDING if facts.tied else HEAD] = table
    return wanted


def _read(directory: Path, wanted: dict[str, tuple[int, ...]], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    places = tensor_places(directory, set(wanted))
    for name, place in places.items():
        if place.shape != wanted[name]:
            raise ModelError(
                f"{name} has shape {list(place.shape)}, config.json asks for {list(wanted[name])}",
                hint="config.json and the weights are of different models: download both again",
            )
        if place.dtype not in STORED_DTYPES:
            raise ModelError(f"{name} is stored as {place.dtype}", hint=f"supported are {', '.join(STORED_DTYPES)}")
    tensors = {}
    for path in sorted({place.file for place in places.values()}):
        try:
            with safe_open(path, framework="pt") as file:
                for name in (name for name, place in places.items() if place.file == path):
                    # Copied: a file that is changed under a running node must not change what it computes.
                    tensors[name] = file.get_tensor(name).to(dtype, copy=True)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path.name} cannot be read: {error}", hint="download the model again") from error
    return tensors


def _fill(module: nn.Module, prefix: str, tensors: dict[str, torch.Tensor]) -> None:
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    module.load_state_dict(own, strict=True, assign=True)
    module.requires_grad_(False)
