"""Test vectors that others made: kept in tests/vectors/outside, or in ../shared/vectors, without which tests skip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

KEPT = Path(__file__).resolve().parents[1] / "vectors" / "outside"
FOLDER = Path(__file__).resolve().parents[3] / "shared" / "vectors"


def load_vectors(name: str) -> dict[str, Any]:
    """The content of one vector file."""
    path = KEPT / f"{name}.json"
    if not path.exists():
        path = FOLDER / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no outside test vectors: {path} is missing")
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded
