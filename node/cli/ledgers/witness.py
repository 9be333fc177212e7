"""`joule witness`: cosign the logs of other operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import click

from node.cli.terminal.options import configured, examples, json_option
from node.cli.terminal.output import print_facts, print_json, tell
from node.cli.terminal.running import serve, survive_hangups
from node.config import WitnessConfig

_LOG = "ledger.example.org/main+7bcc7f72+AaQ9niQCYoLvF+SIyhXxzF9dVkGKS9S3ELVDFFMYA2zy"


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessKey:
    """What a witness's cosignatures are checked with."""

    verifier_key: str
    """C2SP text: what ledgers, nodes and clients name the witness by."""
    second_key: str | None
    """The same of its ML-DSA-44 key, which they name beside it; null where it has none."""


@click.group(epilog=examples("joule witness key --name witness.example.org", f"joule witness run --log {_LOG}"))
def witness() -> None:
    """A witness: it cosigns the checkpoints of other operators' ledgers."""


@witness.command(epilog=examples("joule witness run --config witness.toml"))
@configured(WitnessConfig, again=True)
@json_option
def run(config: WitnessConfig, read: Callable[[], WitnessConfig], as_json: bool) -> None:
    """Run a witness until it is stopped; the first run makes its key.

    It cosigns a checkpoint only where that continues the last one that it cosigned of the same log, and serves the
    newest ones. Any log that speaks C2SP's tlog-witness may ask.
    """
    from node.app.daemons.witness import run_witness
    from node.app.process.reload import Reload

    survive_hangups()
    events = tell(config, as_json=as_json)
    reload = Reload(config, read, events)
    reload.follow(events.follow)
    serve(run_witness(config, events), events=events, reload=reload)


@witness.command(epilog=examples("joule witness key --name witness.example.org"))
@configured(WitnessConfig, only=("name", "data_dir"))
@click.option(
    "--ml-dsa",
    is_flag=True,
    help="Make a second key, of ML-DSA-44: from its next start on the witness signs with both.",
)
@json_option
def key(config: WitnessConfig, ml_dsa: bool, as_json: bool) -> None:
    """Show the witness's public key, and its second one; the first is made where there is none yet."""
    from node.app.daemons.witness import keys_of

    first, second = keys_of(config, second=ml_dsa)
    found = WitnessKey(verifier_key=first, second_key=second)
    if as_json:
        print_json(found)
    else:
        print_facts({"verifier key": found.verifier_key, **({"second key": second} if second else {})})
