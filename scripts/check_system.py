"""Say in one line what this machine lacks before anything is installed, and which command brings it.

Runs on a bare Python, so it imports nothing but the standard library.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path


def _compiles(include: str, *flags: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "try.c")
        source.write_text(f"#include <{include}>\nint main(void) {{ return 0; }}\n")
        command = ["cc", "-c", str(source), "-o", str(source.with_suffix(".o")), *flags]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def missing() -> str | None:
    """The first thing that is missing and how to get it, in one line; None when nothing is."""
    if sys.version_info < (3, 11, 1):
        have = sys.version.split()[0]
        return f"Python 3.11.1 or newer is needed, this is {have}: apt-get install python3.11 python3.11-venv"
    if importlib.util.find_spec("ensurepip") is None:
        return "Python's venv module is missing: apt-get install python3-venv"
    if shutil.which("cc") is None:
        return "a C compiler is missing (the package fastecdsa is compiled here): apt-get install gcc libc6-dev"
    if not _compiles("stdio.h"):
        return "the C library's headers are missing: apt-get install libc6-dev"
    if not _compiles("Python.h", "-I" + sysconfig.get_path("include")):
        return "Python's C headers are missing: apt-get install python3-dev"
    if not _compiles("gmp.h"):
        return "the GMP headers are missing (the package fastecdsa needs them): apt-get install libgmp-dev"
    return None


if __name__ == "__main__":
    lack = missing()
    if lack:
        sys.exit(f"error: {lack}")
