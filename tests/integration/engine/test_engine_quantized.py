"""Quantized checkpoints compute what their dequantized weights do, whoever packed them; what is none is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import make_checkpoint
from engine_ring import Ring, ok
from safetensors.torch import load_file, save_file

from node.engine.audit import Window, replay
from node.engine.engine import Engine
from node.model_directory import held_manifest, model_facts, model_manifest, quantize_model
from node.ports import StepInput
from protocol.errors import ModelError
from protocol.identity.ids import BlockSpan
from protocol.models.precisions import PRECISIONS
from protocol.session.fingerprint import distance_ppm, sketch

PROMPT = (5, 9, 200, 31, 7, 40)
Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plain") / "model"
    make_checkpoint(directory, "qwen2", layers=3, shard_size="200KB")
    return directory


def rows_of(directory: Path, dtype: str) -> np.ndarray:
    engine = Engine.load(directory, 0, 3, kv_tokens=256, dtype=dtype)
    engine.open(b"x", max_tokens=64)
    return ok(engine.forward([StepInput(session=b"x", position=0, length=6, data=PROMPT, draws=1)])[0]).hidden


def rewritten(plain: Path, folder: Path, change: Callable[[str, torch.Tensor], Weights], quantized: object) -> Path:
    """A copy whose products `change` stores otherwise, in one file."""
    shutil.copytree(plain, folder)
    tensors: Weights = {}
    for shard in sorted(folder.glob("*.safetensors")):
        for name, tensor in load_file(shard).items():
            tensors |= change(name, tensor) if name.endswith("_proj.weight") else {name: tensor}
        shard.unlink()
    (folder / "model.safetensors.index.json").unlink()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": quantized}))
    return folder


@pytest.mark.parametrize("bits", [8, 4])
def test_what_is_quantized_computes_what_it_stands_for(plain: Path, tmp_path: Path, bits: int) -> None:
    quantized = tmp_path / "quantized"
    size = quantize_model(plain, quantized, bits)
    assert size < sum(path.stat().st_size for path in plain.glob("*.safetensors"))
    made = model_facts(quantized)
    assert made.precisions == (f"int{bits}",)
    again = tmp_path / "again"
    quantize_model(plain, again, bits)
    manifest = model_manifest(quantized, precision=f"int{bits}")
    assert manifest == model_manifest(again, precision=f"int{bits}")
    for path in quantized.glob("*.safetensors"):
        numbers = {name for name, tensor in load_file(path).items() if tensor.dtype in (torch.int8, torch.uint8)}
        assert all(name.endswith("_proj.weight") for name in numbers)

    def dense(name: str, tensor: torch.Tensor) -> Weights:
        if bits == 8:
            scale = tensor.abs().amax(1, keepdim=True) / 127
            return {name: torch.round(tensor / scale).clamp(-127, 127) * scale}
        groups = tensor.view(len(tensor), -1, 32)
        extreme = groups.gather(2, groups.abs().argmax(2, keepdim=True))
        scale = (extreme / -8).bfloat16().float()
        whole = torch.round(groups / scale).clamp(-8, 7)
        return {name: (whole * scale).view_as(tensor)}

    reference = rewritten(plain, tmp_path / "dense", dense, None)
    np.testing.assert_allclose(rows_of(quantized, f"int{bits}"), rows_of(reference, "fp32"), rtol=1e-4, atol=1e-4)
    apart = distance_ppm(sketch(rows_of(quantized, f"int{bits}"), bytes(32)), sketch(rows_of(plain, "fp32"), bytes(32)))
    assert apart > 100 * PRECISIONS["int8"].tolerance.distance_ppm
    for wrong in ({"precision": "fp32"}, {"precision": "int4" if bits == 8 else "int8"}):
        with pytest.raises(ModelError, match=f"are int{bits}"):
            held_manifest(quantized, BlockSpan(start=0, end=1), **wrong)
    with pytest.raises(ModelError, match="quantized already"):
        quantize_model(quantized, tmp_path / "twice", bits)
    with pytest.raises(ModelError, match="File exists"):
        quantize_model(plain, again, bits)


def test_plain_weights_are_not_sold_as_quantized(plain: Path) -> None:
    with pytest.raises(ModelError, match="not quantized: they cannot be served in int8"):
        model_manifest(plain, precision="int8")


def test_an_honest_leg_with_quantized_weights_is_within_the_tolerance_of_fp32(plain: Path, tmp_path: Path) -> None:
    quantized = tmp_path / "quantized"
    quantize_model(plain, quantized, 8)
    ring = Ring(quantized, (0, 1, 3), dtype="int8")
    tokens = list(PROMPT)
    ring.open(b"x")
    tokens.append(ring.step({b"x": tokens})[b"x"])
    for _ in range(30):
        tokens.append(ring.step({b"x": tokens[-1:]})[b"x"])
    windows = [Window(start, start + 16, bytes([start] * 32)) for start in (0, 16)]
    for leg, (end, parts) in enumerate(zip((1, 3), ring.rows[b"x"], strict=True)):
        rows = np.concatenate(parts)
        for window, (made,) in zip(windows, replay(quantized, [end], tokens, windows, dtype="int8"), strict=True):
            signed = sketch(rows[window.start : window.end], window.seed)
            assert distance_ppm(made.sketch, signed) < PRECISIONS["int8"].tolerance.distance_ppm / 4, leg


def pack(numbers: torch.Tensor, order: tuple[int, ...] = tuple(range(8))) -> torch.Tensor:
    """Eight numbers of 0 to 15 of the last dimension in a word; number `i` stands at place `order[i]`."""
    words = np.zeros((*numbers.shape[:-1], numbers.shape[-1] // 8), np.uint32)
    each = numbers.numpy().astype(np.uint32).reshape(*words.shape, 8)
    for number, place in enumerate(order):
        words |= each[..., number] << np.uint32(4 * place)
    return torch.from_numpy(words.view(np.int32))


def grouped(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Numbers of 0 to 15 ``[out, in]``, zeros of 1 to 16 and scales ``[out, groups]`` for a weight, by groups of 16."""
    groups = tensor.view(len(tensor), -1, 16)
    low, high = groups.amin(2), groups.amax(2)
    scale = ((high - low) / 15).half().float()
    zero = torch.round(-low / scale).clamp(1, 15)
    return torch.round(groups / scale[..., None] + zero[..., None]).clamp(0, 15).view_as(tensor), zero, scale


