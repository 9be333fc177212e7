"""A span's weights from disk: only its own tensors are read, and memory for no others is ever set aside.

One block after the other is read and laid out, so that hardly more memory is needed than what stays. No code from a
model directory is run and no pickle is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open

from node.engine.adapted import Low
from node.engine.architecture import Architecture, architecture
from node.engine.attention import Backend, CpuBackend
from node.engine.block import Block, Norm
from node.engine.matrices import Matrix, Plain
from node.engine.span import DTYPES, Span
from node.engine.stored import Part, Read, Scaled, Storage, product_of, storage_of, with_adapter
from node.model_directory import (
    EMBEDDING,
    HEAD,
    NORM,
    ModelFacts,
    TensorPlace,
    load_config,
    model_facts,
    tensor_places,
)
from protocol.errors import ModelError

__all__ = ["load_layers", "load_span"]

T = TypeVar("T")


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
    config = load_config(directory)
    shape = architecture(facts, config)
    wanted = _wanted(facts, shape, blocks, first=first, last=last)
    whole = first and last  # a model of its own, whose blocks are counted from 0
    storage = with_adapter(storage_of(facts.model_type, facts.quantization, shape), config, wanted)
    with _Weights(directory, wanted, storage, DTYPES[dtype], computes) as weights:
        layers = [
            Block(
                shape, number if whole else block, _BlockWeights(weights, f"model.layers.{block}."), computes,
                window=shape.windows[block],
            )
            for number, block in enumerate(blocks)
        ]  # fmt: skip
        embedding = weights.take(EMBEDDING, as_stored=True) if first else None
        norm = Norm(weights.take(NORM).float() + (1 if shape.norms_from_one else 0), shape.epsilon) if last else None
        head = _head(facts, weights, embedding, computes) if last else None
    return Span(
        replace(facts, blocks=len(blocks)) if whole else facts,
        shape,
        layers,
        dtype=DTYPES[dtype],
        backend=computes,
        embedding=embedding,
        norm=norm,
        head=head,
    )


def _head(facts: ModelFacts, weights: _Weights, embedding: torch.Tensor | None, backend: Backend) -> Matrix:
    """In fp32 whatever the precision is. An embedding that lies in memory so is the head, too."""
    if not facts.tied:
        return backend.laid_out(weights.take(HEAD).float(), None)
    if embedding is not None and embedding.dtype is torch.float32:
        return Plain(embedding, None)
    return backend.laid_out((weights.take(EMBEDDING) if embedding is None else embedding).float(), None)


def _wanted(
    facts: ModelFacts, shape: Architecture, blocks: Sequence[int], *, first: bool, last: bool
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a span consists of."""
    wanted = {f"model.layers.{block}.{name}": size for block in blocks for name, size in shape.tensors(block)}
    table = (facts.vocabulary, facts.hidden_size)
    if first:
        wanted[EMBEDDING] = table
    if last:
        wanted[NORM] = (facts.hidden_size,)
        wanted[EMBEDDING if facts.tied else HEAD] = table
    return wanted


class _BlockWeights:
    """Those of one block."""

    def __init__(self, weights: _Weights, prefix: str) -> None:
        self._weights, self._prefix = weights, prefix

    def tensor(self, name: str) -> torch.Tensor:
        """See `BlockWeights`."""
        return self._weights.take(self._prefix + name)

    def product(self, name: str) -> Scaled:
        """See `BlockWeights`."""
        return self._weights.product(self._prefix + name)


class _Weights:
    """The tensors of a span, read one by one. A context: its files are open meanwhile.

    Raises:
        ModelError: one is missing, has another shape than config.json says, or cannot be read.
    """

    def __init__(
        self,
        directory: Path,
        wanted: Mapping[str, tuple[int, ...]],
        storage: Storage,
        dtype: torch.dtype,
        backend: Backend,
    ) -> None:
        self._wanted, self._storage = wanted, storage
        try:
            parts = {each: part for name, shape in wanted.items() for each, part in storage.parts(name, shape).items()}
        except ValueError as error:
            raise ModelError(f"the weights cannot be quantized so: {error}", hint="download the model again") from error
        self._places = tensor_places(directory, set(parts))
        for name, place in self._places.items():
            _check(name, place, parts[name])
        self._dtype = dtype
        self._backend = backend
        self._stack = ExitStack()
        self._files: dict[Path, Any] = {}

    def __enter__(self) -> _Weights:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def take(self, name: str, *, as_stored: bool = False) -> torch.Tensor:
        """One tensor. A copy: a file that is changed under a running node must not change what it computes.

        Args:
            as_stored: in the number format that it has in the file, where that is the smaller one.
        """
        tensor = self._made(name, self._storage.whole)
        narrow = as_stored and tensor.element_size() < self._dtype.itemsize
        return self._backend.take_in(tensor.to(tensor.dtype if narrow else self._dtype, copy=True))

    def product(self, name: str) -> Scaled:
        """One weight that rows are multiplied with; a copy, too."""
        numbers, factors, low = self._made(name, partial(product_of, self._storage))
        return Scaled(
            self._backend.take_in(numbers.to(self._dtype, copy=True)),
            None if factors is None else self._backend.take_in(factors),
            None if low is None else Low(*(self._backend.take_in(each.to(self._dtype, copy=True)) for each in low)),
        )

    def _made(self, name: str, make: Callable[[str, tuple[int, ...], Read], T]) -> T:
        try:
            return make(name, self._wanted[name], self._read)
        except ValueError as error:
            raise ModelError(f"{name} makes no sense: {error}", hint="download the model again") from error

    def _read(self, name: str) -> torch.Tensor:
        path = self._places[name].file
        try:
            if path not in self._files:
                self._files[path] = self._stack.enter_context(safe_open(path, framework="pt"))
            tensor: torch.Tensor = self._files[path].get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path.name} cannot be read: {error}", hint="download the model again") from error
        return tensor


def _check(name: str, place: TensorPlace, part: Part) -> None:
    if place.shape != part.shape:
        raise ModelError(
            f"{name} has shape {list(place.shape)}, config.json asks for {list(part.shape)}",
            hint="config.json and the weights are of different models: download both again",
        )
    if place.dtype not in part.dtypes:
        raise ModelError(f"{name} is stored as {place.dtype}", hint=f"supported are {', '.join(part.dtypes)}")
