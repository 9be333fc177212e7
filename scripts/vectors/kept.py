"""Vectors are kept beside the tests that read them: each script writes its own, and can say that it is out of date."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["keep"]


def keep(file: Path, document: dict[str, Any]) -> int:
    """Write the document, where the file does not hold it already; with ``--check`` only say so. The exit status."""
    text = json.dumps(document, indent=1) + "\n"
    if file.exists() and file.read_text() == text:
        return 0
    if sys.argv[1:] == ["--check"]:
        print(f"out of date: {file.name}; run python -m scripts.vectors.{file.stem}")
        return 1
    file.write_text(text)
    print(f"wrote {file}")
    return 0
