"""`joule node`: serve blocks of a model, and write a settings file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click

from node.cli.selling.setup import setup
from node.cli.terminal.options import configured, examples, json_option, passphrase_option, unlocked
from node.cli.terminal.output import tell
from node.cli.terminal.running import serve, survive_hangups
from node.config import NodeConfig
from node.settings import template
from protocol.errors import ConfigurationError


@click.group(epilog=examples("joule node init --out node.toml", "joule node run --config node.toml"))
def node() -> None:
    """A provider: blocks of a model for hire."""


node.add_command(setup)


@node.command(
    epilog=examples(
        "joule node run --model ./model --blocks 0:2 --energy-price 0.08 --jurisdiction DE --key berlin",
        "joule node run --config node.toml --json",
    )
)
@configured(NodeConfig, again=True)
@passphrase_option
@json_option
def run(config: NodeConfig, read: Callable[[], NodeConfig], passphrase_file: Path | None, as_json: bool) -> None:
    """Serve blocks of a model until stopped: offer them, take jobs, and redeem what they earn.

    Stopping it finishes no jobs; what they have earned is redeemed at the next start at the latest.
    """
    from node.app.daemons.provider import run_node
    from node.app.process.reload import Reload
    from node.heap import share_arenas

    share_arenas()
    survive_hangups()
    events = tell(config, as_json=as_json)
    reload = Reload(config, read, events)
    reload.follow(events.follow)
    key = unlocked(config, passphrase_file)
    serve(run_node(config, key, events, reload), events=events, reload=reload)


@node.command(epilog=examples("joule node init", "joule node init --out node.toml"))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a new file.")
def init(out: Path | None) -> None:
    """Write a settings file with every setting, its unit and its default, for `joule node run --config`."""
    text = template(NodeConfig, title="Settings of a Joulemesh provider: joule node run --config FILE")
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        hint = "choose another name: an existing file is not overwritten"
        raise ConfigurationError(f"cannot write {out}: {error.strerror}", hint=hint) from None
    click.echo(f"wrote {out}; set model in it, then: joule node run --config {out}")
