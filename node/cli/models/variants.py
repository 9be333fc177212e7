"""`joule model quantize | prune | adapt | verify | card`: make variants of a model, check one, and describe it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import click

from node.cli.terminal.options import configured, examples, json_option
from node.cli.terminal.output import print_json
from node.config import ClientConfig
from node.settings.kinds import Layers, Span
from protocol.identity.ids import BlockSpan

directory_argument = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
target_argument = click.argument("target", metavar="OUT", type=click.Path(path_type=Path))


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeModel:
    """A checkpoint that was made of another."""

    directory: str
    """Where it lies."""
    name: str
    """Of the model, for people."""
    precisions: tuple[str, ...]
    """What it can be sold as."""
    weight_bytes: int
    """Of its tensors; of an adapted model, of the adapter's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedModel:
    """A model directory that is what its manifest says, as far as it was asked for."""

    name: str
    """For people."""
    precision: str
    """That its root is for."""
    root: bytes
    """Model root."""
    blocks: str
    """What was held against the manifest, as ``first:end``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A model in a few facts."""

    name: str
    """For people."""
    license: str
    """SPDX expression; empty where it is not stated."""
    architecture: str
    """Class name of the model."""
    blocks: int
    """Transformer blocks."""
    parameters: int
    """Numbers in its weights, as stored: an int4 weight counts once."""
    weight_bytes: int
    """Of its weight files."""
    context: int
    """Positions that it can attend to."""
    roots: dict[str, bytes]
    """By precision."""
    audited: tuple[str, ...]
    """Precisions that spot checks can judge."""

    def markdown(self) -> str:
        """For a README."""
        roots = "\n".join(f"| {name} | `{root.hex()}` |" for name, root in self.roots.items())
        checks = ", ".join(self.audited) or "none of its precisions: it cannot be offered as auditable"
        return (
            f"# {self.name}\n\n"
            f"- Licence: {self.license or 'not stated'}\n"
            f"- {self.architecture}, {self.blocks} blocks, {self.parameters / 1e6:,.1f} million parameters, "
            f"{self.weight_bytes / 1e6:,.1f} MB of weights, {self.context:,} tokens of context\n"
            f"- Spot checks judge: {checks}\n\n"
            f"| precision | model root |\n|---|---|\n{roots}"
        )


@click.command(epilog=examples("joule model quantize ./model ./model-int8 --bits 8"))
@directory_argument
@target_argument
@click.option("--bits", type=click.Choice(["8", "4"]), default="8", show_default=True, help="Of each weight.")
@json_option
def quantize(directory: Path, target: Path, bits: str, as_json: bool) -> None:
    """Write the model in DIR with int8 or int4 weights into the new folder OUT, a product of its own.

    The same model gives the same files everywhere, to the byte. It is sold as --precision int8 or int4, computed in
    fp32 and audited as sharply. A manifest with its licence is still to be written: joule model manifest OUT.
    """
    from node.model_directory import quantize_model

    _tell(target, quantize_model(directory, target, int(bits)), as_json=as_json)


@click.command(epilog=examples("joule model prune ./model ./smaller --layers 0,1,4,5"))
@directory_argument
@target_argument
@click.option("--layers", required=True, metavar="LAYERS", help="The blocks to keep, ascending, such as 0,1,4,5.")
@json_option
def prune(directory: Path, target: Path, layers: str, as_json: bool) -> None:
    """Write a smaller model of some blocks of the one in DIR into the new folder OUT: a draft, or a product of its own.

    Nothing is trained: what it is worth is to be measured. As a draft for the model that it comes from it changes no
    answer (--drafter model --draft-model OUT).
    """
    from node.model_directory import prune_model

    try:
        kept = Layers().parse(layers)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--layers") from None
    _tell(target, prune_model(directory, target, kept), as_json=as_json)


