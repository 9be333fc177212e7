"""What computes is what is said to compute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from node.engine import device
from node.engine.device import compute_device
from node.engine.loader import load_span

DEMO = Path(device.__file__).parents[1] / "demo" / "model"


def test_the_blocks_lie_on_the_device_that_is_named() -> None:
    named = compute_device()
    assert (named.kind, named.is_gpu) == ("cpu", False)
    assert named.count >= 1
    assert named.memory_bytes > 2**28
    span = load_span(DEMO, 0, 1)
    assert {each.weight.device.type for layer in span.layers for each in layer.matrices} == {named.kind}


def test_a_machine_that_does_not_name_its_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device, "CPU_FACTS", tmp_path / "none")
    assert compute_device().name
    (tmp_path / "none").write_bytes(b"model name\t: Some\xff Processor  \nmodel name: other\n")
    assert str(compute_device()).startswith("CPU: Some\ufffd Processor, ")


def test_asking_for_it_costs_nothing() -> None:
    code = "import sys, node.engine.device; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
