"""Calls that are banned in all of the code, rules and I/O alike, where ruff's bans hold for the rules only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BANNED = {
    ("asyncio", "wait_for"): "on Python 3.11 it can swallow a cancellation: use `asyncio.timeout`",
}
"""Module and name, and why."""


def banned_in(source: str) -> list[tuple[int, str]]:
    """Line and reason of each banned name, called or handed on, by module or imported from it."""
    if not any(name in source for _, name in BANNED):
        return []
    tree = ast.parse(source)
    modules = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [(modules.get(node.value.id, ""), node.attr)]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        found += [(node.lineno, BANNED[name]) for name in names if name in BANNED]
    return found


def test_nothing_banned_is_used() -> None:
    files = [file for folder in ("node", "protocol", "simulator", "scripts") for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    found = {str(file.relative_to(ROOT)): banned_in(file.read_text()) for file in files}
    assert {file: lines for file, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio\nasyncio.wait_for(x, 1)",
        "import asyncio as aio\naio.wait_for(x, 1)",
        "from asyncio import wait_for",
        "from asyncio import wait_for as patience",
        "import asyncio\nwait = asyncio.wait_for",
    ],
)
def test_a_banned_name_is_found_however_it_is_written(source: str) -> None:
    assert banned_in(source)


@pytest.mark.parametrize("source", ["import asyncio\nasyncio.wait({x})", "self.wait_for(3)", "import trio\ntrio.wait"])
def test_its_neighbours_are_not(source: str) -> None:
    assert banned_in(source) == []
