"""Names of models: whose signature counts, what replaces what, and what is found out."""

from __future__ import annotations

from pathlib import Path

import pytest
from agreed_job import manifest_of

from node.app.network.catalogues import Catalogues, require_true
from node.signed_files import write_signed
from protocol.errors import ConfigurationError, DishonestError, InvalidError, ModelError, StaleError
from protocol.identity.ids import ModelManifest
from protocol.identity.signing import SigningKey, seal
from protocol.models.model_catalogue import Catalogue, CatalogueEntry

MANIFEST = manifest_of(4)
NOW = 1_900_000_000
PUBLISHER, OTHER = (SigningKey(bytes([number]) * 32) for number in (5, 6))


def entry_of(manifest: ModelManifest, **changes: object) -> CatalogueEntry:
    facts = {"name": manifest.name, "precision": manifest.precision, "root": manifest.root}
    return CatalogueEntry(**facts | {"license": manifest.license, "card": "", "mirrors": ()} | changes)  # type: ignore[arg-type]


def listed(folder: Path, *entries: CatalogueEntry, key: SigningKey = PUBLISHER, at: int = NOW, days: int = 9) -> Path:
    made = Catalogue(name="list", issued_at=at, expires_at=at + days * 86_400, entries=entries)
    write_signed(folder / "list", seal(made, key))
    return folder / "list"


def test_a_name_means_what_its_publisher_signed(tmp_path: Path) -> None:
    names = Catalogues(tmp_path / "data", NOW)
    with pytest.raises(ModelError, match="no catalogue here names it"):
        names.find(MANIFEST.name, MANIFEST.precision)
    names.add(listed(tmp_path, entry_of(MANIFEST)), PUBLISHER.address)
    assert names.find(MANIFEST.name, MANIFEST.precision)[0].root == MANIFEST.root
    with pytest.raises(ModelError, match="not there in int9"):
        names.find(MANIFEST.name, "int9")
    with pytest.raises(ConfigurationError, match="signed by"):
        names.add(listed(tmp_path, entry_of(MANIFEST), key=OTHER), PUBLISHER.address)
    (tmp_path / "none").write_bytes(b"AAAA")
    with pytest.raises(ConfigurationError, match="no signed catalogue"):
        names.add(tmp_path / "none", PUBLISHER.address)
    names.add(listed(tmp_path, entry_of(MANIFEST, root=bytes(32)), key=OTHER), OTHER.address)
    with pytest.raises(ModelError, match="different models"):
        names.find(MANIFEST.name, MANIFEST.precision)
    assert names.remove(OTHER.address)
    assert not names.remove(OTHER.address)
    assert names.find(MANIFEST.name, MANIFEST.precision)[0].root == MANIFEST.root


def test_an_older_catalogue_takes_no_newer_ones_place_and_an_expired_one_names_nothing(tmp_path: Path) -> None:
    names = Catalogues(tmp_path / "data", NOW)
    names.add(listed(tmp_path, entry_of(MANIFEST)), PUBLISHER.address)
    with pytest.raises(StaleError):
        names.add(listed(tmp_path, at=NOW - 1), PUBLISHER.address)
    with pytest.raises(ConfigurationError, match="expired"):
        names.add(listed(tmp_path, at=NOW - 10 * 86_400), PUBLISHER.address)
    later = Catalogues(tmp_path / "data", NOW + 9 * 86_400)
    with pytest.raises(ModelError) as unknown:
        later.find(MANIFEST.name, MANIFEST.precision)
    assert "expired" in unknown.value.hint
    names.add(listed(tmp_path, at=NOW + 1), PUBLISHER.address)
    with pytest.raises(ModelError):
        names.find(MANIFEST.name, MANIFEST.precision)


@pytest.mark.parametrize("lie", [{"name": "other"}, {"license": "MIT"}, {"precision": "bf17"}])
def test_a_catalogue_that_lies_about_a_model_is_refused_and_remembered(tmp_path: Path, lie: dict[str, str]) -> None:
    names = Catalogues(tmp_path / "data", NOW)
    entry = entry_of(MANIFEST, **lie)
    names.add(listed(tmp_path, entry), PUBLISHER.address)
    require_true(names, entry_of(MANIFEST), MANIFEST)
    with pytest.raises(DishonestError, match="lies about"):
        require_true(names, names.find(entry.name, entry.precision)[0], MANIFEST)
    with pytest.raises(ModelError, match="found out before"):
        Catalogues(tmp_path / "data", NOW).find(entry.name, entry.precision)


def test_names_stand_in_order_each_once() -> None:
    one, other = entry_of(MANIFEST), entry_of(MANIFEST, name="zz")
    for wrong in ((one, one), (other, one)):
        with pytest.raises(InvalidError, match="ascending"):
            Catalogue(name="", issued_at=0, expires_at=0, entries=wrong)
    with pytest.raises(InvalidError, match="empty"):
        entry_of(MANIFEST, name="")
