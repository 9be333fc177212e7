"""`joule model check`: a model that is computed as it should be, and ways to be told that it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from node import demo
from node.engine.engine import Engine
from node.ports import StepInput, StepOutput

DEMO = Path(demo.__file__).parent / "model"
Joule = Callable[..., Any]
IDS = np.array([5, 9, 200, 31, 7, 40])


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    engine = Engine.load(DEMO, 0, 6, kv_tokens=64)
    engine.open(b"x", max_tokens=8)
    (out,) = engine.forward([StepInput(session=b"x", position=0, length=6, data=IDS.tolist(), draws=0)])
    assert isinstance(out, StepOutput)
    return engine.span.logits(out.hidden)


def test_a_sound_model_passes(joule: Joule, tmp_path: Path, logits: np.ndarray) -> None:
    np.savez(tmp_path / "mine.npz", ids=IDS, logits=logits)
    found = joule("model", "check", str(DEMO), "--reference", str(tmp_path / "mine.npz"), "--json")
    assert (found.status, found.json["holds"], len(found.json["claims"])) == (0, True, 10)
    assert all(each["apart_ppm"] is None or each["apart_ppm"] <= each["allowed_ppm"] for each in found.json["claims"])
    shown = joule("model", "check", str(DEMO), "--blocks", "2:4", "--precision", "bf16")
    assert shown.status == 0
    assert "blocks may be cut anywhere" in shown.out


def test_logits_of_another_model_fail(joule: Joule, tmp_path: Path, logits: np.ndarray) -> None:
    np.savez(tmp_path / "other.npz", ids=IDS, logits=logits + np.float32(0.01) * np.roll(logits, 1))
    found = joule("model", "check", str(DEMO), "--reference", str(tmp_path / "other.npz"))
    assert found.status == 1
    assert "FAILS" in found.out


def test_what_makes_no_sense_is_said(joule: Joule, tmp_path: Path, logits: np.ndarray) -> None:
    for arrays in ({"ids": IDS}, {"ids": IDS + 435, "logits": logits}, {"ids": IDS, "logits": logits[:5]}):
        np.savez(tmp_path / "bad.npz", **arrays)
        assert joule("model", "check", str(DEMO), "--reference", str(tmp_path / "bad.npz")).status == 1
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    refused = joule("model", "check", str(DEMO), "--reference", str(tmp_path / "bad.npz"), "--json")
    assert "no reference" in str(refused.json)
    assert joule("model", "check", str(DEMO), "--precision", "int8").status == 1
    assert joule("model", "check", str(DEMO), "--blocks", "5:9").status == 1
    assert joule("model", "check", str(DEMO), "--blocks", "auto").status == 2
