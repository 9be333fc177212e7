"""Each clause of the specification has one name, and what the code cites exists."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted((ROOT / "docs/spec").glob("*.md"))
SOURCES = sorted(path for part in ("protocol", "node", "simulator", "scripts") for path in (ROOT / part).rglob("*.py"))
DEFINED = re.compile(r"^(?:#{2,4} |- \*\*|\*\*)([A-Z]{1,2}\d+)[a-z]?\.", re.MULTILINE)
CITED = re.compile(r"(?<![\w+/.-])([A-Z]{1,2}\d{1,2})(?![\w/-])")
NUMBER_FORMATS = {"F16", "F32", "F64"}
"""Names in safetensors files, which look like clauses of the page on spot checks."""


def defined(page: Path) -> list[str]:
    """The clauses that a page states."""
    return DEFINED.findall(page.read_text())


KNOWN = {clause for page in PAGES for clause in defined(page)}
LETTERS = {clause.rstrip("0123456789") for clause in KNOWN}


def cited(text: str) -> set[str]:
    """What in a piece of prose is the name of a clause."""
    found = set(CITED.findall(text)) - NUMBER_FORMATS
    return {name for name in found if name.rstrip("0123456789") in LETTERS}


def prose(source: str) -> Iterator[str]:
    """Comments and docstrings."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def test_no_two_clauses_share_a_name() -> None:
    names = Counter(clause for page in PAGES for clause in defined(page))
    assert {"W1", "M1", "S1", "O1", "D1", "V1", "L1", "T1", "C1", "E1", "R1", "F1"} <= names.keys()
    assert [name for name, times in names.items() if times > 1] == []


def test_a_letter_belongs_to_the_page_that_the_index_names() -> None:
    rows = re.findall(
        r"^\| \[.*?\]\((\w+\.md)\) \| ([A-Z, ]*)\|", (ROOT / "docs/spec/index.md").read_text(), re.MULTILINE
    )
    listed = {page: set(re.findall("[A-Z]+", letters)) for page, letters in rows}
    found = {page.name: {clause.rstrip("0123456789") for clause in defined(page)} for page in PAGES}
    assert listed == {page: letters for page, letters in found.items() if page != "index.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_cites_what_exists(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
    assert cited(text) - KNOWN == set()


def test_the_code_cites_what_exists() -> None:
    wrong = {}
    for path in SOURCES:
        source = path.read_text()
        if not cited(source) - KNOWN:
            continue  # nor does its prose, which takes longer to find
        missing = {name for text in prose(source) for name in cited(text)} - KNOWN
        if missing:
            wrong[str(path.relative_to(ROOT))] = missing
    assert wrong == {}
    assert cited((ROOT / "protocol/session/order.py").read_text()) >= {f"O{number}" for number in range(1, 8)}
