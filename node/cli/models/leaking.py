"""`joule model leaks`: how much of a text can be told from what travels between legs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.terminal.options import examples, json_option
from node.cli.terminal.output import print_json, print_table
from node.config import default_data_dir

if TYPE_CHECKING:
    from node.app.models.leaks import ModelLeaks
    from node.engine.leaked import Attacked

__all__ = ["leaks"]


@click.command(epilog=examples("joule model leaks ./model", "joule model leaks ./model --sample chats.txt --json"))
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--sample",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A text such as the model will be asked with, which the attacks are to tell.  "
    "[default: one that comes with joulemesh]",
)
@json_option
def leaks(directory: Path, sample: Path | None, as_json: bool) -> None:
    """Attack the model in DIR: how many token ids of a text can be told from the rows at each cut between its blocks.

    A leg that begins at block N is handed the rows of cut N. Whoever has the model's embedding takes the nearest row of
    it (nearest); who has other rows, too, whose tokens it knows, fits a map to them first (trained); who has the blocks
    before the cut tries tokens until one makes the row that came (search). The whole model is loaded. What is found is
    kept, and `joule run --explain-privacy` shows it.
    """
    from node.app.models.held_model import HASHES_FILE
    from node.app.models.leaks import keep_leaks, measure_leaks
    from node.model_directory import HashMemory

    data_dir = default_data_dir()
    found = measure_leaks(directory, sample, HashMemory(data_dir / HASHES_FILE))
    keep_leaks(found, data_dir)
    if as_json:
        print_json(found)
    else:
        _tell(found)


def _tell(found: ModelLeaks) -> None:
    from node.engine.leaked import ATTACKS

    rows = []
    for cut in found.cuts:
        by_attack = {each.attack: each for each in cut.attacks}
        where = "the embedding" if cut.cut == 0 else f"block {cut.cut - 1}"
        rows.append([str(cut.cut), where, *(_share(by_attack.get(each)) for each in ATTACKS)])
    print_table(("cut", "rows after", *(f"{each} (95 %)" for each in ATTACKS)), rows)
    click.echo(
        f"\n{found.told_tokens} tokens of a text to tell, {found.known_tokens} known ones of another; "
        f"{found.chance_ppm / 10_000:.1f} % by always saying the commonest"
    )


def _share(found: Attacked | None) -> str:
    if found is None:
        return "-"
    return f"{found.share_ppm / 10_000:.1f} % ({found.low_ppm / 10_000:.1f} to {found.high_ppm / 10_000:.1f})"
