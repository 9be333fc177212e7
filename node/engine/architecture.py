"""What ``config.json`` says of a block's shape: which numbers it has, which of them carry biases and norms.

The defaults are those of the model families: published configurations leave out what is usual.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from node.engine.experts import Clamp, ExpertNames, Mixture
from node.engine.rope import Rope
from node.model_directory import ARCHITECTURES, ModelFacts
from protocol.errors import ModelError

__all__ = ["Architecture", "architecture"]

THETA = 10_000.0
"""Base of the position embedding where a configuration names none."""
WINDOW = 4096
"""Positions of a sliding window where a configuration names none."""
_USUAL_WINDOWS = {"gpt_oss": 128, **dict.fromkeys(("mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"), WINDOW)}
BIASED = ("llama", "qwen3", "qwen3_moe", "olmo2", "gpt_oss")
"""Families whose configurations say whether products of attention have biases."""
MOST_EXPERTS = 4096
_EXPERTS = {
    "mixtral": ExpertNames("block_sparse_moe.gate", "block_sparse_moe.experts.{}", "w1", "w3", "w2"),
    "gpt_oss": ExpertNames("mlp.router", "mlp.experts.{}", "gate_proj", "up_proj", "down_proj"),
    "qwen3_moe": ExpertNames("mlp.gate", "mlp.experts.{}", "gate_proj", "up_proj", "down_proj"),
}
_PATTERNS = {"gemma2": 2, "gemma3_text": 6, "gpt_oss": 2}
"""Of so many blocks in turn the last one sees everything."""
SLIDING, FULL = "sliding_attention", "full_attention"


BEFORE = ("input_layernorm", None, "post_attention_layernorm", None)
FOUR = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_NORMS = {
    "olmo2": (None, "post_attention_layernorm", None, "post_feedforward_layernorm"),
    "gemma2": FOUR,
    "gemma3_text": FOUR,
}
GEMMAS = ("gemma2", "gemma3_text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The blocks of one model."""

    hidden: int
    """Width of a row."""
    intermediate: int
    """Width between the products of the second half of a block."""
    heads: int
    kv_heads: int
    """Heads of keys and values; each serves as many of the others as there are to one of them."""
    head_dim: int
    epsilon: float
    """What a norm adds to the mean of squares."""
    qkv_bias: bool
    out_bias: bool
    """Of the product that ends the first half."""
    mlp_bias: bool
    head_norms: bool
    """Whether each head of queries and keys is normed before it is turned."""
    windows: tuple[int | None, ...]
    """For each block, how many positions a row sees, itself included; None for all."""
    rope: Rope
    norms: tuple[str | None, str | None, str | None, str | None] = BEFORE
    """Names of the norms of what enters the first half of a block and of what it gives, and likewise the second."""
    norms_from_one: bool = False
    """Whether norms store by how much their weights differ from 1."""
    is_gelu: bool = False
    """Whether gates go through gelu (by tanh), not silu."""
    scale: float
    """Of products of queries and keys."""
    near_rope: Rope | None = None
    """Of blocks with a window, where they have one of their own."""
    embedding_scale: float = 1.0
    whole_norms: bool = False
    """Whether all queries of a row are normed together, and all keys."""
    mixture: Mixture | None = None
    """Experts in the place of one gated product."""
    score_cap: float | None = None
    """What products of queries and keys are bent below; None where they are as they are."""
    logit_cap: float | None = None
    """Likewise, what the head gives."""
    has_sinks: bool = False
    """Whether each head has a score that stands for no key."""

    def has_experts(self, block: int) -> bool:
        """Whether a block has them."""
        return self.mixture is not None and block not in self.mixture.dense

    def tensors(self, block: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names, after the block's prefix, and shapes of a block's tensors."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        for norm in self.norms:
            if norm is not None:
                yield f"{norm}.weight", (self.hidden,)
        for name, width in (("q", queries), ("k", keys), ("v", keys)):
            yield from _product(f"self_attn.{name}_proj", width, self.hidden, self.qkv_bias)
        yield from _product("self_attn.o_proj", self.hidden, queries, self.out_bias)
        if self.head_norms or self.whole_norms:
            yield "self_attn.q_norm.weight", (queries if self.whole_norms else self.head_dim,)
            yield "self_attn.k_norm.weight", (keys if self.whole_norms else self.head_dim,)
        if self.has_sinks:
            yield "self_attn.sinks", (self.heads,)
        if self.mixture is not None and self.has_experts(block):
            yield from self.mixture.tensors(self.hidden)
            return
        for name in ("gate", "up"):
            yield from _product(f"mlp.{name}_proj", self.intermediate, self.hidden, self.mlp_bias)
        yield from _product("mlp.down_proj", self.hidden, self.intermediate, self.mlp_bias)


def _product(name: str, out: int, width: int, bias: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out, width)
    if bias:
        yield f"{name}.bias", (out,)


def architecture(facts: ModelFacts, config: Mapping[str, Any]) -> Architecture:
    """The shape of a model's blocks. Raises ModelError where the configuration describes none."""
    try:
        return _described(facts, config)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise ModelError(
            f"config.json does not describe a {ARCHITECTURES[facts.model_type]} model: {why}",
            hint="download config.json again",
        ) from error


def _described(facts: ModelFacts, config: Mapping[str, Any]) -> Architecture:
    family, heads = facts.model_type, _integer(config, "num_attention_heads")
    gemma = family in GEMMAS
    _check_means(config, family)
    usual_heads = {"mistral": 8, "mixtral": 8, "gpt_oss": 8, "gemma2": 4}
    kv_heads = _integer(config, "num_key_value_heads", usual_heads.get(family, heads))
    if config.get("head_dim") is None and family == "llama" and facts.hidden_size % heads:
        raise ValueError(f"{facts.hidden_size} dimensions for {heads} heads")
    usual = {"qwen3": 128, "gemma2": 256, "gemma3_text": 256, "gpt_oss": 64}
    head_dim = _integer(config, "head_dim", usual.get(family, facts.hidden_size // heads))
    if heads % kv_heads or head_dim % 2:
        raise ValueError(f"{heads} heads of {head_dim} dimensions over {kv_heads} of keys and values")
    epsilon = config.get("rms_norm_eps", 1e-5 if family == "gpt_oss" else 1e-6)
    if not isinstance(epsilon, float | int) or isinstance(epsilon, bool) or not 0 <= epsilon < 1:
        raise ValueError(f"rms_norm_eps = {epsilon!r}")
    biased = _flag(config, "attention_bias", default=family == "gpt_oss") and family in BIASED
    near = family == "gemma3_text"
    return Architecture(
        hidden=facts.hidden_size,
        intermediate=_integer(config, "intermediate_size"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        epsilon=float(epsilon),
        qkv_bias=biased or family == "qwen2",
        out_bias=biased,
        mlp_bias=_flag(config, "mlp_bias") and family == "llama",
        head_norms=family in ("qwen3", "qwen3_moe", "gemma3_text"),
        norms=_NORMS.get(family, BEFORE),
        norms_from_one=gemma,
        is_gelu=gemma,
        scale=(_integer(config, "query_pre_attn_scalar", 256) if gemma else head_dim) ** -0.5,
        near_rope=Rope(_near_rope(config), head_dim=head_dim, context=facts.max_context) if near else None,
        embedding_scale=facts.hidden_size**0.5 if gemma else 1.0,
        whole_norms=family == "olmo2",
        score_cap=_cap(config, "attn_logit_softcapping", 50.0) if family == "gemma2" else None,
        logit_cap=_cap(config, "final_logit_softcapping", 30.0) if family == "gemma2" else None,
        has_sinks=family == "gpt_oss",
        mixture=_mixture(facts, config),
        windows=_windows(facts, config),
        rope=Rope(_rope_parameters(config), head_dim=head_dim, context=facts.max_context),
    )


def _check_means(config: Mapping[str, Any], family: str) -> None:
    """Raises ValueError for what is computed otherwise here."""
    gemma = family in GEMMAS
    name, known = ("hidden_activation", ("gelu_pytorch_tanh",)) if gemma else ("hidden_act", ("silu", "swish"))
    if config.get(name, known[0]) not in known:
        raise ValueError(f"{name} = {config[name]!r}, where {known[0]} is known")
    capped = () if family == "gemma2" else ("attn_logit_softcapping", "final_logit_softcapping")
    for each in (*capped, "use_bidirectional_attention"):
        if config.get(each):
            raise ValueError(f"{each} is not known")


def _cap(config: Mapping[str, Any], name: str, default: float) -> float | None:
    return None if config.get(name, default) is None else _number(config, name, default)


def _number(config: Mapping[str, Any], name: str, default: float) -> float:
    value = config.get(name, default)
    if not isinstance(value, float | int) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"{name} = {value!r}")
    return float(value)


def _near_rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of Gemma's blocks with a window: newer configurations have it by kind of block, older ones name its base."""
    given = config.get("rope_parameters") or {}
    if SLIDING in given:
        return {"rope_type": "default", **given[SLIDING]}
    return {"rope_type": "default", "rope_theta": config.get("rope_local_base_freq", THETA)}


def _windows(facts: ModelFacts, config: Mapping[str, Any]) -> tuple[int | None, ...]:
    if facts.model_type in ("llama", "olmo2"):
        return (None,) * facts.blocks
    if facts.model_type == "qwen3_moe" and _flag(config, "use_sliding_window"):
        raise ValueError("a sliding window, where experts have none")
    window = config.get("sliding_window", _USUAL_WINDOWS.get(facts.model_type))
    if facts.model_type.startswith("qwen") and not _flag(config, "use_sliding_window"):
        window = None
    if window is None:
        return (None,) * facts.blocks
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        raise ValueError(f"sliding_window = {window!r}")
    if facts.model_type in ("mistral", "mixtral", "phi3"):
        return (window,) * facts.blocks
    kinds = config.get("layer_types")
    if kinds is None and facts.model_type in _PATTERNS:
        pattern = _integer(config, "sliding_window_pattern", _PATTERNS[facts.model_type])
        return tuple(window if (block + 1) % pattern else None for block in range(facts.blocks))
    if kinds is None:
        full = config.get("max_window_layers", 28)
        return tuple(window if block >= full else None for block in range(facts.blocks))
    if not isinstance(kinds, list) or len(kinds) != facts.blocks or not set(kinds) <= {SLIDING, FULL}:
        raise ValueError("layer_types does not say of each block what it sees")
    return tuple(window if kind == SLIDING else None for kind in kinds)


def _mixture(facts: ModelFacts, config: Mapping[str, Any]) -> Mixture | None:
    if facts.model_type not in _EXPERTS:
        return None
    names = _EXPERTS[facts.model_type]
    own = facts.model_type in ("mixtral", "gpt_oss")
    clamped = facts.model_type == "gpt_oss"
    # Older configurations of Qwen's say it in their own word.
    usual = {"mixtral": (8, 2), "gpt_oss": (128, 4), "qwen3_moe": (128, 8)}[facts.model_type]
    count = _integer(config, "num_experts" if config.get("num_experts") else "num_local_experts", usual[0])
    active = _integer(config, "num_experts_per_tok", usual[1])
    if not active <= count <= MOST_EXPERTS:
        raise ValueError(f"{active} of {count} experts for a row")
    step, alone = (1, []) if own else (_integer(config, "decoder_sparse_step", 1), config.get("mlp_only_layers") or [])
    dense = {block for block in range(facts.blocks) if (block + 1) % step or block in alone}
    return Mixture(
        names=names,
        count=count,
        active=active,
        intermediate=_integer(config, "intermediate_size" if own else "moe_intermediate_size"),
        normalized=own or _flag(config, "norm_topk_prob"),
        dense=frozenset(dense),
        biased=clamped,
        clamp=Clamp(_number(config, "swiglu_alpha", 1.702), _number(config, "swiglu_limit", 7.0)) if clamped else None,
    )


def _rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """As newer configurations give them; older ones name the base beside the rest, and may call the type ``type``."""
    given = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    given = dict(given.get(FULL) or given)
    given.setdefault("rope_type", given.get("type", "default"))
    usual = {"gemma3_text": 1e6, "gpt_oss": 150_000.0}.get(config["model_type"], THETA)
    given.setdefault("rope_theta", config.get("rope_theta", usual))
    for name in ("original_max_position_embeddings", "partial_rotary_factor"):
        if config.get(name) is not None:
            given[name] = config[name]
    return given


def _integer(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} = {value!r}")
    return value


def _flag(config: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    value = config.get(name, default) or False
    if not isinstance(value, bool):
        raise ValueError(f"{name} = {value!r}")
    return value
