"""The names on the network stand in one place of the code, and in the specification."""

from __future__ import annotations

import ast
from pathlib import Path

from protocol import names

ROOT = Path(__file__).parents[3]


def test_every_name_has_its_number_and_no_two_are_alike() -> None:
    values = [getattr(names, name) for name in names.__all__]
    assert len(set(values)) == len(values)
    assert all(value.rpartition("/")[2].isdigit() for value in values)


def test_no_name_is_spelled_elsewhere_in_the_code() -> None:
    values = {getattr(names, name) for name in names.__all__}
    sources = {
        file: source
        for folder in ("node", "protocol", "simulator")
        for file in (ROOT / folder).rglob("*.py")
        if any(value in (source := file.read_text()) for value in values)
    }
    spelled = {
        str(file.relative_to(ROOT))
        for file, source in sources.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and node.value in values
    }
    assert spelled == {"protocol/names.py"}


def test_the_specification_has_them_all() -> None:
    wire = (ROOT / "docs/spec/wire.md").read_text()
    assert [name for name in names.__all__ if f"`{getattr(names, name)}`" not in wire] == []
