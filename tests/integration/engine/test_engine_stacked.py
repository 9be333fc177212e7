"""Experts that a checkpoint stacks in one tensor, in MXFP4 too, are those that transformers unpacks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from checkpoints import make_checkpoint
from engine_ring import ok
from safetensors.torch import load_file, save_file

from node.engine.engine import Engine
from node.engine.halved import Halved
from node.model_directory import model_facts, quantize_model
from node.ports import StepInput
from protocol.errors import ModelError

PROMPT = (5, 9, 200, 31, 7, 40)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random gpt-oss model in MXFP4, beside the same one as transformers unpacks it."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    directory = tmp_path_factory.mktemp("stacked") / "short"
    make_checkpoint(directory, "gpt_oss", layers=2)
    shutil.copytree(directory, plain := directory.with_name("plain"))
    draw = torch.Generator().manual_seed(3)
    packed, unpacked = {}, {}
    for name, tensor in load_file(directory / "model.safetensors").items():
        if not name.endswith(("gate_up_proj", "down_proj")):
            packed[name] = unpacked[name] = tensor
            continue
        experts, inputs, outputs = tensor.shape
        blocks = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), generator=draw, dtype=torch.uint8)
        scales = torch.randint(121, 126, (experts, outputs, inputs // 32), generator=draw, dtype=torch.uint8)
        packed |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        unpacked[name] = convert_moe_packed_tensors(blocks, scales).float().contiguous()
    save_file(packed, directory / "model.safetensors")
    save_file(unpacked, plain / "model.safetensors")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "mxfp4"}}))
    return directory


def test_what_is_packed_in_four_bits_is_what_transformers_unpacks(short: Path) -> None:
    assert model_facts(short).precisions == ("fp32", "bf16")
    rows = []
    for directory in (short, short.with_name("plain")):
        engine = Engine.load(directory, 0, 2, kv_tokens=64)
        engine.open(b"x", max_tokens=64)
        item = StepInput(session=b"x", position=0, length=6, data=PROMPT, draws=1)
        rows.append(ok(engine.forward([item])[0]).hidden)
    assert (rows[0] == rows[1]).all()


def test_four_bits_lie_in_sixteen_in_memory(tmp_path: Path) -> None:
    directory = tmp_path / "wide"
    make_checkpoint(directory, "gpt_oss", layers=1, hidden=256)
    tensors = load_file(directory / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, directory / "model.safetensors")
    (block,) = Engine.load(directory, 0, 1, kv_tokens=64).span.layers
    assert all(isinstance(each, Halved) for each in block.matrices)


@pytest.mark.parametrize("method", ["gptq", "awq", "joulemesh"])
def test_other_ways_to_store_them_are_refused(short: Path, tmp_path: Path, method: str) -> None:
    directory = shutil.copytree(short, tmp_path / "other")
    config = json.loads((short / "config.json").read_text())
    said = {"quant_method": method, "bits": 4, "group_size": 32}
    (directory / "config.json").write_text(json.dumps(config | {"quantization_config": said}))
    with pytest.raises(ModelError, match=f"by {method} are not known"):
        Engine.load(directory, 0, 1, kv_tokens=64, dtype="int4")


def test_what_is_stacked_is_not_quantized_here(short: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="quantized already"):
        quantize_model(short, tmp_path / "out", 4)
    with pytest.raises(ModelError, match="gpt_oss model are not quantized"):
        quantize_model(short.with_name("plain"), tmp_path / "out", 4)
