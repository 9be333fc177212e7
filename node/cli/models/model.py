"""`joule model`: what a model directory holds, and its manifest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.models.catalogue import catalogue, list_models
from node.cli.models.checking import check
from node.cli.models.drafting import draft
from node.cli.models.leaking import leaks
from node.cli.models.variants import adapt, card, prune, quantize, verify
from node.cli.terminal.options import examples, json_option
from node.cli.terminal.output import print_facts, print_json, print_table
from node.config import default_data_dir

if TYPE_CHECKING:
    from node.model_directory import HashMemory

directory_argument = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


@click.group(epilog=examples("joule model show ./model", "joule model manifest ./model --license Apache-2.0"))
def model() -> None:
    """Model directories: what they hold, and what a node needs of them."""


@model.command(
    epilog=examples("joule model manifest ./model", "joule model manifest ./model --license Apache-2.0 --json")
)
@directory_argument
@click.option(
    "--license",
    "spdx",
    metavar="SPDX",
    help="The model's licence, as an SPDX expression.  [default: what the manifest said before, else not stated]",
)
@click.option("--replace", is_flag=True, help="Write over a manifest that says other things.")
@json_option
def manifest(directory: Path, spdx: str | None, replace: bool, as_json: bool) -> None:
    """Write DIR/joulemesh-manifest.json: what the whole model is, with a hash for each file and each chunk of it.

    It takes a directory with all files. Copied to other machines, it lets each node hold only the weights of its own
    blocks. Licence and files are part of the model root: nodes of one model share one manifest. The hashes of chunks go
    into DIR/joulemesh-chunks.bin, which a web mirror needs.
    """
    from node.app.models.survey import make_manifest

    if spdx is not None and not re.fullmatch(r"[A-Za-z0-9.+()-][A-Za-z0-9.+() -]{0,95}", spdx):
        raise click.BadParameter("give an SPDX expression, such as Apache-2.0", param_hint="--license")
    made = make_manifest(directory, spdx=spdx, replace=replace, hashes=_hashes())
    if as_json:
        print_json(made)
        return
    print_facts(
        {
            "manifest": f"{made.file} ({'written' if made.written else 'it says so already'})",
            "model": made.name,
            "license": made.license or "not stated",
            "files": f"{made.files}, {_size(made.size)}",
            **{f"root {precision}": root.hex() for precision, root in made.roots.items()},
        }
    )


@model.command(epilog=examples("joule model show ./model", "joule model show ./model --json"))
@directory_argument
@json_option
def show(directory: Path, as_json: bool) -> None:
    """Show what a model directory holds: facts, roots, files against the manifest, and what each block needs.

    Files that were not hashed before are read.
    """
    from node.app.models.survey import survey

    found = survey(directory, _hashes())
    if as_json:
        print_json(found)
        return
    print_facts(
        {
            "model": found.name,
            "license": found.license or "not stated",
            "architecture": f"{found.architecture}, {found.blocks} blocks of {found.hidden_size}",
            "context": f"{found.max_context} tokens of a vocabulary of {found.vocabulary}",
            "manifest": "as its file says" if found.manifest_file else "of the files; `joule model manifest` keeps it",
            **{f"root {precision}": root.hex() for precision, root in found.roots.items()},
        }
    )
    click.echo()
    files = [[each.name, _size(each.size), each.sha256.hex()[:12], each.state] for each in found.files]
    print_table(("file", "size", "sha256", "state"), files)
    click.echo()
    needs = [
        [str(each.block), "not here" if each.size is None else _size(each.size), " ".join(each.files)]
        for each in found.needs
    ]
    print_table(("block", "weights", "files"), needs)


model.add_command(catalogue)
model.add_command(list_models)
for command in (quantize, prune, draft, adapt, verify, check, leaks, card):
    model.add_command(command)


def _hashes() -> HashMemory:
    from node.app.models.held_model import HASHES_FILE
    from node.model_directory import HashMemory

    return HashMemory(default_data_dir() / HASHES_FILE)


def _size(size: int) -> str:
    """Bytes for people, in decimal units."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if size >= 10**power:
            return f"{size / 10**power:.1f} {unit}"
    return f"{size} B"