@pytest.mark.parametrize("method", ["gptq", "gptq_v2", "gptq-by-activation", "awq"])
def test_checkpoints_by_gptq_and_awq_are_read(plain: Path, tmp_path: Path, method: str) -> None:
    def stored(name: str, tensor: torch.Tensor) -> Weights:
        whole, zero, scale = grouped(tensor)
        base = name.removesuffix(".weight")
        if method == "awq":
            order = (0, 4, 1, 5, 2, 6, 3, 7)
            return {
                f"{base}.qweight": pack(whole.t().contiguous(), order),
                f"{base}.qzeros": pack(zero.t().contiguous(), order),
                f"{base}.scales": scale.t().half(),
            }
        index = torch.arange(tensor.shape[1], dtype=torch.int32) // 16
        raised = zero if method == "gptq_v2" else zero - 1
        return {
            f"{base}.qweight": pack(whole).t(),
            f"{base}.qzeros": pack(raised.t().contiguous()),
            f"{base}.scales": scale.t().half(),
            f"{base}.g_idx": index,
        }

    def dense(name: str, tensor: torch.Tensor) -> Weights:
        whole, zero, scale = grouped(tensor)
        values = (whole.view(len(tensor), -1, 16) - zero[..., None]) * scale[..., None]
        return {name: values.view_as(tensor)}

    said = {"quant_method": method[:4].rstrip("_"), "bits": 4, "group_size": 16, "checkpoint_format": method}
    packed = rewritten(plain, tmp_path / "packed", stored, said)
    reference = rewritten(plain, tmp_path / "dense", dense, None)
    assert (rows_of(packed, "int4") == rows_of(reference, "fp32")).all()


@pytest.mark.parametrize(
    "said",
    [
        *({}, [], {"quant_method": "gptq"}, {"quant_method": "gptq", "bits": 3}, {"quant_method": "awq", "bits": 8}),
        *({"quant_method": "fp8", "bits": 8}, {"quant_method": "awq", "bits": 4, "version": "gemv"}),
        *({"quant_method": "gptq", "bits": 4, "group_size": 0}, {"quant_method": ["gptq"], "bits": 4}),
    ],
)
def test_other_ways_to_quantize_are_refused(plain: Path, tmp_path: Path, said: object) -> None:
    config = json.loads((plain / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": said}))
    with pytest.raises(ModelError, match="in a way that is not known"):
        model_facts(tmp_path)


def test_groups_that_are_none_and_shapes_that_do_not_fit_are_refused(plain: Path, tmp_path: Path) -> None:
    def stored(name: str, tensor: torch.Tensor) -> Weights:
        whole, zero, scale = grouped(tensor)
        base = name.removesuffix(".weight")
        return {
            f"{base}.qweight": pack(whole).t(),
            f"{base}.qzeros": pack(zero.t().contiguous()),
            f"{base}.scales": scale.t().half(),
            f"{base}.g_idx": torch.full((tensor.shape[1],), 999, dtype=torch.int32),
        }

    said = {"quant_method": "gptq", "bits": 4, "group_size": 16}
    packed = rewritten(plain, tmp_path / "packed", stored, said)
    with pytest.raises(ModelError, match="names a group that is none"):
        Engine.load(packed, 0, 1, kv_tokens=64, dtype="int4")
    config = json.loads((packed / "config.json").read_text())
    for group in (48, 32):
        config["quantization_config"]["group_size"] = group
        (packed / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError):
            Engine.load(packed, 0, 1, kv_tokens=64, dtype="int4")
