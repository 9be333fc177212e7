"""Breaking an architecture rule on purpose fails the checks of `make test`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

IMPORTS = {
    "protocol/units.py": "import socket",
    "protocol/identity/ids.py": "import node.ports",
    "protocol/market/newcomer.py": "import protocol.session.terms",
    "simulator/engine.py": "import node.ports",
    "node/market/book.py": "import torch",
    "node/energy/attribution.py": "import trio",
    "node/pipeline/serving/leg.py": "import sqlalchemy",
    "node/app/models/newcomer.py": "import node.app.buying.client",
    "node/cli/terminal/newcomer.py": "import node.cli.selling.provider",
    "node/ledger/store.py": "import sqlite3",
    "node/ledger/schema.py": "import alembic",
    "node/pipeline/buying/client.py": "import node.ledger.store",
    "node/engine/block.py": "import transformers",
    "node/newcomer/part.py": "import safetensors",
}
"""One line each that import-linter has to catch, a package that the contracts do not name among them."""
JOINERS = {"node.api", "node.app", "node.cli", "node.demo", "node.page"}
SHARED = {"node.config", "node.events", "node.model_directory", "node.ports", "node.migrating", "node.settings"}
"""What several services use. Any other package of `node` is a service."""

CALLS = {
    "protocol/policy/policy.py": "from datetime import datetime\n\nNOW = datetime.now()",
    "protocol/market/offer.py": "import time\n\nNOW = time.time()",
    "protocol/session/job.py": "import random",
    "node/market/book.py": "async def lost():\n    import asyncio\n\n    asyncio.create_task(lost())",
}
"""What ruff has to catch."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("node", "protocol", "simulator"):
        ignore = shutil.ignore_patterns("__pycache__", "model")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def plant(file: Path, line: str) -> None:
    if not file.parent.exists():
        file.parent.mkdir()
        (file.parent / "__init__.py").touch()
    before = file.read_text() if file.exists() else '"""New."""'
    file.write_text(f"{before}\n\n{line}\n")


def test_every_package_is_placed() -> None:
    """None is forgotten where services are kept apart."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (services,) = [set(each["modules"]) for each in contracts if each["type"] == "independence"]
    packages = {f"node.{path.parent.name}" for path in (ROOT / "node").glob("*/__init__.py")}
    assert packages == services | JOINERS | SHARED


@pytest.mark.slow
def test_the_import_linter_names_every_wall_that_is_broken(copy: Path) -> None:
    start = (
        "import sys; sys.path.insert(0, ''); from importlinter.cli import lint_imports_command; lint_imports_command()"
    )
    command = [sys.executable, "-c", start, "--no-cache"]
    whole = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stdout
    for file, line in IMPORTS.items():
        plant(copy / file, line)
    broken = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert broken.returncode != 0
    assert "0 kept, 12 broken" in broken.stdout
    for file in IMPORTS:
        assert file.removesuffix(".py").replace("/", ".") in broken.stdout


@pytest.mark.parametrize(("file", "lines"), CALLS.items())
def test_ruff_names_what_the_import_linter_cannot_see(copy: Path, file: str, lines: str) -> None:
    command = [BIN / "ruff", "check", "--no-cache", file]
    assert subprocess.run(command, cwd=copy, capture_output=True, check=False).returncode == 0
    plant(copy / file, lines)
    assert subprocess.run(command, cwd=copy, capture_output=True, check=False).returncode == 1
