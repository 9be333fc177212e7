"""`joule demo`: the whole thread on this machine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import click

from node.cli.terminal.boundary import FAILED
from node.cli.terminal.options import examples, json_option
from node.cli.terminal.output import money, print_json
from node.cli.terminal.running import run_job
from node.cli.terminal.streaming import AnswerStream
from node.json_values import plain

if TYPE_CHECKING:
    from node.app.buying.audit import AuditReport
    from node.demo.result import DemoResult, Killed, SitePower, Way


@click.command(
    epilog=examples(
        "joule demo",
        "joule demo 'Reverse \"stone\":'",
        "joule demo --kill",
        "joule demo --policy eu-only",
        "joule demo --venue evm",
        "joule demo --hour 18",
        "joule demo --hour 18 --policy eu-only",
        "joule demo --kill --venue evm",
        "sudo joule demo --wan",
        "joule demo --json",
    )
)
@click.argument("prompt", metavar="[PROMPT]", required=False)
@click.option("--kill", is_flag=True, help="Kill a node in the middle of the answer; another one stands by.")
@click.option("--wan", is_flag=True, help="Put 25 ms between any two hosts. Needs root, network namespaces and TUN.")
@click.option(
    "--policy",
    type=click.Choice(("eu-only",)),
    help="Ask under a policy, of four nodes in four countries: the cheapest of them is not in the EU.",
)
@click.option(
    "--venue",
    type=click.Choice(["ledger", "evm"]),
    default="ledger",
    show_default=True,
    help="Settle on an embedded ledger, or with an ERC-20 token by the contract on a test chain. Needs anvil.",
)
@click.option(
    "--hour",
    type=click.IntRange(0, 23),
    metavar="HOUR",
    help="Give the nodes tariffs by the hour, as if it were this hour in UTC: the route follows the price of power.",
)
@json_option
def demo(
    prompt: str | None, kill: bool, wan: bool, policy: str | None, venue: str, hour: int | None, as_json: bool
) -> int:
    """Run a ledger, three nodes and one paid job on this machine, then stop everything.

    It uses keys, state and ports of its own, and removes them. The exit status is 1 unless the answer came whole, its
    receipt verifies, and the spot check agrees; with --kill also unless the answer is the one that came without a
    death, and with --wan unless it came in every way. --hour, --policy and --venue go together, and --kill with
    --venue; --wan stands alone.
    """
    _require_one_report(kill=kill, wan=wan, policy=policy, venue=venue, hour=hour)
    stream = AnswerStream()

    def say(text: str) -> None:
        stream.leave_line()
        click.echo(text, err=True)

    run = _runner(kill, wan, policy, venue, hour)
    result, interrupted = run_job(
        run(prompt, say=_ignore, write=_ignore) if as_json else run(prompt, say=say, write=stream.write)
    )
    if as_json:
        print_json({**plain(result.report), **plain(result.found)})
    else:
        from node.cli.buying.report import print_report

        print_report(result.report, proof=list(_proof(result)), distance=list(_ways(result.found.ways)))
        for line in _power(result.found.power):
            click.echo(line, err=True)
    return interrupted or (0 if result.passed else FAILED)


def _require_one_report(*, kill: bool, wan: bool, policy: str | None, venue: str, hour: int | None) -> None:
    """Raises UsageError for options that do not go together."""
    others = [("--policy", policy is not None), ("--hour", hour is not None), ("--venue evm", venue == "evm")]
    given = [name for name, is_given in [("--kill", kill), *others] if is_given]
    if wan and given:
        raise click.UsageError(f"--wan does not go with {given[0]}: it has hosts for three nodes and a ledger only")
    if kill and given[1:] not in ([], ["--venue evm"]):
        problem = "the node that stands by for the killed one has no tariff, and stands outside the EU"
        raise click.UsageError(f"--kill does not go with {given[1]}: {problem}")


def _runner(
    kill: bool, wan: bool, policy: str | None, venue: str, hour: int | None
) -> Callable[..., Coroutine[Any, Any, DemoResult]]:
    if hour is not None:
        from node.demo.hours import run_hour

        return functools.partial(run_hour, hour=hour, policy=policy, venue=venue)
    if kill:
        from node.demo.kill import run_kill

        return functools.partial(run_kill, venue=venue)
    if wan:
        from node.demo.over_wan import run_wan

        return run_wan
    if policy is not None:
        from node.demo.by_law import run_by_law

        return functools.partial(run_by_law, policy=policy, venue=venue)
    from node.demo.run import run_demo

    return functools.partial(run_demo, venue=venue)


def _ignore(_text: str) -> None:
    """With --json there is only the report."""


def _proof(result: DemoResult) -> Iterator[str]:
    if result.found.audit is not None:
        yield _audit_line(result.found.audit)
    if result.found.by_law is not None:
        yield f"by law {result.found.by_law.policy}: over {', '.join(result.found.by_law.route)}"
        for left_out in result.found.by_law.left_out:
            yield f"left out {left_out}"
    for each in result.found.transactions:
        yield f"{each.operation:<8} 0x{each.transaction.hex()}, block {each.block}, {each.gas} gas"
    if result.found.killed is not None:
        yield _killed_line(result.found.killed, result.report.tokens_out)


def _audit_line(audit: AuditReport) -> str:
    one = audit.windows_judged == 1
    windows = "window 1" if one else f"windows 1 to {audit.windows_judged}"
    legs = "first leg" if audit.legs_judged == 1 else f"first {audit.legs_judged} legs"
    judged = f"{windows} of {audit.windows}, {'its' if one else 'their'} {legs},"
    convicts = "" if audit.convicts is None else f", convicts leg {audit.convicts}"
    return (
        f"spot check: {judged} executed again: {audit.verdict}{convicts} "
        f"({audit.distance_ppm} ppm apart, {audit.limit_ppm} allowed)"
    )


def _killed_line(killed: Killed, tokens: int) -> str:
    if not killed.replaced:
        return f"leg {killed.leg} was killed after {killed.tokens} tokens, and the answer went on as if it had not been"
    same = "the same text as" if killed.same_answer else "ANOTHER text than"
    return f"its {tokens} tokens are {same} without a death, with the same seed"


def _power(sites: tuple[SitePower, ...]) -> Iterator[str]:
    """What decided on the route."""
    if sites:
        yield "\nWhy this route: what power costs now, and a million generated tokens through one block"
    for site in sites:
        taken = f"takes blocks {site.taken}" if site.taken else f"left out: {site.reason}"
        yield (
            f"  {site.name:<10} {site.jurisdiction}  blocks {site.blocks}  ${money(site.micro_per_kwh)}/kWh  "
            f"${money(site.block_micro)}  {taken}"
        )


def _ways(ways: tuple[Way, ...]) -> Iterator[str]:
    width = max((len(way.name) for way in ways), default=0)
    for way in ways:
        rate = "no token" if way.tokens_per_second is None else f"{way.tokens_per_second:.1f} tokens/s"
        first = ""
        if way.seconds_to_first_token is not None:
            trips, opened = (s / way.round_trip_s for s in (way.seconds_to_first_token, way.seconds_to_open))
            first = f", the first after {trips:.1f} round trips, {opened:.1f} of them to open the session"
        yield f"{way.name:<{width}}  {rate}{first}{'' if way.same_answer else '; ANOTHER TEXT'}"