@click.command(epilog=examples("joule model adapt ./model ./adapter ./model-with-adapter"))
@directory_argument
@click.argument("adapter", metavar="ADAPTER", type=click.Path(path_type=Path))
@target_argument
@click.option("--name", metavar="NAME", help="What it adds to the model's name.  [default: that of ADAPTER]")
@json_option
def adapt(directory: Path, adapter: Path, target: Path, name: str | None, as_json: bool) -> None:
    """Put a LoRA adapter, as PEFT saves it, beside the model in DIR into the new folder OUT, a product of its own.

    The base's files stay as they are, by links where the disk can, so its root says which base and which adapter it is,
    and a node that has the base needs a few megabytes more. A manifest is still to be written: joule model manifest
    OUT.
    """
    from node.model_directory import adapt_model

    if name is not None and not re.fullmatch(r"[A-Za-z0-9._-]{1,48}", name):
        raise click.BadParameter("give letters, digits, dots, dashes and underscores", param_hint="--name")
    _tell(target, adapt_model(directory, adapter, target, name=name), as_json=as_json)


@click.command(epilog=examples("joule model verify ./model", "joule model verify ./model --blocks 0:2 --json"))
@directory_argument
@click.option("--blocks", metavar="START:END", help="Only what these blocks need.  [default: all]")
@configured(ClientConfig, only=("data_dir",))
@json_option
def verify(directory: Path, blocks: str | None, config: ClientConfig, as_json: bool) -> None:
    """Hold the files in DIR against its manifest, every byte that is needed; the exit status is 1 where one differs."""
    from node.app.models.held_model import HASHES_FILE
    from node.model_directory import HashMemory, check_model, model_facts, read_manifest

    facts = model_facts(directory)
    span = BlockSpan(start=0, end=facts.blocks)
    if blocks is not None:
        try:
            found = Span().parse(blocks)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--blocks") from None
        if isinstance(found, str):
            raise click.BadParameter("name the blocks", param_hint="--blocks")
        span = BlockSpan(start=found[0], end=found[1])
    kept = HashMemory(config.data_dir / HASHES_FILE)
    precision = facts.precisions[0]
    manifest = read_manifest(directory, precision=precision)
    check_model(directory, manifest, span, hashes=kept.unread())
    made = VerifiedModel(name=manifest.name, precision=precision, root=manifest.root, blocks=str(span))
    if as_json:
        print_json(made)
        return
    click.echo(
        f"blocks {made.blocks} of {made.name} are what the manifest says; root {made.precision} {made.root.hex()}"
    )


@click.command(epilog=examples("joule model card ./model", "joule model card ./model --json"))
@directory_argument
@configured(ClientConfig, only=("data_dir",))
@json_option
def card(directory: Path, config: ClientConfig, as_json: bool) -> None:
    """Print a model's card as Markdown: what it is, its licence and roots, and in what spot checks can judge it."""
    from node.app.models.held_model import HASHES_FILE
    from node.app.models.survey import survey
    from node.model_directory import HashMemory, stored_numbers
    from protocol.models.precisions import PRECISIONS

    found = survey(directory, HashMemory(config.data_dir / HASHES_FILE))
    made = ModelCard(
        name=found.name,
        license=found.license,
        architecture=found.architecture,
        blocks=found.blocks,
        parameters=stored_numbers(directory),
        weight_bytes=sum(each.size for each in found.files if each.name.endswith(".safetensors")),
        context=found.max_context,
        roots=found.roots,
        audited=tuple(each for each in found.roots if PRECISIONS[each].tolerance is not None),
    )
    if as_json:
        print_json(made)
        return
    click.echo(made.markdown())


def _tell(target: Path, size: int, *, as_json: bool) -> None:
    from node.model_directory import model_facts

    facts = model_facts(target)
    made = MadeModel(directory=str(target), name=facts.name, precisions=facts.precisions, weight_bytes=size)
    if as_json:
        print_json(made)
        return
    click.echo(
        f"{made.directory} holds {made.name}, {size / 1e6:.1f} MB of weights, for {' or '.join(made.precisions)}"
    )
