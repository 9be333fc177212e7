"""Manifest files: a node needs the weights of its own blocks, and nobody's word for what they are."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node.app.models.held_model import HASHES_FILE, held_model
from node.config import NodeConfig
from node.engine.loader import load_span
from node.model_directory import (
    MANIFEST_FILE,
    PRECISIONS,
    HashMemory,
    check_model,
    dump_manifest,
    held_manifest,
    load_manifest,
    model_facts,
    model_manifest,
    span_files,
    weight_files,
    write_manifest,
)
from node.settings import declared
from protocol.errors import ConfigurationError, ModelError
from protocol.identity.ids import BlockSpan, ModelManifest

SPAN = BlockSpan(start=1, end=2)


@pytest.fixture
def whole(checkpoint, tmp_path: Path) -> Path:
    """A sharded model with its manifest, that the test may spoil."""
    directory = shutil.copytree(checkpoint("llama-sharded"), tmp_path / "model")
    for path in directory.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))  # long ago, so that hashes are remembered
    write_manifest(directory, model_manifest(directory, spdx="Apache-2.0"))
    return directory


def keep(directory: Path, blocks: range, *, text: bool) -> set[str]:
    """Remove what a node with these blocks does not need; returns the weights that are left."""
    mine = {path.name for path in span_files(directory, model_facts(directory), blocks)}
    for path in weight_files(directory):
        if path.name not in mine:
            path.unlink()
    if not text:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (directory / name).unlink()
    return mine


@pytest.mark.parametrize("block", range(4))
def test_a_node_needs_the_weights_of_its_own_blocks_only(whole: Path, block: int) -> None:
    manifest = held_manifest(whole)
    mine = keep(whole, range(block, block + 1), text=block == 0)
    assert mine < {file.name for file in manifest.files}
    span = BlockSpan(start=block, end=block + 1)
    assert held_manifest(whole, span) == manifest
    assert len(load_span(whole, block, block + 1).blocks) == 1
    for lacking in (None, BlockSpan(start=0, end=4)):
        with pytest.raises(ModelError, match="is missing, and is needed here"):
            held_manifest(whole, lacking)


def test_a_tied_model_needs_the_embedding_at_both_ends(checkpoint) -> None:
    sharded, facts = checkpoint("llama-sharded"), model_facts(checkpoint("llama-sharded"))
    names = json.loads((sharded / "model.safetensors.index.json").read_text())["weight_map"]
    first, last = (range(n, n + 1) for n in (0, 3))
    assert sharded / names["model.embed_tokens.weight"] in span_files(sharded, facts, first)
    assert sharded / names["lm_head.weight"] in span_files(sharded, facts, last)
    assert span_files(checkpoint("llama-tied"), facts, last) == (checkpoint("llama-tied") / "model.safetensors",)


def test_without_a_manifest_all_files_are_needed_and_the_error_says_what_to_do(whole: Path) -> None:
    (whole / MANIFEST_FILE).unlink()
    assert held_manifest(whole, SPAN).license == ""
    keep(whole, range(1, 2), text=True)
    with pytest.raises(ModelError, match="half-downloaded") as error:
        held_manifest(whole, SPAN)
    assert "joule model manifest" in error.value.hint


def test_the_manifest_is_the_same_product_in_each_precision(whole: Path) -> None:
    plain = [each for each in PRECISIONS if not each.startswith("int")]
    made = [held_manifest(whole, SPAN, precision=each) for each in plain]
    assert [each.precision for each in made] == plain == ["fp32", "bf16"]
    assert len({each.root for each in made}) == len(plain)
    assert len({dump_manifest(each) for each in made}) == 1
    with pytest.raises(ModelError, match="unknown precision"):
        held_manifest(whole, SPAN, precision="int3")
    with pytest.raises(ModelError, match="are not quantized"):
        held_manifest(whole, SPAN, precision="int8")
    precision = next(each for each in declared(NodeConfig) if each.name == "precision")
    assert precision.default == PRECISIONS[0]
    for each in PRECISIONS:
        assert precision.kind.parse(each) == each


def mine(directory: Path) -> Path:
    return span_files(directory, model_facts(directory), range(1, 2))[0]


def flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def change_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


SPOILS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of a shard": (lambda d: flip_last_byte(mine(d)), r"model-.*safetensors is not the one of the manifest"),
    "half a shard": (lambda d: mine(d).write_bytes(mine(d).read_bytes()[:999]), "it has 999 bytes, not"),
    "no shard": (lambda d: mine(d).unlink(), r"model-.*safetensors is missing"),
    "another shard": (
        lambda d: shutil.copy(span_files(d, model_facts(d), range(3, 4))[-1], mine(d)),
        "is not the one of the manifest",
    ),
    "the configuration": (lambda d: change_config(d, rms_norm_eps=0.5), "config.json is not the one of the manifest"),
    "no configuration": (lambda d: (d / "config.json").unlink(), "config.json is missing"),
    "the index": (lambda d: (d / "model.safetensors.index.json").write_text("{}"), "index.json is not the one"),
    "one file for all": (
        lambda d: shutil.copy(mine(d), d / "model.safetensors"),
        "model.safetensors is not in the man",
    ),
    "stop tokens beside it": (
        lambda d: (d / "generation_config.json").write_text('{"eos_token_id": 9}'),
        "generation_config.json is not the one|stop_tokens",
    ),
}


@pytest.mark.parametrize("name", SPOILS)
def test_a_file_that_differs_from_the_manifest_is_refused_by_name(whole: Path, name: str) -> None:
    spoil, says = SPOILS[name]
    assert held_manifest(whole, SPAN).license == "Apache-2.0"
    spoil(whole)
    with pytest.raises(ModelError, match=says) as error:
        held_manifest(whole, SPAN)
    assert error.value.hint


def test_a_manifest_that_contradicts_the_configuration_is_refused(whole: Path) -> None:
    manifest = held_manifest(whole)
    check_model(whole, manifest, SPAN)
    for change in ({"name": "Other"}, {"blocks": 9}, {"max_context": 9}, {"stop_tokens": ()}):
        with pytest.raises(ModelError, match=f"the manifest says {next(iter(change))} = "):
            check_model(whole, manifest.replace(**change), SPAN)
    with pytest.raises(ModelError, match="no blocks 3:9"):
        check_model(whole, manifest, BlockSpan(start=3, end=9))
    without = tuple(file for file in manifest.files if file.name != "config.json")
    with pytest.raises(ModelError, match=r"config\.json is not in the manifest"):
        check_model(whole, manifest.replace(files=without), SPAN)


def test_weights_may_be_links_and_texts_only_into_a_cache(whole: Path, tmp_path: Path) -> None:
    blobs, secret = tmp_path / "blobs", tmp_path / "default.json"
    blobs.mkdir()
    for name, blob in ((mine(whole).name, "weights"), ("config.json", "a" * 40), ("tokenizer.json", "b" * 64)):
        (whole / name).rename(blobs / blob)
        (whole / name).symlink_to(f"../blobs/{blob}")
    manifest = held_manifest(whole)
    shutil.copy(whole / "tokenizer_config.json", secret)
    (whole / "tokenizer_config.json").unlink()
    (whole / "tokenizer_config.json").symlink_to(secret)
    with pytest.raises(ModelError, match=r"tokenizer_config\.json is a link to "):
        held_manifest(whole)
    with pytest.raises(ModelError, match=r"tokenizer_config\.json is a link to "):
        model_manifest(whole)
    assert held_manifest(whole, SPAN) == manifest  # which needs no tokenizer


def test_hashes_are_remembered_until_a_file_changes(whole: Path, tmp_path: Path) -> None:
    memory = tmp_path / "data" / HASHES_FILE
    first = HashMemory(memory)
    manifest = held_manifest(whole, hashes=first)
    assert first.read_bytes == sum(file.size for file in manifest.files)
    again = HashMemory(memory)
    assert held_manifest(whole, hashes=again) == manifest
    assert again.read_bytes == 0
    assert memory.stat().st_mode & 0o077 == 0
    shard = mine(whole)
    os.utime(shard, (1_000_000_001, 1_000_000_001))
    touched = HashMemory(memory)
    held_manifest(whole, hashes=touched)
    assert touched.read_bytes == shard.stat().st_size
    flip_last_byte(shard)
    os.utime(shard, (1_000_000_001, 1_000_000_001))  # same size, time and inode: the time of the change still tells
    with pytest.raises(ModelError, match="another content"):
        held_manifest(whole, hashes=HashMemory(memory))


def test_a_file_that_has_just_changed_is_read_again(whole: Path, tmp_path: Path) -> None:
    memory, shard = tmp_path / HASHES_FILE, mine(whole)
    shard.touch()
    HashMemory(memory).of(shard)
    assert not memory.exists()
    os.utime(shard, (1_000_000_000, 1_000_000_000))
    HashMemory(memory).of(shard)
    assert memory.exists()


SPOILT: list[Callable[[Any], bytes]] = [
    lambda _: b"",
    lambda _: b"\xff{",
    lambda _: b"[" * 99_999,
    lambda value: json.dumps({**value, "format": "joulemesh-hashes/0"}).encode(),
    lambda value: json.dumps({**value, "hashes": dict.fromkeys(value["hashes"], "no")}).encode(),
    lambda value: json.dumps({**value, "hashes": {"x": "0" * 128}}).encode(),
    lambda value: json.dumps({**value, "hashes": [1, 2]}).encode(),
    lambda value: json.dumps(value).encode() + b" " * 5_000_000,
]


@pytest.mark.parametrize("number", range(len(SPOILT)))
def test_a_spoilt_memory_is_written_anew(whole: Path, tmp_path: Path, number: int) -> None:
    memory = tmp_path / HASHES_FILE
    held_manifest(whole, hashes=HashMemory(memory))
    sound = json.loads(memory.read_text())
    memory.write_bytes(SPOILT[number](sound))
    reading = HashMemory(memory)
    held_manifest(whole, hashes=reading)
    assert reading.read_bytes > 0
    assert json.loads(memory.read_text())["hashes"].keys() == sound["hashes"].keys()


def test_a_memory_is_bounded_and_a_folder_that_cannot_be_written_does_no_harm(whole: Path, tmp_path: Path) -> None:
    memory = tmp_path / HASHES_FILE
    many = {json.dumps([f"/{n}", 1, 1, 1, 1, 1, ""]): "0" * 128 for n in range(4096)}
    memory.write_text(json.dumps({"format": "joulemesh-hashes/2", "hashes": many}))
    shard = mine(whole)
    HashMemory(memory).of(shard)
    kept = json.loads(memory.read_text())["hashes"]
    assert len(kept) == 4096
    assert str(shard) in list(kept)[-1]
    (tmp_path / "file").write_text("")
    assert HashMemory(tmp_path / "file" / HASHES_FILE).of(shard) == HashMemory().of(shard)


def edited(manifest: ModelManifest, **changes: object) -> bytes:
    return json.dumps(json.loads(dump_manifest(manifest)) | changes).encode()


def test_manifest_files_are_read_strictly(whole: Path) -> None:
    manifest = held_manifest(whole)
    data = dump_manifest(manifest)
    assert load_manifest(data) == manifest
    assert load_manifest(json.dumps(json.loads(data)).encode()) == manifest  # laid out in another way
    files = json.loads(data)["files"]
    bad = [
        b"",
        b"[]",
        b"\xff",
        b"[" * 99_999,
        data[:-3],
        data.replace(b'"license"', b'"licence"'),
        data.replace(b'"blocks": 4,', b'"blocks": 4, "blocks": 4,'),
        edited(manifest, format="joulemesh-manifest/0"),
        edited(manifest, more=1),
        edited(manifest, blocks=4.0),
        edited(manifest, blocks=True),
        edited(manifest, blocks=-1),
        edited(manifest, name="two\nlines"),
        edited(manifest, license="x" * 97),
        edited(manifest, stop_tokens="1"),
        edited(manifest, files=[]),
        edited(manifest, files=files[::-1]),
        edited(manifest, files=[*files, files[-1]]),
        edited(manifest, files=[files[0] | {"name": "../config.json"}]),
        edited(manifest, files=[files[0] | {"sha256": files[0]["sha256"].upper()}]),
        edited(manifest, files=[files[0] | {"sha256": "00"}]),
        edited(manifest, files=[files[0] | {"size": -1}]),
        edited(manifest, files=[files[0] | {"mode": 1}]),
        edited(manifest, files={"a": 1}),
        edited(manifest, files=[f for n in range(100) for f in [files[0] | {"name": f"{n:04}"}] * 3]),
    ]
    for each in bad:
        with pytest.raises(ModelError, match=r"joulemesh-manifest\.json|described") as error:
            load_manifest(each)
        assert error.value.hint
    (whole / MANIFEST_FILE).write_bytes(data + b" " * 300_000)
    with pytest.raises(ModelError, match="has more than 262144 bytes"):
        held_manifest(whole)


def test_a_node_of_the_first_block_needs_a_tokenizer(whole: Path, tmp_path: Path) -> None:
    def config(blocks: tuple[int, int] | None) -> NodeConfig:
        return NodeConfig(model=whole, blocks=blocks, data_dir=tmp_path / "data", precision="bf16")

    manifest, span = held_model(config(None))
    assert (span.start, span.end, manifest.precision) == (0, 4, "bf16")
    with pytest.raises(ConfigurationError, match="blocks 0:5 of a model of 4"):
        held_model(config((0, 5)))
    (whole / "tokenizer.json").write_text("{}")
    write_manifest(whole, model_manifest(whole))
    with pytest.raises(ModelError, match="tokenizer cannot be read"):
        held_model(config((0, 2)))
    (whole / "tokenizer.json").unlink()
    write_manifest(whole, model_manifest(whole))
    with pytest.raises(ModelError, match=r"has no tokenizer\.json: nobody could ask"):
        held_model(config((0, 2)))
    assert held_model(config((1, 4)))[1] == BlockSpan(start=1, end=4)
