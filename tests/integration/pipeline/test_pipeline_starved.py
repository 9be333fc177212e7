"""A node that has no descriptor left, or no disk: it refuses, keeps what was proven, lives on, and serves again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "tests" / "support" / "starved_node.py"
EXPECTED = {
    "order": "request: internal",
    "voucher": ["refused", "this node cannot keep a voucher safe now"],
    "rounds end": False,
    "served on it": 0,
    "told of": ["DiskRefused"],
    "redeemed": True,
    "refusal after": "full",
    "order after": "taken",
    "served after": 3,
}


def starved(kind: str, folder: Path) -> dict[str, Any]:
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support")))
    done = subprocess.run(
        [sys.executable, str(PROGRAM), kind, str(folder)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("kind", ["descriptors", "disk"])
def test_a_node_without_descriptors_or_disk_takes_nothing_and_lives_on(tmp_path: Path, kind: str) -> None:
    assert starved(kind, tmp_path) == EXPECTED


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of some pages."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only who may mount file systems can have a small one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_node_whose_disk_is_full_takes_nothing_and_lives_on(small_disk: Path) -> None:
    # A voucher is written in place, which takes no room: the job that runs goes on.
    assert starved("full", small_disk) == EXPECTED | {"voucher": "taken", "served on it": 1, "redeemed": False}
