"""All targets, and the inputs that are kept for each."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from scripts.fuzzing import chains, gateways, local, meters, proofs, records, tariffs, wire, witnesses
from scripts.fuzzing.target import Target

__all__ = ["CORPUS", "keep", "kept_inputs", "registry"]

CORPUS = Path(__file__).resolve().parents[2] / "tests" / "fuzz" / "corpus"
"""A folder for each target, a file for each input that once broke a promise, or that hand put there."""


@cache
def registry() -> dict[str, Target]:
    """Every target by name."""
    found = [
        *wire.targets(),
        *records.targets(),
        *witnesses.targets(),
        *proofs.targets(),
        *chains.targets(),
        *gateways.targets(),
        *local.targets(),
        *meters.targets(),
        *tariffs.targets(),
    ]
    by_name = {each.name: each for each in found}
    if len(by_name) != len(found):
        raise ValueError("two targets have one name")
    return by_name


def kept_inputs(name: str) -> list[bytes]:
    """What the corpus holds for a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


def keep(name: str, data: bytes) -> Path:
    """Put an input into the corpus."""
    path = CORPUS / name / hashlib.sha256(data).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
