"""`joule model check`: whether this machine computes a model as an engine has to, for whoever adds one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from node.cli.terminal.options import examples, json_option
from node.cli.terminal.output import print_json, print_table
from node.engine.claim import Claim
from node.importing import importing
from node.settings.kinds import Span
from protocol.errors import ConfigurationError, ModelError
from protocol.identity.ids import BlockSpan

__all__ = ["CheckedModel", "check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedModel:
    """A model that was tried on this machine."""

    name: str
    """Of the model, for people."""
    precision: str
    """That it was computed in."""
    blocks: str
    """That were loaded, as ``first:end``."""
    holds: bool
    """Whether every promise was kept."""
    claims: tuple[Claim, ...]
    """In the order in which they were tried."""


@click.command(
    epilog=examples(
        "joule model check ./model",
        "joule model check ./model --precision bf16 --blocks 0:4 --json",
    )
)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--precision", metavar="WORD", help="As it would be sold.  [default: the model's first]")
@click.option("--blocks", metavar="START:END", help="Load only these.  [default: all]")
@click.option(
    "--reference",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Hold the logits against another implementation's: a .npz file with ids and logits.",
)
@json_option
def check(directory: Path, precision: str | None, blocks: str | None, reference: Path | None, as_json: bool) -> int:
    """Load the model in DIR and try what clients and auditors rely on; the exit status is 1 where something fails.

    Rows must be the same in pieces and whole, alone and beside other sessions, after a rollback, wherever blocks are
    cut; draws must depend on seed and position alone; nonsense must be refused. Rows are compared as spot checks do.
    """
    from node.model_directory import model_facts

    facts = model_facts(directory)
    sold = precision or facts.precisions[0]
    if sold not in facts.precisions:
        raise ModelError(f"the model cannot be served in {sold}", hint=f"choose {' or '.join(facts.precisions)}")
    span = _span(blocks, facts.blocks)
    if reference is not None and len(span) != facts.blocks:
        raise ConfigurationError("a reference is of the whole model", hint="leave --blocks out")
    with importing():
        from node.engine.conformance import ROOM, Conformance, against, read_reference
        from node.engine.engine import Engine

        known = None if reference is None else read_reference(reference, facts)
        engine = Engine.load(directory, span.start, span.end, kv_tokens=ROOM, dtype=sold)
    claims = list(Conformance(engine, facts, span, precision=sold).run())
    if known is not None:
        claims.append(against(engine, known, precision=sold))
    holds = all(each.holds for each in claims)
    made = CheckedModel(name=facts.name, precision=sold, blocks=str(span), holds=holds, claims=tuple(claims))
    if as_json:
        print_json(made)
    else:
        _tell(made)
    return 0 if holds else 1


def _span(blocks: str | None, most: int) -> BlockSpan:
    if blocks is None:
        return BlockSpan(start=0, end=most)
    try:
        found = Span().parse(blocks)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--blocks") from None
    if isinstance(found, str):
        raise click.BadParameter("name the blocks", param_hint="--blocks")
    return BlockSpan(start=found[0], end=found[1])


def _tell(made: CheckedModel) -> None:
    rows = [
        [
            each.name,
            "holds" if each.holds else "FAILS",
            "" if each.apart_ppm is None else f"{each.apart_ppm:,} of {each.allowed_ppm:,} ppm",
            each.trouble,
        ]
        for each in made.claims
    ]
    print_table((f"{made.name}, blocks {made.blocks}, {made.precision}", "", "rows apart", "trouble"), rows)
