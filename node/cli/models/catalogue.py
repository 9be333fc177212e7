"""`joule model catalogue`: signed lists of which root a name means; and `joule model list`: what is here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.terminal.options import configured, examples, json_option, passphrase_option, unlocked
from node.cli.terminal.output import print_facts, print_json, print_table
from node.config import ClientConfig
from node.signed_files import read_signed, write_signed
from protocol.errors import ConfigurationError, InvalidError, LocalError, PeerError
from protocol.identity.ids import checksum_address, parse_address

if TYPE_CHECKING:
    from protocol.identity.ids import ModelManifest
    from protocol.models.model_catalogue import CatalogueEntry, OpenCatalogue

DAY_S = 86_400
file_argument = click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedModel:
    """A model, as a catalogue names it."""

    name: str
    """As people ask for it."""
    precision: str
    """Number format that it is served in."""
    root: bytes
    """What offers and receipts name it by."""
    license: str
    """SPDX expression; empty where it is not stated."""
    card: str
    """What it is, for people."""
    mirrors: tuple[str, ...]
    """Where its files lie on the web."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCatalogue:
    """A signed list of models."""

    name: str
    """For people."""
    publisher: bytes
    """Address of its signer."""
    issued_at: int
    """Unix seconds."""
    expires_at: int
    """Unix seconds; from then on it names nothing."""
    models: tuple[NamedModel, ...]
    """In order of name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedCatalogue:
    """A publisher whose names count no longer."""

    publisher: bytes
    """Its address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A model that is here, or that a catalogue names."""

    name: str
    """For people."""
    precision: str
    """Number format of this root; the same files may be served in others."""
    root: bytes
    """What offers and receipts name it by."""
    license: str
    """SPDX expression; empty where it is not stated."""
    publisher: bytes | None
    """Whose catalogue names it; null where none does."""
    size: int | None
    """Bytes of all its files; null where its manifest is not here."""
    here: int
    """Bytes of them that are on this disk."""
    directory: str | None
    """Where they are; null where there are none."""


@click.group(
    epilog=examples(
        "joule model catalogue make ./model --out models.catalogue --key publisher",
        "joule model catalogue add models.catalogue --publisher 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    )
)
def catalogue() -> None:
    """Signed lists that say which model a name means: yours, and those that you go by."""


@catalogue.command(
    epilog=examples(
        "joule model catalogue make ./model --out models.catalogue --key publisher",
        'joule model catalogue make ./model --precision bf16 --card "Small; answers sums." '
        "--mirror https://models.example.org/joule --out models.catalogue",
    )
)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@configured(ClientConfig, only=("key", "data_dir"))
@click.option(
    "--out", required=True, metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Where to write it."
)
@click.option(
    "--precision", "precisions", multiple=True, metavar="WORD", help="Name the model in this one.  [default: all]"
)
@click.option("--card", default="", metavar="TEXT", help="What the model is, in a few sentences or by an address.")
@click.option("--mirror", "mirrors", multiple=True, metavar="URL", help="Where its files lie on the web.")
@click.option("--name", default="models", show_default=True, metavar="TEXT", help="Of a new catalogue.")
@click.option("--days", type=click.IntRange(1, 3_660), default=365, show_default=True, help="How long it counts.")
@passphrase_option
@json_option
def make(
    config: ClientConfig,
    directory: Path,
    out: Path,
    precisions: tuple[str, ...],
    card: str,
    mirrors: tuple[str, ...],
    name: str,
    days: int,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Sign that the model in DIR is what its name means: with its roots and its licence.

    A catalogue of yours that is there already is signed anew, with this model more, or in the place of what it said of
    that name. DIR needs its manifest: `joule model manifest DIR`.
    """
    from node.model_directory import model_facts, read_manifest
    from protocol.identity.signing import seal
    from protocol.models.model_catalogue import Catalogue, CatalogueEntry, open_catalogue

    key, now = unlocked(config, passphrase_file), int(time.time())
    old = _read(out) if out.exists() else None
    if old is not None and old.publisher != key.address:
        raise LocalError(f"{out} is a catalogue of somebody else", code="exists", hint="choose another name")
    entries = {} if old is None else {(each.name, each.precision): each for each in old.catalogue.entries}
    try:
        for precision in precisions or model_facts(directory).precisions:
            manifest = read_manifest(directory, precision=precision)
            entries[manifest.name, precision] = CatalogueEntry(
                name=manifest.name,
                precision=precision,
                root=manifest.root,
                license=manifest.license,
                card=card,
                mirrors=mirrors,
            )
        made = Catalogue(
            name=name if old is None else old.catalogue.name,
            issued_at=now,
            expires_at=now + days * DAY_S,
            entries=tuple(entries[each] for each in sorted(entries)),
        )
    except InvalidError as error:
        raise ConfigurationError(error.message) from None
    sealed = seal(made, key)
    try:
        found = open_catalogue(sealed)
    except PeerError as error:
        hint = "shorten cards, or begin another one"
        raise ConfigurationError(f"the catalogue is too long: {error.message}", hint=hint) from None
    write_signed(out, sealed)
    _print(found, as_json)


