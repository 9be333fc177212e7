"""Which root was used under a name: remembered, bounded, and never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.app.network import known_names
from node.app.network.known_names import KnownNames

A, B = b"\x11" * 32, b"\x22" * 32


def test_the_newest_use_of_a_name_counts(tmp_path: Path) -> None:
    names = KnownNames(tmp_path / "models" / "names.json")
    assert names.roots() == {}
    names.remember("demo", A)
    names.remember("other", B)
    assert KnownNames(tmp_path / "models" / "names.json").roots() == {"demo": A, "other": B}
    names.remember("demo", B)
    assert list(names.roots().items()) == [("other", B), ("demo", B)]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"demo": 5}', '{"demo": "zz"}', '{"demo": "00"}', "\x00"])
def test_a_file_that_cannot_be_read_counts_as_empty(tmp_path: Path, text: str) -> None:
    file = tmp_path / "names.json"
    file.write_text(text)
    names = KnownNames(file)
    assert names.roots() == {}
    names.remember("demo", A)
    assert names.roots() == {"demo": A}


def test_so_many_names_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_names, "MOST", 2)
    names = KnownNames(tmp_path / "names.json")
    for name in "abc":
        names.remember(name, A)
    assert list(names.roots()) == ["b", "c"]
