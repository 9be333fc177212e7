"""`backup`, `restore` and `migrate`, of `joule ledger` and of `joule gateway`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import click

from node.cli.accounts.money import local_time
from node.cli.terminal.options import configured, examples, json_option
from node.cli.terminal.output import print_facts, print_json
from node.cli.terminal.progress import counted
from node.config import GatewayConfig, LedgerConfig

__all__ = ["keeping_commands"]

_FOLDER = click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False))


def keeping_commands(service: str, settings: type[LedgerConfig] | type[GatewayConfig]) -> Iterator[click.Command]:
    """The three, for a service with these settings."""
    used = ("database", "data_dir") if settings is LedgerConfig else ("data_dir",)

    @click.command(epilog=examples(f"joule {service} backup /var/backups/{service}-monday"))
    @_FOLDER
    @configured(settings, only=used)
    @json_option
    def backup(config: LedgerConfig | GatewayConfig, folder: Path, as_json: bool) -> None:
        from node.app.daemons.backups import backup as make

        made = make(config, folder)
        if as_json:
            print_json(made)
        else:
            click.echo(f"{made.files} files, {made.size} bytes, in {made.folder}")

    @click.command(epilog=examples(f"joule {service} restore /var/backups/{service}-monday --data-dir ./restored"))
    @_FOLDER
    @configured(settings, only=("data_dir",))
    @json_option
    def restore(config: LedgerConfig | GatewayConfig, folder: Path, as_json: bool) -> None:
        from node.app.daemons.backups import restore as put

        done = asyncio.run(put(config, folder, progress=counted("entries")))
        if as_json:
            print_json(done)
            return
        facts = {"in": done.folder, "as of": local_time(done.made_at)}
        if done.entries is not None:
            facts["log"] = f"{done.entries} entries, each follows the rules; root {(done.root or b'').hex()}"
        print_facts(facts)

    @click.command(epilog=examples(f"joule {service} migrate"))
    @configured(settings, only=used)
    @json_option
    def migrate(config: LedgerConfig | GatewayConfig, as_json: bool) -> None:
        from node.app.daemons.backups import migrate as bring

        done = asyncio.run(bring(config))
        if as_json:
            print_json(done)
        elif done.before == done.now:
            click.echo(f"the tables are of version {done.now} already")
        else:
            kept = "" if done.copy is None else f"; what it was is in {done.copy}"
            click.echo(f"the tables went from version {done.before} to {done.now}{kept}")

    for command, text in zip((backup, restore, migrate), _TEXTS[service], strict=True):
        command.help = text
        yield command


_TEXTS = {
    "ledger": (
        "Copy a ledger to a new FOLDER: its database as of one moment, and its keys; also while it runs.\n\n"
        "Who has the backup can sign checkpoints for this ledger: keep it as the key itself.",
        "Put a backup from FOLDER in place, where there is no ledger yet; its whole log is replayed first.\n\n"
        "Checkpoints that others have seen since the backup contradict it from then on: only the newest backup of a "
        "ledger that is lost should run again.",
        "Bring the database of a ledger that does not run to the tables of this version.\n\n"
        "A SQLite file is copied beside itself first; of PostgreSQL make a backup with its own tools.",
    ),
    "gateway": (
        "Copy a gateway's API keys, what they have spent, and its batches to a new FOLDER; also while it runs.\n\n"
        "Of an API key the backup has the hash alone. Its account's key is in the keystore, and not in the backup.",
        "Put a backup from FOLDER in place, where there is no gateway yet.\n\n"
        "What API keys have spent since the backup is forgotten: their budgets have it again.",
        "Bring the API keys of a gateway that does not run to the tables of this version. They are copied first.",
    ),
}
