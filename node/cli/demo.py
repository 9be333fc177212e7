"""`joule demo`: the whole thread on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from node.cli.boundary import FAILED
from node.cli.options import examples, json_option
from node.cli.output import print_json
from node.cli.running import run_job
from node.json_values import plain
from node.screen import screen_text

if TYPE_CHECKING:
    from node.app.audit import AuditReport


@click.command(epilog=examples("joule demo", "joule demo 'Reverse \"stone\":'", "joule demo --json"))
@click.argument("prompt", metavar="[PROMPT]", required=False)
@json_option
def demo(prompt: str | None, as_json: bool) -> int:
    """Run a ledger, three nodes and one paid job on this machine, then stop everything.

    It uses keys, state and ports of its own, and removes them. The exit status is 1 unless the answer came whole, its
    receipt verifies, and the spot check agrees.
    """
    from node.demo.run import run_demo

    say, write = (_ignore, _ignore) if as_json else (_say, _write)
    result, interrupted = run_job(run_demo(prompt, say=say, write=write))
    if as_json:
        print_json({**plain(result.report), "audit": plain(result.audit)})
    else:
        from node.cli.report import print_report

        print_report(result.report, audit=None if result.audit is None else _audit_line(result.audit))
    return interrupted or (0 if result.passed else FAILED)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _write(piece: str) -> None:
    click.echo(screen_text(piece), nl=False)


def _ignore(_text: str) -> None:
    """With --json there is only the report."""


def _audit_line(audit: AuditReport) -> str:
    windows = "window 1" if audit.windows_judged == 1 else f"windows 1 to {audit.windows_judged}"
    legs = "leg 0" if audit.legs_judged == 1 else f"legs 0 to {audit.legs_judged - 1}"
    judged = f"{windows} of {audit.windows}, {legs}"
    convicts = "" if audit.convicts is None else f", convicts leg {audit.convicts}"
    return (
        f"spot check: {judged} executed again: {audit.verdict}{convicts} "
        f"({audit.distance_ppm} ppm apart, {audit.limit_ppm} allowed)"
    )
