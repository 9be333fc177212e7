"""`joule demo --policy`, from a wheel: law changes the route, and the report says why."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def demo(tools: Path, folder: Path, policy: str, status: int = 0) -> Any:
    environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)  # no checkout is at hand
    command = [tools / "joule", "demo", "17 + 25 =", "--policy", policy, "--json"]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def test_law_changes_the_route_and_the_report_says_why(short_folder: Path, installed: Path) -> None:
    """The node in Reykjavik is cheaper, and first on the route of every other demo."""
    bound = demo(installed, short_folder, "eu-only")
    assert bound["by_law"]["route"] == ["milan (IT)", "berlin (DE)", "lyon (FR)"]
    (why,) = bound["by_law"]["left_out"]
    assert why == "reykjavik (IS): IS is not among the jurisdictions you allow (EU)"
    assert bound["verified"]
    assert list(short_folder.glob("joulemesh-*")) == []
