"""Each test by which the threat model shows something is one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(test_\w+)(\.py)?`")


def test_every_test_that_a_threat_names_exists() -> None:
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    known = {path.stem for path in files}
    for path in files:
        known |= set(re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    named = {name for name, _ in NAMED.findall((ROOT / "docs/explanation/threat-model.md").read_text())}
    assert len(named) > 50
    assert named <= known, sorted(named - known)
