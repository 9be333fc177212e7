"""Runs what a stranger wrote in a process of its own: a script of ours reads a JSON object and writes one.

The script bounds its own processor time and memory (`node/app/models/rendering.py`, `node/engine/mask_trial.py`).
It is told no secret: of the environment it gets what Python needs to start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["run_script"]

PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
"""Variables that the process gets. Passphrases are not among them."""


def run_script(script: Path, request: Mapping[str, Any], *, seconds: float) -> object:
    """What the script answers.

    Args:
        seconds: on the clock.

    Raises:
        TimeoutError: it did not come to an end.
        ValueError: it ended without an answer: it took too much time or memory.
    """
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(script)],
            input=json.dumps(request),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            timeout=seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    answer: object = json.loads(done.stdout)
    return answer
