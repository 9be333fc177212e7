"""How a checkpoint stores the tensors of a block: as they are, several in one, or as whole numbers with scales.

Quantized weights become fp32 when they are loaded, with a factor for each row where that is how they are stored, and
are laid out like any others: those of int8 and int4 fit sixteen bits (`halved`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch

from node.engine.adapted import Low
from node.engine.architecture import Architecture
from node.model_directory import ADAPTER, Quantization
from protocol.errors import ModelError
from protocol.models.quantizer import GROUP, from_int4, from_int8

__all__ = ["Part", "Read", "Scaled", "Storage", "product_of", "storage_of", "with_adapter"]

FLOATS = ("F32", "F16", "BF16")
FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""What four bits of MXFP4 stand for."""
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where number `i` of eight stands in a word, by AWQ's kernels."""

Read = Callable[[str], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor that has to be in the files."""

    shape: tuple[int, ...]
    dtypes: tuple[str, ...] = FLOATS
    """As safetensors calls them; any of these."""


class Scaled(NamedTuple):
    """A weight ``[out, in]``, each row of it to be multiplied by a factor where there are any, ``[out]``."""

    numbers: torch.Tensor
    factors: torch.Tensor | None
    low: Low | None = None
    """What an adapter adds."""


class Storage(Protocol):
    """Where a tensor of a model comes from."""

    def parts(self, name: str, shape: tuple[int, ...]) -> Mapping[str, Part]:
        """What has to be in the files for a tensor of this shape. Raises ValueError for a shape that cannot be."""

    def whole(self, name: str, shape: tuple[int, ...], read: Read) -> torch.Tensor:
        """The tensor, from its parts; a quantized one in fp32."""


class AsTheyAre:
    """Each tensor under its own name."""

    def parts(self, name: str, shape: tuple[int, ...]) -> Mapping[str, Part]:
        """See `Storage`."""
        return {name: Part(shape)}

    def whole(self, name: str, shape: tuple[int, ...], read: Read) -> torch.Tensor:
        """See `Storage`."""
        return read(name)


class Fused:
    """Queries, keys and values in one tensor, gate and up in another (Phi-3)."""

    def __init__(self, shape: Architecture) -> None:
        queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self._slices = {
            "self_attn.q_proj": ("self_attn.qkv_proj", 0, queries + 2 * keys),
            "self_attn.k_proj": ("self_attn.qkv_proj", queries, queries + 2 * keys),
            "self_attn.v_proj": ("self_attn.qkv_proj", queries + keys, queries + 2 * keys),
            "mlp.gate_proj": ("mlp.gate_up_proj", 0, 2 * shape.intermediate),
            "mlp.up_proj": ("mlp.gate_up_proj", shape.intermediate, 2 * shape.intermediate),
        }

    def _found(self, name: str) -> tuple[str, int, int] | None:
        for own, (fused, begin, rows) in self._slices.items():
            if name.endswith(f".{own}.weight"):
                return name.replace(own, fused), begin, rows
        return None

    def parts(self, name: str, shape: tuple[int, ...]) -> Mapping[str, Part]:
        """See `Storage`."""
        found = self._found(name)
        return {name: Part(shape)} if found is None else {found[0]: Part((found[2], *shape[1:]))}

    def whole(self, name: str, shape: tuple[int, ...], read: Read) -> torch.Tensor:
        """See `Storage`."""
        found = self._found(name)
        return read(name) if found is None else read(found[0])[found[1] : found[1] + shape[0]]


class Stacked:
    """All experts of a block in one tensor each for gates with products, and for what follows them (gpt-oss).

    Args:
        shape: of the model's blocks.
        short: whether they are in MXFP4: four bits a number, and a power of two for 32 neighbours.
    """

    def __init__(self, shape: Architecture, *, short: bool) -> None:
        assert shape.mixture is not None
        self._count, self._short = shape.mixture.count, short
        self._read: dict[str, torch.Tensor] = {}

    def _found(self, name: str) -> tuple[str, int, slice, bool] | None:
        """The stack that a tensor is in, its place there, which of its outputs it has, and whether it is a bias."""
        match = re.fullmatch(r"(.*\.mlp\.experts)\.(\d+)\.(gate|up|down)_proj\.(weight|bias)", name)
        if match is None:
            return None
        stack = "down_proj" if match[3] == "down" else "gate_up_proj"
        rows = {"gate": slice(0, None, 2), "up": slice(1, None, 2), "down": slice(None)}[match[3]]
        biased = match[4] == "bias"
        return f"{match[1]}.{stack}{'_bias' if biased else ''}", int(match[2]), rows, biased

    def parts(self, name: str, shape: tuple[int, ...]) -> Mapping[str, Part]:
        """See `Storage`."""
        if (found := self._found(name)) is None:
            return {name: Part(shape)}
        stack, _, rows, biased = found
        outputs = shape[0] * (rows.step or 1)
        if biased:
            return {stack: Part((self._count, outputs))}
        if not self._short:
            return {stack: Part((self._count, shape[1], outputs))}
        if shape[1] % 32:
            raise ValueError(f"{shape[1]} inputs are no whole number of groups of 32")
        return {
            f"{stack}_blocks": Part((self._count, outputs, shape[1] // 32, 16), ("U8",)),
            f"{stack}_scales": Part((self._count, outputs, shape[1] // 32), ("U8",)),
        }

    def whole(self, name: str, shape: tuple[int, ...], read: Read) -> torch.Tensor:
        """See `Storage`."""
        if (found := self._found(name)) is None:
            return read(name)
        stack, place, rows, biased = found
        if biased:
            return self._once(stack, read)[place][rows]
        if not self._short:
            return self._once(stack, read)[place].t()[rows].contiguous()
        blocks, scales = (self._once(f"{stack}_{each}", read)[place][rows] for each in ("blocks", "scales"))
        numbers = torch.tensor(FP4)[torch.stack((blocks & 15, blocks >> 4), -1).long().flatten(2)]
        return torch.ldexp(numbers, scales.int().unsqueeze(-1) - 127).flatten(1)

    def _once(self, name: str, read: Read) -> torch.Tensor:
        """A stack is read once for all its experts, and kept until another block's are."""
        if name not in self._read:
            block = name.partition(".mlp.")[0]
            self._read = {each: kept for each, kept in self._read.items() if each.startswith(f"{block}.")}
            self._read[name] = read(name)
        return self._read[name]


class Quantized:
    """Products of blocks as whole numbers, by the quantizer of docs/spec/quantization.md; all else as it is."""

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def parts(self, name: str, shape: tuple[int, ...]) -> Mapping[str, Part]:
        """See `Storage`."""
        if not _is_product(name):
            return {name: Part(shape)}
        outputs, inputs = shape
        if self.bits == 8:
            return {name: Part(shape, ("I8",)), _scale(name): Part((outputs,), ("F32",))}
        if inputs % GROUP:
            raise ValueError(f"{inputs} inputs are no whole number of groups of {GROUP}")
        return {
            name: Part((outputs, inputs // 2), ("U8",)),
            _scale(name): Part((outputs, inputs // GROUP), ("BF16",)),
        }

    def whole(self, name: str, shape: tuple[int, ...], read: Read) -> torch.Tensor:
        """See `Storage`."""
        if not _is_product(name):
            return read(name)
        expand = from_int8 if self.bits == 8 else from_int4
        return torch.from_numpy(expand(read(name).numpy(), read(_scale(name)).float().numpy()))


class Gptq:
    """Products of blocks as GPTQ packs them: eight (or four) inputs in a word, by groups with scale and zero."""

    def __init__(self, found: Quantization) -> None:
        self._bits, self._group = found.bits, found.group
        self._raise = 0 if found.is_second_format else 1
        """The first format stores zeros less by one."""

    def parts(self, name: str, shape: tuple[int, ...]) -> Mapping[str, Part]:
        """See `Storage`."""
        if not _is_product(name):
            return {name: Part(shape)}
        outputs, inputs = shape
        in_word, group = 32 // self._bits, inputs if self._group < 0 else self._group
        if inputs % in_word or outputs % in_word or inputs % group:
            raise ValueError(f"{outputs} outputs of {inputs} inputs are no whole number of words and groups")
        base, groups = name.removesuffix(".weight"), inputs // group
        return {
            f"{base}.qweight": Part((inputs // in_word, outputs), ("I32",)),
            f"{base}.qzeros": Part((groups, outputs // in_word), ("I32",)),
            f"{base}.scales": Part((groups, outputs)),
            f"{base}.g_idx": Part((inputs,), ("I32", "I64")),
        }

    def whole(self, name: str, shape: tuple[int, ...], read: Read) -> torch.Tensor:
        """See `Storage`."""
        if not _is_product(name):
            return read(name)
        base, mask = name.removesuffix(".weight"), (1 << self._bits) - 1
        shifts = torch.arange(0, 32, self._bits, dtype=torch.int32)
        words, zeros = read(f"{base}.qweight"), read(f"{base}.qzeros")
        numbers = ((words[:, None, :] >> shifts[None, :, None]) & mask).reshape(-1, words.shape[1])
        zero = ((zeros[:, :, None] >> shifts) & mask).reshape(zeros.shape[0], -1) + self._raise
        group = read(f"{base}.g_idx").long()
        if bool((group < 0).any()) or bool((group >= len(zero)).any()):
            raise ValueError(f"{base}.g_idx names a group that is none")
        scales = read(f"{base}.scales").float()
        return ((numbers - zero[group]).float() * scales[group]).t().contiguous()


class Awq:
    """Products of blocks as AWQ packs them: eight outputs in a word, in its kernels' order, by groups."""

    def __init__(self, found: Quantization) -> None:
        self._group = found.group

    def parts(self, name: str, shape: tuple[int, ...]) -> Mapping[str, Part]:
        """See `Storage`."""
        if not _is_product(name):
            return {name: Part(shape)}
        outputs, inputs = shape
        group = inputs if self._group < 0 else self._group
        if outputs % 8 or inputs % group:
            raise ValueError(f"{outputs} outputs of {inputs} inputs are no whole number of words and groups")
        base = name.removesuffix(".weight")
        return {
            f"{base}.qweight": Part((inputs, outputs // 8), ("I32",)),
            f"{base}.qzeros": Part((inputs // group, outputs // 8), ("I32",)),
            f"{base}.scales": Part((inputs // group, outputs)),
        }

    def whole(self, name: str, shape: tuple[int, ...], read: Read) -> torch.Tensor:
        """See `Storage`."""
        if not _is_product(name):
            return read(name)
        base = name.removesuffix(".weight")
        shifts = torch.tensor(AWQ_ORDER, dtype=torch.int32) * 4

        def numbers(words: torch.Tensor) -> torch.Tensor:
            return ((words[:, :, None] >> shifts) & 15).reshape(len(words), -1)

        scales = read(f"{base}.scales").float()
        groups, outputs = scales.shape
        values = numbers(read(f"{base}.qweight")).view(groups, -1, outputs)
        zeros = numbers(read(f"{base}.qzeros"))
        return ((values - zeros[:, None]).float() * scales[:, None]).view(-1, outputs).t().contiguous()


class Adapters:
    """A storage, beside an adapter to some of its products.

    Args:
        ranks: by name of the product.
    """

    def __init__(self, base: Storage, ranks: Mapping[str, int]) -> None:
        self.base, self._ranks = base, ranks

    def parts(self, name: str, shape: tuple[int, ...]) -> Mapping[str, Part]:
        """See `Storage`."""
        module = name.removesuffix(".weight")
        rank = self._ranks.get(module)
        own = self.base.parts(name, shape)
        if rank is None:
            return own
        return {**own, f"{module}.lora_A": Part((rank, shape[1])), f"{module}.lora_B": Part((shape[0], rank))}

    def whole(self, name: str, shape: tuple[int, ...], read: Read) -> torch.Tensor:
        """See `Storage`."""
        return self.base.whole(name, shape, read)

    def low(self, name: str, read: Read) -> Low | None:
        """What is added to a product."""
        module = name.removesuffix(".weight")
        return Low(read(f"{module}.lora_A"), read(f"{module}.lora_B")) if module in self._ranks else None


def product_of(storage: Storage, name: str, shape: tuple[int, ...], read: Read) -> Scaled:
    """A weight that rows are multiplied with: int8's whole numbers need not meet their scales before sums do."""
    if isinstance(storage, Adapters):
        return product_of(storage.base, name, shape, read)._replace(low=storage.low(name, read))
    if isinstance(storage, Quantized) and storage.bits == 8 and _is_product(name):
        return Scaled(read(name).float(), read(_scale(name)).clone())
    return Scaled(storage.whole(name, shape, read), None)


def with_adapter(storage: Storage, config: Mapping[str, Any], names: Iterable[str]) -> Storage:
    """As `config.json` says of an adapter, where it does.

    Args:
        names: of the tensors that are read.

    Raises ModelError for an adapter to what is no product of theirs.
    """
    ranks = config.get(ADAPTER)
    if ranks is None:
        return storage
    wanted = {name.removesuffix(".weight") for name in names if _is_product(name)}
    blocks = {name.split(".")[2] for name in wanted}
    sound = isinstance(ranks, dict) and all(type(rank) is int and 0 < rank <= 1024 for rank in ranks.values())
    own = {name for name in ranks if name.split(".")[2:3] and name.split(".")[2] in blocks} if sound else set()
    if not sound or not own <= wanted:
        raise ModelError(
            "config.json does not describe an adapter of this model", hint="make it with joule model adapt"
        )
    return Adapters(storage, ranks)


def storage_of(family: str, quantization: Quantization | None, shape: Architecture) -> Storage:
    """How a checkpoint of this family, quantized so, stores its tensors. Raises ModelError where that is not known."""
    if family == "gpt_oss":
        if quantization is not None and quantization.method != "mxfp4":
            raise _unknown(family, quantization)
        return Stacked(shape, short=quantization is not None)
    if quantization is None:
        return Fused(shape) if family == "phi3" else AsTheyAre()
    made: dict[str, Callable[[], Any]] = {
        "joulemesh": lambda: Quantized(quantization.bits),
        "gptq": lambda: Gptq(quantization),
        "awq": lambda: Awq(quantization),
    }
    if quantization.method not in made:
        raise _unknown(family, quantization)
    storage: Storage = made[quantization.method]()
    return storage


def _unknown(family: str, quantization: Quantization) -> ModelError:
    return ModelError(
        f"weights of a {family} model by {quantization.method} are not known", hint="use a checkpoint in bf16"
    )


def _is_product(name: str) -> bool:
    return name.startswith("model.layers.") and name.endswith("_proj.weight")


def _scale(name: str) -> str:
    return f"{name.removesuffix('.weight')}.scale"
