"""`joule audit`: re-execute a drawn window of a job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.app.buying.kept_receipts import read_bundle
from node.cli.buying.receipt import file_argument
from node.cli.terminal.boundary import FAILED
from node.cli.terminal.options import configured, examples, json_option
from node.cli.terminal.output import print_facts, print_json, tell
from node.cli.terminal.running import run_job
from node.config import ClientConfig
from node.json_values import plain
from protocol.identity.ids import checksum_address
from protocol.reputation.standing import Deed

if TYPE_CHECKING:
    from node.app.buying.audit import AuditReport


@click.command(epilog=examples("joule audit story.json --model ./model", "joule audit second.json --before first.json"))
@file_argument
@configured(ClientConfig, only=("data_dir", "log_level"))
@click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The model's directory; it must be the very model of the receipt.  [default: the demo model]",
)
@click.option(
    "--before",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    multiple=True,
    help="The receipt of the session that this one continues; again for those before that one.",
)
@json_option
def audit(config: ClientConfig, file: Path, model: Path | None, before: tuple[Path, ...], as_json: bool) -> int:
    """Spot-check a job: run a drawn part of it again, and compare it with what the providers signed.

    A window and a leg are drawn from a checkpoint that no provider knew when it signed; all legs up to that one are
    executed again in all windows up to that one. The verdict is match, mismatch (which convicts one leg), or
    inconclusive. The exit status is 1 unless it is a match. A provider that is convicted is remembered: routes do
    without it, where there is another, for 30 days (`joule peers`).
    """
    from node.app.buying.audit import audit_bundle
    from protocol.receipts.audit import Verdict

    found = audit_bundle(read_bundle(file), model, [read_bundle(each) for each in before])
    if found.convicts is not None:
        run_job(_remember(config, found))
        click.echo(
            f"{checksum_address(found.provider)} is left out of routes from now on, where there is another", err=True
        )
    if as_json:
        print_json(found)
    else:
        facts = plain(found)
        print_facts({name.replace("_", " "): str(value) for name, value in facts.items() if value is not None})
    return 0 if found.verdict is Verdict.MATCH else FAILED


async def _remember(config: ClientConfig, found: AuditReport) -> None:
    from node.app.network.peers import open_peers

    async with open_peers(config.data_dir, None, tell(config, err=True)) as memory:
        memory.note(found.provider, Deed.MISMATCHED, about=found.reason)
