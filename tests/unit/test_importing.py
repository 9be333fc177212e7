"""What is imported by name alone is loaded when it is looked into."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.app.buying.audit import BUNDLED_MODEL
from node.importing import put_off


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to import from; what came from it is forgotten."""
    (tmp_path / "put_off_shelf").mkdir()
    (tmp_path / "put_off_shelf" / "__init__.py").write_text("from put_off_shelf import inner\nbooks = 3\n")
    (tmp_path / "put_off_shelf" / "inner.py").write_text("pages = 5\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [each for each in sys.modules if each.startswith("put_off_")]:
        del sys.modules[name]


def test_a_module_is_loaded_when_it_is_looked_into(shelf: Path) -> None:
    put_off("put_off_shelf")
    import put_off_shelf  # type: ignore[import-not-found]

    assert "put_off_shelf.inner" not in sys.modules
    assert not hasattr(put_off_shelf, "__file__")
    assert importlib.util.find_spec("put_off_shelf") is not None
    assert put_off_shelf.books == 3
    assert "put_off_shelf.inner" in sys.modules
    assert not hasattr(put_off_shelf, "films")


def test_a_part_of_a_package_is_put_off_within_it(shelf: Path) -> None:
    put_off("put_off_shelf.inner")
    import put_off_shelf

    assert put_off_shelf.books == 3
    assert not hasattr(sys.modules["put_off_shelf.inner"], "__file__")
    assert put_off_shelf.inner.pages == 5
    assert hasattr(sys.modules["put_off_shelf.inner"], "__file__")


def test_parts_of_a_package_that_was_put_off_can_be_imported(shelf: Path) -> None:
    put_off("put_off_shelf")
    from put_off_shelf.inner import pages  # type: ignore[import-not-found]

    assert pages == 5


def test_what_is_not_installed_stays_so(shelf: Path) -> None:
    put_off("put_off_nothing")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("put_off_nothing")


_ENGINE = """
import sys
from pathlib import Path
from node.importing import UNUSED_BY_ENGINES, put_off
put_off(*UNUSED_BY_ENGINES)
from node.engine.engine import Engine
from node.ports import StepInput, StepOutput
engine = Engine.load(Path(sys.argv[1]), 0, 6, kv_tokens=64)
engine.open(b"session", max_tokens=64)
(output,) = engine.forward([StepInput(session=b"session", position=0, length=3, data=(1, 2, 3), draws=1)])
assert isinstance(output, StepOutput), output
print([name for name in UNUSED_BY_ENGINES if hasattr(sys.modules[name], "__file__")])
"""


def test_an_engine_looks_into_nothing_that_is_put_off_for_it() -> None:
    arguments = [sys.executable, "-c", _ENGINE, str(BUNDLED_MODEL)]
    assert subprocess.run(arguments, check=True, capture_output=True, text=True).stdout == "[]\n"
