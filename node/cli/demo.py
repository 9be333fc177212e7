"""`joule demo`: the whole thread on this machine."""

from __future__ import annotations

import click

from node.cli.options import examples, json_option
from node.cli.running import run_job


@click.command(epilog=examples("joule demo", 'joule demo "Reverse: abc"', "joule demo --json"))
@click.argument("prompt", metavar="[PROMPT]", required=False)
@json_option
def demo(prompt: str | None, as_json: bool) -> int:
    """Run a ledger, three nodes and one paid job on this machine, then stop everything.

    It uses keys, state and ports of its own, and removes them.
    """
    from node.demo.run import run_demo

    status, interrupted = run_job(run_demo(prompt, as_json=as_json))
    return interrupted or status