@catalogue.command(
    epilog=examples("joule model catalogue add models.catalogue --publisher 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
)
@file_argument
@configured(ClientConfig, only=("data_dir",))
@click.option("--publisher", required=True, metavar="ADDRESS", help="Who must have signed it: you trust its names.")
@json_option
def add(config: ClientConfig, file: Path, publisher: str, as_json: bool) -> None:
    """Go by the catalogue in FILE: its names may be given to `joule node run --model`.

    It takes the place of the one of that publisher that you have; an older one is refused.
    """
    from node.app.network.catalogues import Catalogues

    try:
        address = parse_address(publisher)
    except InvalidError as error:
        raise click.BadParameter(error.message, param_hint="--publisher") from None
    _print(Catalogues(config.data_dir, int(time.time())).add(file, address), as_json)


@catalogue.command(epilog=examples("joule model catalogue remove 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"))
@click.argument("publisher", metavar="ADDRESS")
@configured(ClientConfig, only=("data_dir",))
@json_option
def remove(config: ClientConfig, publisher: str, as_json: bool) -> None:
    """Go by the names of a publisher no longer. What was fetched stays."""
    from node.app.network.catalogues import Catalogues

    try:
        address = parse_address(publisher)
    except InvalidError as error:
        raise click.BadParameter(error.message, param_hint="ADDRESS") from None
    if not Catalogues(config.data_dir, int(time.time())).remove(address):
        raise ConfigurationError(f"there is no catalogue by {publisher}", hint="`joule model list` shows publishers")
    if as_json:
        print_json(RemovedCatalogue(publisher=address))
        return
    click.echo(f"the catalogue of {checksum_address(address)} is removed")


@catalogue.command(epilog=examples("joule model catalogue show models.catalogue"))
@file_argument
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show what a signed catalogue says, and who has signed it."""
    _print(_read(file), as_json)


@click.command("list", epilog=examples("joule model list", "joule model list --json"))
@configured(ClientConfig, only=("data_dir",))
@json_option
def list_models(config: ClientConfig, as_json: bool) -> None:
    """List the models that were fetched here, and those that your catalogues name."""
    models = _models(config.data_dir)
    if as_json:
        print_json(models)
        return
    if not models:
        click.echo("no model is here, and no catalogue: joule model catalogue add FILE --publisher ADDRESS")
        return
    rows = [
        [
            each.name,
            each.precision,
            each.root.hex()[:12],
            each.license or "not stated",
            "nothing" if each.size is None else f"{each.here / 1e6:.1f} of {each.size / 1e6:.1f} MB",
            "-" if each.publisher is None else checksum_address(each.publisher),
        ]
        for each in models
    ]
    print_table(("model", "precision", "root", "license", "here", "named by"), rows)


def _models(data_dir: Path) -> list[LocalModel]:
    from node.app.network.catalogues import Catalogues
    from node.app.network.fetching import store_of, stored_models

    stored: dict[bytes, tuple[ModelManifest, Path]] = {
        manifest.root: (manifest, folder) for manifest, folder in stored_models(store_of(data_dir))
    }
    listed = [
        _local(entry.name, entry.precision, entry.root, entry.license, each.publisher, stored.pop(entry.root, None))
        for each in Catalogues(data_dir, int(time.time())).all()
        for entry in each.catalogue.entries
    ]
    rest = [
        _local(manifest.name, manifest.precision, root, manifest.license, None, (manifest, folder))
        for root, (manifest, folder) in stored.items()
    ]
    return sorted((*listed, *rest), key=lambda each: (each.name, each.precision, each.root))


def _local(
    name: str, precision: str, root: bytes, spdx: str, publisher: bytes | None, found: tuple[ModelManifest, Path] | None
) -> LocalModel:
    on_disk = 0
    if found is not None:
        paths = [found[1] / file.name for file in found[0].files]
        on_disk = sum(min(path.stat().st_size, path.stat().st_blocks * 512) for path in paths if path.is_file())
    return LocalModel(
        name=name,
        precision=precision,
        root=root,
        license=spdx,
        publisher=publisher,
        size=None if found is None else sum(file.size for file in found[0].files),
        here=on_disk,
        directory=None if found is None else str(found[1]),
    )


def _read(file: Path) -> OpenCatalogue:
    from protocol.models.model_catalogue import open_catalogue

    try:
        return open_catalogue(read_signed(file))
    except PeerError as error:
        raise ConfigurationError(f"{file} is no signed catalogue: {error.message}") from None


def _print(found: OpenCatalogue, as_json: bool) -> None:
    shown = ShownCatalogue(
        name=found.catalogue.name,
        publisher=found.publisher,
        issued_at=found.catalogue.issued_at,
        expires_at=found.catalogue.expires_at,
        models=tuple(_named(each) for each in found.catalogue.entries),
    )
    if as_json:
        print_json(shown)
        return
    day = time.strftime("%Y-%m-%d", time.gmtime(shown.expires_at))
    print_facts({"catalogue": shown.name, "publisher": checksum_address(shown.publisher), "counts until": day})
    click.echo()
    rows = [[each.name, each.precision, each.root.hex()[:12], each.license or "not stated"] for each in shown.models]
    print_table(("model", "precision", "root", "license"), rows)


def _named(entry: CatalogueEntry) -> NamedModel:
    return NamedModel(
        name=entry.name,
        precision=entry.precision,
        root=entry.root,
        license=entry.license,
        card=entry.card,
        mirrors=entry.mirrors,
    )
