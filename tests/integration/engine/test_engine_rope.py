"""Position embeddings are those that transformers computes, of every kind that is served."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from node.engine.rope import Rope, turned

STRETCHED = {"factor": 8.0, "original_max_position_embeddings": 64}
KINDS: list[dict[str, Any]] = [
    {"rope_type": "default", "rope_theta": 500_000.0},
    {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0},
    {"rope_type": "llama3", "rope_theta": 500.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **STRETCHED},
    {"rope_type": "yarn", "rope_theta": 10_000.0, **STRETCHED},
    {"rope_type": "yarn", "rope_theta": 10_000.0, "mscale": 1.0, "mscale_all_dim": 0.5, **STRETCHED},
    {"rope_type": "yarn", "rope_theta": 10_000.0, "truncate": False, "beta_fast": 16, "beta_slow": 2, **STRETCHED},
    {"rope_type": "yarn", "rope_theta": 10_000.0, "attention_factor": 1.25, **STRETCHED},
]


@pytest.mark.parametrize("parameters", KINDS, ids=lambda each: each["rope_type"])
def test_queries_and_keys_are_turned_alike(parameters: dict[str, Any]) -> None:
    from transformers.models.llama.configuration_llama import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    config = LlamaConfig(
        hidden_size=64, num_attention_heads=4, max_position_embeddings=512, rope_parameters=dict(parameters)
    )
    positions = torch.tensor([0, 1, 7, 63, 64, 300, 511])
    heads = torch.randn(len(positions), 4, 16, generator=torch.Generator().manual_seed(1))
    across = heads.transpose(0, 1).unsqueeze(0)
    expected, _ = apply_rotary_pos_emb(across, across, *LlamaRotaryEmbedding(config)(across, positions.unsqueeze(0)))
    found = turned(heads, Rope(parameters, head_dim=16, context=512).at(positions, torch.float32))
    torch.testing.assert_close(found, expected[0].transpose(0, 1), rtol=1e-5, atol=1e-5)


NONE = [{"factor": 0}, {"factor": None}, {"rope_theta": "x"}, {"partial_rotary_factor": 0.5}, {"rope_type": "dynamic"}]


@pytest.mark.parametrize("change", NONE)
def test_parameters_that_describe_none(change: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, ZeroDivisionError)):
        Rope(KINDS[2] | change, head_dim=16, context=512)
