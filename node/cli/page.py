"""`joule page`: a live page of the network, of the nodes that run here, and of this machine's jobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from node.cli.terminal.options import configured, examples, json_option, keystore, read_passphrase
from node.cli.terminal.output import print_json
from node.cli.terminal.running import serve_quietly
from node.config import ClientConfig
from node.config.shared import HOST
from protocol.errors import ConfigurationError, KeystoreError
from protocol.identity.ids import Address

PORT = 8650


@dataclass(frozen=True, slots=True, kw_only=True)
class PageReady:
    """Where the page is."""

    url: str
    """To open in a browser."""


@click.command(epilog=examples("joule page", "joule page --host 192.0.2.7 --password-file page-password"))
@configured(ClientConfig, only=("ledger", "peers", "witnesses", "key", "data_dir", "log_level"))
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="Where to listen.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=PORT, show_default=True, metavar="PORT", help="0 is any free one."
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Ask for the password on the file's first line, under any name. Needed where others reach the page.",
)
@json_option
def page(config: ClientConfig, host: str, port: int, password_file: Path | None, as_json: bool) -> None:
    """Serve a live page on this machine: the network, the nodes that run here, and the jobs that were run from here.

    It reads what nodes and clients keep in the data directory, and listens to the network's offers. It needs no
    passphrase, and changes nothing. Stop it with Ctrl-C.
    """
    try:
        HOST.parse(host)
    except ValueError as error:
        raise ConfigurationError(f"--host: {error}", hint="give a name or an IP address") from None
    password = None if password_file is None else read_passphrase(password_file, "")
    if password == "":
        raise ConfigurationError(f"the password in {password_file} is empty", hint="write one on its first line")

    def ready(url: str) -> None:
        if as_json:
            print_json(PageReady(url=url))
        else:
            click.echo(f"ready: the page is at {url}")

    from node.app.buying.client import open_client
    from node.cli.terminal.output import tell
    from node.page import Gatherer, serve_page

    async def run() -> None:
        async with open_client(config, None, tell(config, err=True)) as client:
            gatherer = Gatherer(config, client, _address(config))
            try:
                await serve_page(gatherer.state, host=host, port=port, password=password, ready=ready)
            finally:
                await gatherer.close()

    serve_quietly(run())
    if not as_json:
        click.echo("stopped")


def _address(config: ClientConfig) -> Address | None:
    try:
        return keystore(config.data_dir).find(config.key).address
    except KeystoreError:
        return None
