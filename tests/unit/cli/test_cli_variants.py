"""`joule model quantize | prune | verify | card`: what they make, and what they find out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node import demo
from node.model_directory import model_facts

DEMO = Path(demo.__file__).parent / "model"
Joule = Callable[..., Any]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the demo model."""
    return shutil.copytree(DEMO, tmp_path / "model")


def test_a_quantized_model_is_described_and_verified(joule: Joule, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "int4"
    made = joule("model", "quantize", str(model), str(out), "--bits", "4", "--json").json
    assert (made["precisions"], made["name"]) == (["int4"], f"{model_facts(model).name}-int4")
    assert made["weight_bytes"] < (model / "model.safetensors").stat().st_size / 2
    assert joule("model", "manifest", str(out), "--license", "MIT").status == 0
    plain, quantized = (joule("model", "card", str(each), "--json").json for each in (model, out))
    assert plain["parameters"] == quantized["parameters"]
    assert (plain["audited"], quantized["audited"]) == (["fp32"], ["int4"])
    shown = joule("model", "card", str(out)).out
    assert "Licence: MIT" in shown
    assert quantized["roots"]["int4"] in shown
    verified = joule("model", "verify", str(out), "--json").json
    assert (verified["root"], verified["blocks"]) == (quantized["roots"]["int4"], "0:6")
    with (out / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    refused = joule("model", "verify", str(out), "--json")
    assert (refused.status, refused.json["code"]) == (1, "model")
    assert joule("model", "quantize", str(out), str(tmp_path / "twice")).status == 1
    assert joule("model", "quantize", str(model), str(out)).status == 1


def test_a_pruned_model_is_a_model_of_fewer_blocks(joule: Joule, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "smaller"
    made = joule("model", "prune", str(model), str(out), "--layers", "0,2,5", "--json").json
    assert made["name"].endswith("-of-3")
    assert model_facts(out).blocks == 3
    assert joule("model", "verify", str(out)).status == 1  # against nothing
    assert joule("model", "manifest", str(out)).status == 0
    assert joule("model", "verify", str(out), "--blocks", "1:3").status == 0
    for layers in ("", "2,1", "0,6", "x"):
        assert joule("model", "prune", str(model), str(tmp_path / "no"), "--layers", layers).status in (1, 2)
    for blocks in ("auto", "0:9", "3"):
        assert joule("model", "verify", str(out), "--blocks", blocks).status in (1, 2)


def test_an_adapter_that_is_none_is_refused(joule: Joule, model: Path, tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    refused = joule("model", "adapt", str(model), str(tmp_path / "lora"), str(tmp_path / "out"), "--json")
    assert (refused.status, refused.json["code"]) == (1, "model")
    assert joule("model", "adapt", str(model), "lora", "out", "--name", "a b").status == 2


def test_a_draft_is_of_the_layers_that_guess_best(joule: Joule, model: Path, tmp_path: Path) -> None:
    out, sample = tmp_path / "draft", tmp_path / "sample.txt"
    sample.write_text('17 + 25 = 42.\nReverse "stone": "enots".\nMia has a red kite. Where is Mia?' * 2)
    found = joule("model", "draft", str(model), str(out), "--keep", "3", "--sample", str(sample), "--json")
    assert found.status == 0, found.err
    made = found.json
    assert made["layers"][0] == 0
    assert sorted(set(made["layers"])) == made["layers"]
    assert 0 < made["evenly_ppm"] <= made["agreement_ppm"] < 1e6
    assert model_facts(out).blocks == 3
    assert joule("model", "draft", str(model), str(out)).status == 1
    assert joule("model", "draft", str(model), str(tmp_path / "no"), "--keep", "6").status == 1
    (tmp_path / "empty").write_text(" ")
    assert joule("model", "draft", str(model), str(tmp_path / "no"), "--sample", str(tmp_path / "empty")).status == 1
