"""`joule` as a wheel installs it: made from the source distribution, in an environment without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def install_wheel(folder: Path) -> Path:
    """Build both distributions in a folder, and install the wheel there; its `bin`.

    Dependencies are those of the tests' own environment, without the checkout that is installed in it.
    """
    _hatchling("sdist", ROOT, folder)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    _hatchling("wheel", folder / archive.name.removesuffix(".tar.gz"), folder)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    _run([sys.executable, "-m", "venv", "--without-pip", environment], folder)
    python = environment / "bin" / "python"
    _run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel],
        folder,
    )
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


def _hatchling(target: str, source: Path, folder: Path) -> None:
    _run([sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", folder], source)


def _run(command: list[str | Path], folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
