from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import make_checkpoint

VARIANTS = {
    "llama": {"architecture": "llama"},
    "llama-tied": {"architecture": "llama", "tied": True},
    "qwen2": {"architecture": "qwen2", "tied": True},
    "qwen2-window": {"architecture": "qwen2", "sliding_window": 24},
    "qwen3": {"architecture": "qwen3", "layers": 8},
    "mistral": {"architecture": "mistral"},
    "mistral-window": {"architecture": "mistral", "sliding_window": 24, "layers": 6},
    "llama-sharded": {"architecture": "llama", "shard_size": "200KB"},
    "phi3": {"architecture": "phi3"},
    "gemma3": {"architecture": "gemma3_text", "tied": True, "layers": 5},
    "gemma2": {"architecture": "gemma2", "tied": True},
    "gpt-oss": {"architecture": "gpt_oss"},
    "olmo2": {"architecture": "olmo2"},
    "mixtral": {"architecture": "mixtral"},
    "mixtral-window": {"architecture": "mixtral", "sliding_window": 24},
    "qwen3-moe": {"architecture": "qwen3_moe"},
    "phi3-window": {"architecture": "phi3", "sliding_window": 24},
}

Checkpoints = Callable[[str], Path]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """A random model of a variant, made once; not to be changed by a test."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("checkpoints")

    def make(variant: str) -> Path:
        directory = root / variant
        if not directory.exists():
            make_checkpoint(directory, **VARIANTS[variant])
        return directory

    return make
