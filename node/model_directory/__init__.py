"""A Hugging Face model directory as a node, a client and the command line see it: facts, weights, manifest.

Reading order: `files` (bounded reading of what a stranger wrote), `facts` (config.json), `weights` (which file holds
which tensor), `hashes` (no file is hashed twice), `manifest` (what exactly is sold, and what a node must have of it).

It needs no torch and runs nothing that the directory holds. Only safetensors weights are known: no pickle is opened.
"""

from __future__ import annotations

from node.model_directory.adapt import adapt_model
from node.model_directory.facts import (
    ADAPTER,
    ARCHITECTURES,
    PRECISIONS,
    ModelFacts,
    Quantization,
    load_config,
    model_facts,
)
from node.model_directory.files import json_object, read_text_file
from node.model_directory.hashes import HashMemory
from node.model_directory.manifest import (
    CHUNKS_FILE,
    MANIFEST_FILE,
    check_model,
    dump_manifest,
    held_manifest,
    load_manifest,
    model_manifest,
    read_manifest,
    write_chunk_lists,
    write_manifest,
)
from node.model_directory.prune import prune_model
from node.model_directory.quantize import quantize_model
from node.model_directory.weights import (
    EMBEDDING,
    HEAD,
    NORM,
    TensorPlace,
    belongs,
    header_chunks,
    needed_chunks,
    read_header,
    span_files,
    stored_numbers,
    tensor_places,
    weight_files,
)

__all__ = [
    "ADAPTER",
    "ARCHITECTURES",
    "CHUNKS_FILE",
    "EMBEDDING",
    "HEAD",
    "MANIFEST_FILE",
    "NORM",
    "PRECISIONS",
    "HashMemory",
    "ModelFacts",
    "Quantization",
    "TensorPlace",
    "adapt_model",
    "belongs",
    "check_model",
    "dump_manifest",
    "header_chunks",
    "held_manifest",
    "json_object",
    "load_config",
    "load_manifest",
    "model_facts",
    "model_manifest",
    "needed_chunks",
    "prune_model",
    "quantize_model",
    "read_header",
    "read_manifest",
    "read_text_file",
    "span_files",
    "stored_numbers",
    "tensor_places",
    "weight_files",
    "write_chunk_lists",
    "write_manifest",
]
