"""`joule audit`: re-execute a drawn window of a job."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.boundary import FAILED
from node.cli.options import examples, json_option
from node.cli.output import print_facts, print_json
from node.cli.receipt import file_argument, read_bundle
from node.json_values import plain


@click.command(epilog=examples("joule audit story.json --model ./model"))
@file_argument
@click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The model's directory; it must be the very model of the receipt.  [default: the demo model]",
)
@json_option
def audit(file: Path, model: Path | None, as_json: bool) -> int:
    """Spot-check a job: run a drawn part of it again, and compare it with what the providers signed.

    A window and a leg are drawn from a checkpoint that no provider knew when it signed; all legs up to that one are
    executed again in all windows up to that one. The verdict is match, mismatch (which convicts one leg), or
    inconclusive. The exit status is 1 unless it is a match.
    """
    from node.app.audit import audit_bundle
    from protocol.audit import Verdict

    found = audit_bundle(read_bundle(file), model)
    if as_json:
        print_json(found)
    else:
        facts = plain(found)
        print_facts({name.replace("_", " "): str(value) for name, value in facts.items() if value is not None})
    return 0 if found.verdict is Verdict.MATCH else FAILED
