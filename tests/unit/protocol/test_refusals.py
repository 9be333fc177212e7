"""A code that can reach another party stands in the table of refusals."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import protocol.errors
from protocol.errors import JoulemeshError, PeerError, RuleError
from protocol.refusals import WAYS, RefusalCode

ROOT = Path(__file__).resolve().parents[3]
TRAVELLING = {
    name: cls
    for name, cls in vars(protocol.errors).items()
    if isinstance(cls, type) and issubclass(cls, (PeerError, RuleError)) and cls is not PeerError
}
STAYING = {
    "book-full",  # of gossip, where nobody is answered
    "cancelled",  # what a client tells its own user
    "no-contract",  # of a chain, as the next ones: told to who asked it
    "no-such-protocol",
    "other-chain",
    "other-contract",
    "other-ledger",
    "provider-lost",
    "reverted",
    "stalled",
    "unbonded",  # by one's own settings
}
"""Codes of these errors that are told to nobody outside."""


def _codes(path: Path) -> Iterator[str]:
    """The codes that a module writes out where it makes such an error."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TRAVELLING:
            for keyword in node.keywords:
                if (
                    keyword.arg == "code"
                    and isinstance(keyword.value, ast.Constant)
                    and keyword.value.value is not None
                ):
                    yield str(keyword.value.value)


def test_every_code_that_travels_is_in_the_table() -> None:
    used = {
        code: path.name
        for part in ("protocol", "node")
        for path in (ROOT / part).rglob("*.py")
        for code in _codes(path)
    }
    assert "out-of-order" in used
    missing = {code: where for code, where in used.items() if code not in set(RefusalCode) | STAYING}
    assert missing == {}, "name them, and how they travel, in protocol/refusals.py"


def test_every_code_in_the_table_is_written_somewhere() -> None:
    sources = [path for part in ("protocol", "node") for path in (ROOT / part).rglob("*.py")]
    written = "".join(path.read_text() for path in sources if path.name != "refusals.py")
    assert [code for code in RefusalCode if f'"{code}"' not in written] == []


def test_an_error_without_a_code_of_its_own_travels_under_that_of_its_class() -> None:
    codes = {cls.default_code for cls in TRAVELLING.values() if issubclass(cls, JoulemeshError)}
    assert codes - STAYING <= set(RefusalCode)


def test_every_code_travels_somehow() -> None:
    assert WAYS.keys() == set(RefusalCode)
    assert all(WAYS.values())
