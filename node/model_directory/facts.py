"""What config.json and generation_config.json say about a model, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.model_directory.files import read_json
from protocol.errors import ModelError
from protocol.models.precisions import PRECISIONS as KNOWN_PRECISIONS

__all__ = ["ADAPTER", "ARCHITECTURES", "PRECISIONS", "ModelFacts", "Quantization", "load_config", "model_facts"]

ARCHITECTURES = {
    "gemma2": "Gemma2",
    "gemma3_text": "Gemma3",
    "gpt_oss": "GptOss",
    "llama": "Llama",
    "mistral": "Mistral",
    "mixtral": "Mixtral",
    "olmo2": "Olmo2",
    "phi3": "Phi3",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "qwen3_moe": "Qwen3Moe",
}
"""`model_type` of the supported models, and the prefix of their class names."""

PRECISIONS = tuple(KNOWN_PRECISIONS)
"""What a model can be served in; the last two only where its weights are quantized so (`ModelFacts.precisions`)."""

ADAPTER = "joulemesh_lora"
"""What ``config.json`` calls the ranks of an adapter, by the product that it changes."""

STATIC_ROPE = ("default", "linear", "llama3", "yarn")
"""Position embeddings that depend on the position alone. Others change with the longest sequence at hand, so that a
session's tokens would depend on who shares its batch."""

MAX_NAME_BYTES = 96
MAX_CONFIG_BYTES = 1024 * 1024
"""Of a configuration file: read as JSON it takes up to twenty times as much."""

MAX_BLOCKS = 1_024
MAX_WIDTH = 1 << 17
"""Of rows, heads, and what lies between. The bounds are some eight times what the largest open models have: a layer is
built from these numbers before any weight is looked at, and a stranger may have written them."""
MAX_VOCABULARY = 1 << 22
MAX_CONTEXT = 2**31 - 1
_WIDTHS = ("intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How a checkpoint stores the weights of its products as whole numbers."""

    method: str
    """``joulemesh`` (docs/spec/quantization.md), ``gptq``, ``awq``, or ``mxfp4``, whose numbers are floating point."""
    bits: int
    """4 or 8."""
    group: int
    """Inputs that share a scale; -1 for all of an output."""
    is_second_format: bool
    """Of GPTQ: whether zeros are stored as they are."""


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
    quantization: Quantization | None
    """How its weights are stored as whole numbers; None where they are not."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """What the model can be served in."""
        found = self.quantization
        return PRECISIONS[:2] if found is None or found.method == "mxfp4" else (f"int{found.bits}",)


def model_facts(directory: Path) -> ModelFacts:
    """Read and check a model's configuration. Raises ModelError."""
    config = load_config(directory)
    model_type = _check_architecture(config)
    blocks = _positive(config, "num_hidden_layers", MAX_BLOCKS)
    hidden_size = _positive(config, "hidden_size", MAX_WIDTH)
    for key in _WIDTHS:
        if config.get(key) is not None:
            _positive(config, key, 8 * MAX_WIDTH)
    return ModelFacts(
        architecture=f"{ARCHITECTURES[model_type]}ForCausalLM",
        model_type=model_type,
        name=_name(config, f"{model_type}-{blocks}x{hidden_size}"),
        blocks=blocks,
        hidden_size=hidden_size,
        vocabulary=_positive(config, "vocab_size", MAX_VOCABULARY),
        max_context=_positive(config, "max_position_embeddings", MAX_CONTEXT),
        stop_tokens=_stop_tokens(directory, config),
        tied=config.get("tie_word_embeddings", model_type in ("gemma2", "gemma3_text")) is True,
        quantization=_quantization(config),
    )


def load_config(directory: Path) -> dict[str, Any]:
    """``config.json``. Raises ModelError when the directory or the file is missing or is not what it should be."""
    if not directory.is_dir():
        raise ModelError(f"there is no model directory {directory}", hint="check the path")
    path = directory / "config.json"
    if not path.is_file():
        raise ModelError(
            f"{directory} holds no config.json", hint="name a Hugging Face model directory, which has a config.json"
        )
    return read_json(path, MAX_CONFIG_BYTES)


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
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kinds = (
        [rope]
        if not isinstance(rope, dict) or not all(isinstance(each, dict) for each in rope.values())
        else rope.values()
    )
    types = [each.get("rope_type", each.get("type", "default")) if isinstance(each, dict) else None for each in kinds]
    rope_type = next((each for each in types if each not in STATIC_ROPE), "default")
    if rope_type not in STATIC_ROPE:
        hint = f"supported are {', '.join(STATIC_ROPE)}"
        raise ModelError(f"the model's position embedding is not supported: {rope_type}", hint=hint)
    return model_type


def _quantization(config: dict[str, Any]) -> Quantization | None:
    found = config.get("quantization_config")
    if found is None:
        return None
    said = found if isinstance(found, dict) else {}
    if said.get("quant_method") == "mxfp4":  # of gpt-oss: four bits, and a power of two for 32 neighbours
        return Quantization(method="mxfp4", bits=4, group=32, is_second_format=False)
    method, bits, group = said.get("quant_method"), said.get("bits"), said.get("group_size", -1)
    known = {"joulemesh": (4, 8), "gptq": (4, 8), "awq": (4,)}
    sound = isinstance(method, str) and type(bits) is int and type(group) is int and bits in known.get(method, ())
    if not sound or not (group == -1 or 0 < group <= MAX_WIDTH) or said.get("version", "gemm") not in ("gemm", "GEMM"):
        raise ModelError(
            f"the model's weights are quantized in a way that is not known: {str(method)[:40]}, {str(bits)[:8]} bits",
            hint="use the unquantized checkpoint (joule model quantize makes one of it), or one by GPTQ or AWQ",
        )
    second = said.get("checkpoint_format") == "gptq_v2"
    return Quantization(method=str(method), bits=bits or 0, group=int(group), is_second_format=second)


def _positive(config: dict[str, Any], key: str, most: int) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
        said = repr(value)[:80]
        raise ModelError(f"config.json says {key} = {said}", hint=f"{key} must be a positive integer, at most {most}")
    return value


def _name(config: dict[str, Any], default: str) -> str:
    # Where a checkpoint names itself that name is used, unless it is the path of someone's disk.
    name = config.get("_name_or_path")
    if not isinstance(name, str) or not name or not name.isprintable() or name[0] in "./~\\":
        return default
    return name if len(name.encode()) <= MAX_NAME_BYTES else default


def _stop_tokens(directory: Path, config: dict[str, Any]) -> tuple[int, ...]:
    path = directory / "generation_config.json"
    generation = read_json(path, MAX_CONFIG_BYTES) if path.is_file() else {}
    # As in Hugging Face's generation, the generation configuration wins over the model's.
    value = generation.get("eos_token_id", config.get("eos_token_id"))
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if len(ids) > 16 or not all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i < 2**31 for i in ids):
        raise ModelError(f"eos_token_id = {value!r}", hint="it must be a token id, or a list of at most 16")
    return tuple(sorted(set(ids)))
