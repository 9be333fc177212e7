"""A model whose weights have more than one chunk: sparse random weights of a few megabytes, written without torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from node.model_directory import EMBEDDING, HEAD, NORM, model_manifest, write_manifest
from protocol.identity.ids import ModelManifest

HIDDEN, VOCABULARY = 64, 512
BIG = 400_000
"""Values of one tensor of a block: 1.6 MB."""


def make_big_model(directory: Path, blocks: int = 6) -> ModelManifest:
    """A directory with a manifest; its tensors are not those of any architecture, and nobody computes with it."""
    directory.mkdir(parents=True)
    numbers = np.random.default_rng(7)
    tensors = {EMBEDDING: numbers.standard_normal((VOCABULARY, HIDDEN), dtype=np.float32)}
    for block in range(blocks):
        tensors[f"model.layers.{block}.big.weight"] = numbers.standard_normal(BIG, dtype=np.float32)
    tensors[NORM] = np.ones(HIDDEN, np.float32)
    tensors[HEAD] = numbers.standard_normal((VOCABULARY, HIDDEN), dtype=np.float32)
    header, data = {}, b""
    for name, tensor in tensors.items():
        end = len(data) + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), end]}
        data += tensor.tobytes()
    text = json.dumps(header).encode()
    (directory / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    config = {
        "model_type": "llama",
        "num_hidden_layers": blocks,
        "hidden_size": HIDDEN,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 128,
        "num_attention_heads": 4,
        "eos_token_id": 1,
    }
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "tokenizer.json").write_text("{}")
    manifest = model_manifest(directory, spdx="MIT")
    write_manifest(directory, manifest)
    return manifest
