"""Model directories: what is read of a good one, and what is said about a bad one."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_ring import Ring, reference_tokens

from node.engine.loader import load_span
from node.model_directory import model_facts, model_manifest, read_header
from protocol.errors import ModelError

SHARD = "model-00002-of-00004.safetensors"


@pytest.fixture
def copy(checkpoint, tmp_path: Path) -> Callable[[str], Path]:
    """A model that the test may spoil."""

    def make(variant: str) -> Path:
        return shutil.copytree(checkpoint(variant), tmp_path / variant)

    return make


def change_config(directory: Path, *drop: str, **changes: object) -> None:
    path = directory / "config.json"
    config = {key: value for key, value in json.loads(path.read_text()).items() if key not in drop}
    path.write_text(json.dumps(config | changes))


def test_facts_and_manifest(checkpoint) -> None:
    directory = checkpoint("llama-sharded")
    facts = model_facts(directory)
    assert (facts.architecture, facts.name, facts.tied) == ("LlamaForCausalLM", "llama-4x64", False)
    manifest = model_manifest(directory)
    assert (manifest.blocks, manifest.hidden_size, manifest.vocabulary) == (4, 64, 320)
    assert (manifest.max_context, manifest.stop_tokens, manifest.precision) == (512, (1,), "fp32")
    names = [file.name for file in manifest.files]
    assert names == sorted(path.name for path in directory.iterdir())
    for file in manifest.files:
        content = (directory / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).digest())
    assert manifest.root != model_manifest(directory, precision="bf16").root
    with pytest.raises(ModelError, match="unknown precision 'int3'"):
        model_manifest(directory, precision="int3")


def test_the_root_does_not_depend_on_where_the_model_lies_or_what_lies_beside_it(copy, checkpoint) -> None:
    directory = copy("llama")
    (directory / "README.md").write_text("hello")
    (directory / "consolidated.safetensors").write_bytes(b"not read")
    assert model_manifest(directory).root == model_manifest(checkpoint("llama")).root
    (directory / "tokenizer.json").write_text("{}")
    assert model_manifest(directory).root != model_manifest(checkpoint("llama")).root


def test_a_model_is_called_what_it_calls_itself_but_not_by_a_path(copy) -> None:
    directory = copy("llama")
    change_config(directory, _name_or_path="someone/small-llama")
    assert model_facts(directory).name == "someone/small-llama"
    for no_name in ("/home/someone/llama", "./llama", "", "x" * 97, 5):
        change_config(directory, _name_or_path=no_name)
        assert model_facts(directory).name == "llama-4x64"


def test_stop_tokens_come_from_the_generation_configuration_first(copy) -> None:
    directory = copy("llama")
    (directory / "generation_config.json").write_text('{"eos_token_id": [9, 4, 9]}')
    assert model_facts(directory).stop_tokens == (4, 9)
    (directory / "generation_config.json").unlink()
    assert model_facts(directory).stop_tokens == (1,)
    change_config(directory, "eos_token_id")
    assert model_facts(directory).stop_tokens == ()
    for bad in ("</s>", [True], [-1], list(range(17))):
        change_config(directory, eos_token_id=bad)
        with pytest.raises(ModelError, match="eos_token_id"):
            model_facts(directory)


def test_facts_need_no_torch(checkpoint) -> None:
    code = (
        "import sys; from pathlib import Path; from node.model_directory import model_manifest;"
        "model_manifest(Path(sys.argv[1])); print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, checkpoint("llama")], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_only_the_shards_of_a_span_are_opened(copy) -> None:
    directory = copy("llama-sharded")
    weight_map = json.loads((directory / "model.safetensors.index.json").read_text())["weight_map"]
    mine = {file for name, file in weight_map.items() if name.startswith("model.layers.1.")}
    for file in set(weight_map.values()) - mine:
        (directory / file).unlink()
    assert mine < set(weight_map.values())
    span = load_span(directory, 1, 2)
    assert (span.is_first, span.is_last) == (False, False)
    with pytest.raises(ModelError, match=r"half-downloaded: model-.* is missing"):
        load_span(directory, 0, 4)
    with pytest.raises(ModelError, match=r"half-downloaded: model-.* is missing"):
        model_manifest(directory)


def test_configurations_with_the_older_names_load(copy) -> None:
    """Most published models carry them: torch_dtype, rope_theta and rope_scaling at the top, no head_dim."""
    directory = copy("llama")
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    change_config(
        directory,
        *("dtype", "rope_parameters", "head_dim", "pretraining_tp"),
        torch_dtype="bfloat16",
        rope_theta=500.0,
        rope_scaling=scaling | {"original_max_position_embeddings": 64},
    )
    prompt = list(range(30, 60))
    ring = Ring(directory, (0, 1, 4))
    ring.open(b"s")
    tokens = ring.generate(b"s", prompt, 30)
    assert tokens == reference_tokens(directory, prompt, 30)
    change_config(directory, "rope_theta", "rope_scaling")
    assert tokens != reference_tokens(directory, prompt, 30)  # the scaling was not ignored


CONFIGS = [
    ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "not supported: GPT2LMHeadModel"),
    ({"architectures": ["LlamaForSequenceClassification"]}, "not supported: LlamaForSequenceClassification"),
    ({"model_type": "evil", "architectures": None, "auto_map": {"AutoModel": "evil.Model"}}, "model type 'evil'"),
    ({"model_type": ["llama"]}, "not supported"),
    ({"quantization_config": {"quant_method": "gptq"}}, "are quantized"),
    ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "position embedding is not supported: dynamic"),
    ({"num_hidden_layers": 0}, "num_hidden_layers = 0"),
    ({"vocab_size": "320"}, "vocab_size = '320'"),
    ({"max_position_embeddings": None}, "max_position_embeddings = None"),
    ({"hidden_act": "no such function"}, "does not describe a Llama model"),
    ({"num_attention_heads": "four"}, "num_attention_heads"),
    ({"rms_norm_eps": None}, "does not describe a Llama model"),
    ({"intermediate_size": 96}, r"down_proj.weight has shape \[64, 128\], config.json asks for \[64, 96\]"),
    ({"vocab_size": 400}, r"lm_head.weight has shape \[320, 64\]"),
    ({"num_hidden_layers": 5}, "lacks model.layers.4"),
    ({"attention_bias": True}, "lacks model.layers.0.self_attn"),
]


@pytest.mark.parametrize(("changes", "says"), CONFIGS, ids=[says for _, says in CONFIGS])
def test_configurations_that_cannot_be_served(copy, changes: dict[str, object], says: str) -> None:
    directory = copy("llama")
    change_config(directory, **changes)
    with pytest.raises(ModelError, match=says) as error:
        load_span(directory, 0, 5 if changes.get("num_hidden_layers") == 5 else 4)
    assert error.value.hint


def test_unsupported_architectures_are_told_which_are_supported(copy) -> None:
    directory = copy("llama")
    change_config(directory, model_type="gemma", architectures=["GemmaForCausalLM"])
    with pytest.raises(ModelError) as error:
        model_facts(directory)
    for name in ("Llama", "Mistral", "Qwen2", "Qwen3"):
        assert f"{name}ForCausalLM" in error.value.hint


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def set_header(path: Path, header: bytes) -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def rename_tensor(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"model.norm.weight", b"model.nrom.weight"))


SPOILS: list[tuple[str, Callable[[Path], object], str]] = [
    ("llama", lambda d: shutil.rmtree(d), "there is no model directory"),
    ("llama", lambda d: (d / "config.json").unlink(), "holds no config.json"),
    ("llama", lambda d: (d / "config.json").write_text("{"), "config.json is not valid JSON"),
    ("llama", lambda d: (d / "config.json").write_bytes(b"\xff\xfe"), "config.json is not valid JSON"),
    ("llama", lambda d: (d / "config.json").write_text("[]"), "config.json is not a JSON object"),
    ("llama", lambda d: (d / "model.safetensors").unlink(), "half-downloaded: model.safetensors is missing"),
    ("llama", lambda d: truncate(d / "model.safetensors", 200_000), "model.safetensors is cut short"),
    ("llama", lambda d: truncate(d / "model.safetensors", 100), "model.safetensors is cut short"),
    ("llama", lambda d: truncate(d / "model.safetensors", 3), "model.safetensors is cut short"),
    ("llama", lambda d: (d / "model.safetensors").write_bytes(b""), "model.safetensors is cut short"),
    ("llama", lambda d: (d / "model.safetensors").write_bytes(b"<html>" * 99), "model.safetensors is cut short"),
    ("llama", lambda d: set_header(d / "model.safetensors", b"[1]"), "is not a safetensors file"),
    ("llama", lambda d: set_header(d / "model.safetensors", b'{"a": {}}'), "is not a safetensors file"),
    ("llama", lambda d: set_header(d / "model.safetensors", b"{}"), "lacks lm_head.weight"),
    ("llama", lambda d: rename_tensor(d / "model.safetensors"), "lacks model.norm.weight"),
    ("llama-sharded", lambda d: (d / SHARD).unlink(), f"half-downloaded: {SHARD} is missing"),
    ("llama-sharded", lambda d: truncate(d / SHARD, 90_000), f"half-downloaded: {SHARD} is cut short"),
    ("llama-sharded", lambda d: (d / "model.safetensors.index.json").unlink(), "half-downloaded"),
    ("llama-sharded", lambda d: (d / "model.safetensors.index.json").write_text("{}"), "has no weight map"),
    (
        "llama-sharded",
        lambda d: (d / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../a.safetensors"}}'),
        "names '../a.safetensors'",
    ),
    (
        "llama-sharded",
        lambda d: (d / "model.safetensors.index.json").write_text('{"weight_map": {"a": "weights.bin"}}'),
        "names 'weights.bin'",
    ),
]


@pytest.mark.parametrize(("variant", "spoil", "says"), SPOILS, ids=[says for _, _, says in SPOILS])
def test_damaged_directories(copy, variant: str, spoil: Callable[[Path], object], says: str) -> None:
    directory = copy(variant)
    spoil(directory)
    with pytest.raises(ModelError, match=says) as error:
        load_span(directory, 0, 4)
    assert error.value.hint


def test_a_pickle_is_never_opened(copy, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (tmp_path / "exploded",))

    directory = copy("llama")
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        load_span(directory, 0, 4)
    assert not (tmp_path / "exploded").exists()


def test_weights_of_another_kind_are_refused(copy) -> None:
    directory = copy("llama")
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"dtype":"F32"', b'"dtype":"I32"'))
    with pytest.raises(ModelError, match="is stored as I32"):
        load_span(directory, 0, 1)


@pytest.mark.parametrize(("start", "end"), [(0, 5), (4, 5), (2, 2), (3, 1), (-1, 2)])
def test_spans_outside_of_the_model(checkpoint, start: int, end: int) -> None:
    with pytest.raises(ModelError, match=f"no blocks {start}:{end}") as error:
        load_span(checkpoint("llama"), start, end)
    assert "0:4" in error.value.hint


def test_an_unknown_precision(checkpoint) -> None:
    with pytest.raises(ModelError, match="unknown precision 'fp8'"):
        load_span(checkpoint("llama"), 0, 1, dtype="fp8")


def test_headers_say_what_lies_where(checkpoint) -> None:
    places = read_header(checkpoint("llama") / "model.safetensors")
    assert places["model.norm.weight"].shape == (64,)
    assert places["model.norm.weight"].dtype == "F32"
