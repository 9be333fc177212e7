"""The command tree, and `main`."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from node.cli.boundary import extra_for, report, wants_json
from node.cli.options import examples
from node.config import default_data_dir
from node.importing import UNUSED, importing, put_off

__all__ = ["COMMANDS", "PLUGINS", "joule", "main"]

COMMANDS = {
    "key": "node.cli.key:key",
    "ledger": "node.cli.ledger:ledger",
    "witness": "node.cli.witness:witness",
    "anchor": "node.cli.anchor:anchor",
    "attest": "node.cli.attest:attest",
    "model": "node.cli.model:model",
    "bench": "node.cli.bench:bench",
    "node": "node.cli.provider:node",
    "energy": "node.cli.energy:energy",
    "tariff": "node.cli.tariff:tariff",
    "earnings": "node.cli.earnings:earnings",
    "sessions": "node.cli.settling:sessions",
    "settle": "node.cli.settling:settle",
    "watch": "node.cli.settling:watch",
    "offers": "node.cli.offers:offers",
    "market": "node.cli.market:market",
    "policy": "node.cli.policy:policy",
    "route": "node.cli.route:route",
    "run": "node.cli.run:run",
    "submit": "node.cli.submit:submit",
    "chat": "node.cli.chat:chat",
    "gateway": "node.cli.gateway:gateway",
    "receipt": "node.cli.receipt:receipt",
    "audit": "node.cli.audit:audit",
    "peers": "node.cli.peers:peers",
    "balance": "node.cli.money:balance",
    "reclaim": "node.cli.money:reclaim",
    "faucet": "node.cli.money:faucet",
    "deposit": "node.cli.money:deposit",
    "withdraw": "node.cli.money:withdraw",
    "stake": "node.cli.stakes:stake",
    "unstake": "node.cli.stakes:unstake",
    "unbond": "node.cli.stakes:unbond",
    "contract": "node.cli.contract:contract",
    "demo": "node.cli.demo:demo",
    "doctor": "node.cli.doctor:doctor",
    "status": "node.cli.status:status",
    "completion": "node.cli.completion:completion",
    "unit": "node.cli.setup:unit",
    "page": "node.cli.page:page",
}
"""Where each command is, in the order in which a newcomer meets them."""

PLUGINS = "joulemesh.commands"
"""Entry point group for the commands of other packages; one without a name of ours is added as it is."""


class CommandTree(click.Group):
    """Imports a command when it is used, so that ``joule --help`` does not load the network."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(_plugins())]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            module, attribute = COMMANDS[name].split(":")
            with importing():
                found: click.Command = getattr(importlib.import_module(module), attribute)
            return found
        plugin = _plugins().get(name)
        return None if plugin is None else _load(plugin)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Like any group's, but a plug-in is named without being loaded."""
        rows = []
        for name in COMMANDS:
            command = self.get_command(ctx, name)
            if command is not None:
                rows.append((name, command.get_short_help_str(limit=200)))
        rows += [(name, f"Added by {plugin.value.partition('.')[0]}.") for name, plugin in sorted(_plugins().items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@functools.cache
def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=PLUGINS) if point.name not in COMMANDS}


def _load(plugin: EntryPoint) -> click.Command:
    try:
        command: click.Command = plugin.load()
    except ModuleNotFoundError as missing:
        error = extra_for(missing)
        raise missing if error is None else error from None
    return command


def _show_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"joule {version('joulemesh')}")
        ctx.exit()


@click.group(
    cls=CommandTree,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=examples("joule demo", 'joule run "Tell me a story."', "joule node run --help"),
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show version."
)
def joule() -> None:
    """Buy and sell AI tokens, peer to peer, priced from the wall socket up.

    Every command takes --help, which ends in an example, and every one that prints takes --json.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends in SystemExit, whatever happens."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    put_off(*UNUSED)
    sys.exit(status_of(given))


def status_of(arguments: list[str]) -> int:
    """Run one command; returns its exit status. The task boundary of the whole program."""
    try:
        outcome: Any = joule.main(args=arguments, prog_name="joule", standalone_mode=False)
        sys.stdout.flush()
        return outcome if type(outcome) is int else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:  # noqa: BLE001 - becomes a crash report
        return report(error, as_json=wants_json(arguments), crash_folder=default_data_dir())
