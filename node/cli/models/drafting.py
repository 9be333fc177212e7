"""`joule model draft`: a small model that guesses for a large one, of the large one's own layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from node.cli.terminal.options import examples, json_option
from node.cli.terminal.output import print_json
from node.importing import importing
from protocol.errors import ModelError

__all__ = ["MadeDraft", "draft"]

LONGEST = 384
"""Tokens of a sample that layers are compared on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeDraft:
    """A draft that was made of some layers of a model."""

    directory: str
    """Where it lies."""
    name: str
    """Of the draft, for people."""
    layers: tuple[int, ...]
    """Of the model, counted from 0."""
    agreement_ppm: int
    """Share of the sample's positions at which it finds the same token likeliest as the model, in millionths."""
    evenly_ppm: int
    """Likewise, of as many layers taken evenly."""
    sample_tokens: int
    """Of the text that they were compared on."""
    weight_bytes: int
    """Of its tensors."""


@click.command(
    epilog=examples(
        "joule model draft ./model ./draft", "joule model draft ./model ./draft --keep 4 --sample chats.txt"
    )
)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--keep", type=click.IntRange(1), metavar="N", help="How many layers.  [default: half]")
@click.option(
    "--sample",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A text such as the model will be asked for.  [default: one that comes with joulemesh]",
)
@json_option
def draft(directory: Path, target: Path, keep: int | None, sample: Path | None, as_json: bool) -> None:
    """Choose the layers of the model in DIR that guess best for it, and write them into the new folder OUT.

    Layers are left out one by one, each time the one that is missed least, by how often what is left finds the same
    next token likeliest as the whole model. A node serves with it by --drafter model --draft-model OUT; it changes no
    answer. The whole model is loaded.
    """
    from node.app.models.held_out import encoder_of, sample_of
    from node.model_directory import model_facts, prune_model

    facts = model_facts(directory)
    kept = max(1, facts.blocks // 2) if keep is None else keep
    if kept >= facts.blocks:
        raise ModelError(f"{kept} of {facts.blocks} layers are no smaller model", hint="keep fewer")
    if target.exists():
        raise ModelError(f"{target} is there already", hint="name a folder that is not there yet")
    ids = list(encoder_of(directory)(sample_of(sample), True))[: min(LONGEST, facts.max_context)]
    with importing():
        from node.engine.layer_choice import choose_layers, evenly
        from node.engine.loader import load_span

        span = load_span(directory, 0, facts.blocks, dtype=facts.precisions[0])
    even = evenly(span, ids, kept)
    chosen = max(choose_layers(span, ids, kept), even, key=lambda each: each.agreement_ppm)
    made = MadeDraft(
        directory=str(target),
        weight_bytes=prune_model(directory, target, chosen.layers),
        name=model_facts(target).name,
        layers=chosen.layers,
        agreement_ppm=chosen.agreement_ppm,
        evenly_ppm=even.agreement_ppm,
        sample_tokens=len(ids),
    )
    if as_json:
        print_json(made)
        return
    agrees, evenly_agree = made.agreement_ppm / 10_000, made.evenly_ppm / 10_000
    click.echo(
        f"{made.directory} holds {made.name}, layers {','.join(map(str, made.layers))}: "
        f"the same next token as the model at {agrees:.1f} % of {made.sample_tokens} positions "
        f"({evenly_agree:.1f} % with as many layers taken evenly)"
    )
