"""What the end-to-end tests share: small checkpoints and an installed wheel, made once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import make_checkpoint
from installed_wheel import install_wheel


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six blocks."""
    directory = tmp_path_factory.mktemp("models") / "llama"
    make_checkpoint(directory, "llama", layers=6, seed=3)
    return directory


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight blocks of a Qwen3."""
    directory = tmp_path_factory.mktemp("models") / "qwen3"
    make_checkpoint(directory, "qwen3", layers=8, seed=5)
    return directory


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six blocks of a model that never stops by itself."""
    directory = tmp_path_factory.mktemp("models") / "endless"
    make_checkpoint(directory, "llama", layers=6, seed=3, context=2048, endless=True)
    return directory


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for the names of sockets, however long that of the tests' own folder is."""
    with tempfile.TemporaryDirectory(prefix="joule-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the `joule` of a wheel, in an environment without the checkout."""
    return install_wheel(tmp_path_factory.mktemp("installed"))
