"""What the end-to-end tests share: small checkpoints and an installed wheel, made once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import make_checkpoint
from installed_wheel import install_wheel
from made_once import made_once


def _make_models(folder: Path) -> None:
    make_checkpoint(folder / "llama", "llama", layers=6, seed=3)
    make_checkpoint(folder / "qwen3", "qwen3", layers=8, seed=5)
    make_checkpoint(folder / "endless", "llama", layers=6, seed=3, context=2048, endless=True)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them: what takes long is to import what makes them."""
    return made_once(tmp_path_factory, "models", _make_models)


@pytest.fixture(scope="session")
def llama(models: Path) -> Path:
    """Six blocks."""
    return models / "llama"


@pytest.fixture(scope="session")
def qwen(models: Path) -> Path:
    """Eight blocks of a Qwen3."""
    return models / "qwen3"


@pytest.fixture(scope="session")
def endless(models: Path) -> Path:
    """Six blocks of a model that never stops by itself."""
    return models / "endless"


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for the names of sockets, however long that of the tests' own folder is."""
    with tempfile.TemporaryDirectory(prefix="joule-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the `joule` of a wheel, in an environment without the checkout."""
    return install_wheel(tmp_path_factory.mktemp("installed"))
