"""Manifests: one for each set of files."""

from __future__ import annotations

import pytest

from protocol.encoding.codec import decode, encode
from protocol.errors import JoulemeshError
from protocol.identity.ids import ModelFile, ModelManifest


def file(name: str) -> ModelFile:
    return ModelFile(name=name, size=1, sha256=bytes(32), chunks=bytes(32))


def manifest(*names: str, **changes: object) -> ModelManifest:
    made = ModelManifest(
        name="model",
        license="Apache-2.0",
        precision="fp32",
        blocks=1,
        hidden_size=1,
        vocabulary=1,
        max_context=1,
        stop_tokens=(),
        files=tuple(map(file, names)),
    )
    return made.replace(**changes)


def test_the_licence_is_part_of_the_root() -> None:
    made = manifest("a", "b")
    assert decode(encode(made), ModelManifest) == made
    assert len({made.root, manifest("a", "b", license="").root, manifest("a", "b", license="MIT").root}) == 3


@pytest.mark.parametrize("names", [("b", "a"), ("a", "a"), ("a", "b", "a"), ()])
def test_files_stand_in_order_each_once(names: tuple[str, ...]) -> None:
    with pytest.raises(JoulemeshError, match="files"):
        manifest(*names)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "../a", "a\\b", "a\nb", "x" * 97])
def test_names_are_those_of_files_in_one_folder(name: str) -> None:
    assert file("..a").name == "..a"
    with pytest.raises(JoulemeshError, match=r"ModelFile\.name"):
        file(name)
