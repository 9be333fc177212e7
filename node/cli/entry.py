"""The command tree, and `main`."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from node.cli.terminal.boundary import extra_for, report, wants_json
from node.cli.terminal.options import examples
from node.config import default_data_dir
from node.importing import UNUSED, importing, put_off

__all__ = ["COMMANDS", "PLUGINS", "joule", "main"]

COMMANDS = {
    "key": "node.cli.accounts.key:key",
    "ledger": "node.cli.ledgers.ledger:ledger",
    "witness": "node.cli.ledgers.witness:witness",
    "anchor": "node.cli.selling.anchor:anchor",
    "attest": "node.cli.selling.attest:attest",
    "model": "node.cli.models.model:model",
    "bench": "node.cli.selling.bench:bench",
    "node": "node.cli.selling.provider:node",
    "energy": "node.cli.selling.energy:energy",
    "tariff": "node.cli.selling.tariff:tariff",
    "earnings": "node.cli.selling.earnings:earnings",
    "sessions": "node.cli.selling.settling:sessions",
    "settle": "node.cli.selling.settling:settle",
    "watch": "node.cli.selling.settling:watch",
    "offers": "node.cli.buying.offers:offers",
    "market": "node.cli.buying.market:market",
    "policy": "node.cli.buying.policy:policy",
    "route": "node.cli.buying.route:route",
    "run": "node.cli.buying.run:run",
    "submit": "node.cli.buying.submit:submit",
    "chat": "node.cli.buying.chat:chat",
    "gateway": "node.cli.gateway:gateway",
    "receipt": "node.cli.buying.receipt:receipt",
    "audit": "node.cli.buying.audit:audit",
    "peers": "node.cli.buying.peers:peers",
    "balance": "node.cli.accounts.money:balance",
    "reclaim": "node.cli.accounts.money:reclaim",
    "faucet": "node.cli.accounts.money:faucet",
    "deposit": "node.cli.accounts.money:deposit",
    "withdraw": "node.cli.accounts.money:withdraw",
    "stake": "node.cli.accounts.stakes:stake",
    "unstake": "node.cli.accounts.stakes:unstake",
    "unbond": "node.cli.accounts.stakes:unbond",
    "contract": "node.cli.ledgers.contract:contract",
    "demo": "node.cli.demo:demo",
    "doctor": "node.cli.selling.doctor:doctor",
    "status": "node.cli.status:status",
    "completion": "node.cli.completion:completion",
    "unit": "node.cli.selling.setup:unit",
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
