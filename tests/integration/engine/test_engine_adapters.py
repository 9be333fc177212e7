"""A model with an adapter computes what the merged weights do, by span; strange ones are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import make_checkpoint
from engine_ring import Ring, reference_tokens
from safetensors.torch import load_file, save_file

from node.engine.conformance import ROOM, Conformance
from node.engine.engine import Engine
from node.engine.loader import load_span
from node.model_directory import (
    adapt_model,
    model_facts,
    model_manifest,
    prune_model,
    quantize_model,
    write_manifest,
)
from protocol.errors import ModelError
from protocol.identity.ids import BlockSpan

PROMPT = [5, 9, 200, 31, 7, 40]
TARGETS = {"self_attn.q_proj": 4, "self_attn.v_proj": 2, "mlp.down_proj": 4, "mlp.gate_proj": 3}
CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "bias": "none"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("adapted") / "base"
    make_checkpoint(directory, "qwen2", layers=3)
    return directory


def make_adapter(folder: Path, base: Path, **said: Any) -> dict[str, torch.Tensor]:
    """An adapter to some products of two of three blocks, as PEFT saves one; what it adds to each."""
    folder.mkdir()
    draw = torch.Generator().manual_seed(4)
    weights, tensors, adds = load_file(base / "model.safetensors"), {}, {}
    for block in (0, 2):
        for target, rank in TARGETS.items():
            module = f"model.layers.{block}.{target}"
            out, width = weights[f"{module}.weight"].shape
            down, up = (torch.randn(size, generator=draw) / 8 for size in ((rank, width), (out, rank)))
            tensors[f"base_model.model.{module}.lora_A.weight"] = down
            tensors[f"base_model.model.{module}.lora_B.weight"] = up
            adds[f"{module}.weight"] = up @ down * (CONFIG["lora_alpha"] / rank)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | said))
    return adds


def merged(base: Path, folder: Path, adds: dict[str, torch.Tensor]) -> Path:
    shutil.copytree(base, folder)
    weights = load_file(base / "model.safetensors")
    save_file({name: each + adds.get(name, 0) for name, each in weights.items()}, folder / "model.safetensors")
    return folder


def test_it_generates_what_the_merged_weights_do(base: Path, tmp_path: Path) -> None:
    adds = make_adapter(tmp_path / "lora", base)
    made = tmp_path / "made"
    size = adapt_model(base, tmp_path / "lora", made)
    assert size == 4 * sum(each.numel() for each in load_file(tmp_path / "lora" / "adapter_model.safetensors").values())
    assert model_facts(made).name == f"{model_facts(base).name}+lora"
    ring = Ring(made, (0, 1, 3))
    ring.open(b"x")
    expected = reference_tokens(merged(base, tmp_path / "merged", adds), PROMPT, 40)
    assert ring.generate(b"x", PROMPT, 40) == expected != reference_tokens(base, PROMPT, 40)
    engine = Engine.load(made, 0, 3, kv_tokens=ROOM)
    claims = Conformance(engine, model_facts(made), BlockSpan(start=0, end=3), precision="fp32").run()
    assert all(each.holds for each in claims)


def test_the_root_is_of_base_and_adapter_and_a_block_needs_its_part(base: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        make_adapter(tmp_path / name, base, lora_alpha=8 if name == "one" else 9)
        adapt_model(base, tmp_path / name, tmp_path / f"with-{name}", name="tuned")
    one, other = (model_manifest(tmp_path / f"with-{name}") for name in ("one", "other"))
    assert one.root != other.root != model_manifest(base).root
    weights = {each.name: each.sha256 for each in model_manifest(base).files}["model.safetensors"]
    assert {each.name: each.sha256 for each in one.files}["base.safetensors"] == weights
    write_manifest(tmp_path / "with-one", one)
    (tmp_path / "with-one" / "adapter.safetensors").unlink()
    load_span(tmp_path / "with-one", 1, 2)  # to this block the adapter adds nothing
    with pytest.raises(ModelError, match=r"adapter\.safetensors is missing"):
        load_span(tmp_path / "with-one", 2, 3)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantized_base_may_have_one(base: Path, tmp_path: Path, bits: int) -> None:
    make_adapter(tmp_path / "lora", base)
    quantize_model(base, tmp_path / "short", bits)
    adapt_model(tmp_path / "short", tmp_path / "lora", tmp_path / "made")
    whole, plain = (load_span(tmp_path / each, 0, 3, dtype=f"int{bits}") for each in ("made", "short"))
    for mine, theirs in zip(whole.layers, plain.layers, strict=True):
        changed = [not torch.equal(a.weight, b.weight) for a, b in zip(mine.matrices, theirs.matrices, strict=True)]
        assert changed == ([True, False, True, False, True] if mine.index != 1 else [False] * 5)
    with pytest.raises(ModelError):
        quantize_model(tmp_path / "made", tmp_path / "again", bits)


@pytest.mark.parametrize(
    "said",
    [
        *({"peft_type": "IA3"}, {"use_dora": True}, {"bias": "all"}, {"modules_to_save": ["lm_head"]}),
        *({"rank_pattern": {"q_proj": 3}}, {"lora_alpha": 0}, {"lora_alpha": "8"}, {"fan_in_fan_out": True}),
    ],
    ids=str,
)
def test_adapters_that_are_computed_otherwise_are_refused(base: Path, tmp_path: Path, said: dict[str, Any]) -> None:
    make_adapter(tmp_path / "lora", base, **said)
    with pytest.raises(ModelError):
        adapt_model(base, tmp_path / "lora", tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_adapters_of_other_models_and_odd_tensors_are_refused(base: Path, tmp_path: Path) -> None:
    make_adapter(tmp_path / "lora", base)
    make_checkpoint(tmp_path / "wider", "qwen2", layers=3, hidden=96)
    prune_model(base, tmp_path / "shorter", [0, 1])
    for other in ("wider", "shorter"):
        with pytest.raises(ModelError, match="not for this model"):
            adapt_model(tmp_path / other, tmp_path / "lora", tmp_path / "made")
    good = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    name = "base_model.model.model.layers.0.mlp.down_proj.lora_"
    for odd in (
        {key: each for key, each in good.items() if key != f"{name}A.weight"},
        {**good, "base_model.model.lm_head.lora_A.weight": torch.zeros(4, 64)},
        {**good, f"{name}A.weight": torch.full_like(good[f"{name}A.weight"], np.nan)},
        {},
    ):
        save_file(odd, tmp_path / "lora" / "adapter_model.safetensors")
        with pytest.raises(ModelError):
            adapt_model(base, tmp_path / "lora", tmp_path / "made")
        assert not (tmp_path / "made").exists()


def test_a_tensor_of_another_size_than_its_shape_is_refused(base: Path, tmp_path: Path) -> None:
    make_adapter(tmp_path / "lora", base)
    weights = tmp_path / "lora" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b'"F32"', b'"F16"', 1))
    with pytest.raises(ModelError, match="a tensor that is not known"):
        adapt_model(base, tmp_path / "lora", tmp_path / "made")


def test_blocks_that_are_left_out_take_their_part_along(base: Path, tmp_path: Path) -> None:
    make_adapter(tmp_path / "lora", base)
    adapt_model(base, tmp_path / "lora", tmp_path / "made")
    prune_model(tmp_path / "made", tmp_path / "pruned", [1, 2])
    pruned, whole = load_span(tmp_path / "pruned", 1, 2), load_span(tmp_path / "made", 2, 3)
    for mine, theirs in zip(pruned.layers[0].matrices, whole.layers[0].matrices, strict=True):
        assert torch.equal(mine.weight, theirs.weight)


def test_a_configuration_that_lies_of_an_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    make_adapter(tmp_path / "lora", base)
    adapt_model(base, tmp_path / "lora", tmp_path / "made")
    with pytest.raises(ModelError, match="an adapter already"):
        adapt_model(tmp_path / "made", tmp_path / "lora", tmp_path / "twice")
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    for ranks in ([], {"model.layers.0.mlp.other_proj": 4}, {"model.layers.0.mlp.down_proj": 0}, {"x": "y"}, "x"):
        (tmp_path / "made" / "config.json").write_text(json.dumps(config | {"joulemesh_lora": ranks}))
        with pytest.raises(ModelError):
            load_span(tmp_path / "made", 0, 1)
    ranks = config["joulemesh_lora"] | {"model.layers.0.mlp.down_proj": 5}
    (tmp_path / "made" / "config.json").write_text(json.dumps(config | {"joulemesh_lora": ranks}))
    with pytest.raises(ModelError, match="has shape"):
        load_span(tmp_path / "made", 0, 1)
