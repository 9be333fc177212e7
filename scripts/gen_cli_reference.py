"""Write docs/reference/cli.md and configuration.md from the command tree and the settings; --check only compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from node.cli.entry import COMMANDS, joule
from node.config import ClientConfig, GatewayConfig, LedgerConfig, MarketConfig, NodeConfig, WitnessConfig
from node.settings import Setting, declared

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"
GENERATED = "<!-- Written by scripts/gen_cli_reference.py. -->\n"
WIDTH = 100


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """Path and help of a command and of those under it."""
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in COMMANDS if command is joule else command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from commands(found, click.Context(found, info_name=name, parent=context, **_size()))


def _size() -> dict[str, Any]:
    return {"terminal_width": WIDTH, "max_content_width": WIDTH, "help_option_names": ["-h", "--help"]}


def cli_page() -> str:
    """The help of every command."""
    parts = [
        GENERATED,
        "# Commands\n",
        "What `--help` prints. Exit statuses: 0 done, 1 an error that is explained, 2 wrong",
    ]
    parts[-1] += " usage, 70 a defect (a crash report is written), 130 or 143 stopped by a signal.\n"
    for path, text in commands(joule, click.Context(joule, info_name="joule", **_size())):
        own = text.partition("\nCommands:\n") if path == "joule" else (text, "", "")
        shown = own[0] + own[1] + _without_plugins(own[2])
        parts.append(f"## `{path}`\n\n```text\n{shown.rstrip()}\n```\n")
    return "\n".join(parts)


def _without_plugins(listing: str) -> str:
    """What is installed beside us is no part of our reference."""
    return "\n".join(line for line in listing.split("\n") if "  Added by " not in line)


def configuration_page() -> str:
    """Every setting, by program and table."""
    parts = [GENERATED, "# Settings\n"]
    parts.append(
        "A flag overrides an environment variable, which overrides the file given with `--config`. In a file a\n"
        "setting is `name = value` under its table. `joule node init` writes a commented file.\n\n"
        "Besides these, `JOULE_PASSPHRASE` holds a passphrase ([Keep keys](../how-to/keys.md)).\n"
    )
    for title, cls in (
        ("A node: `joule node run`", NodeConfig),
        ("A ledger: `joule ledger run`", LedgerConfig),
        ("A client: `joule run`, `joule offers`, `joule balance`", ClientConfig),
        ("A gateway: `joule gateway run`, with all settings of a client besides", GatewayConfig),
        ("A market: a file of `joule gateway run --market`, where its flags and variables do not count", MarketConfig),
        ("A witness: `joule witness run`", WitnessConfig),
    ):
        parts.append(f"## {title}\n")
        tables: dict[str, list[Setting]] = {}
        for each in declared(cls):
            if cls is GatewayConfig and each.table not in ("gateway", "edge") and each.name != "metrics_port":
                continue  # a client's, above
            tables.setdefault(each.table, []).append(each)
        for table, settings in tables.items():
            parts.append(f"### `[{table}]` {title.partition(':')[0].removeprefix('A ')}\n")
            parts.append("| setting | flag, variable | takes | default | |\n|---|---|---|---|---|")
            parts += [_row(each) for each in settings]
            parts.append("")
    return "\n".join(parts)


def _row(each: Setting) -> str:
    cells = [f"`{each.name}`", f"`{each.flag}` `{each.variable}`", each.kind.describe(), each.default_text, each.about]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> int:
    pages = {"cli.md": cli_page(), "configuration.md": configuration_page()}
    check, stale = sys.argv[1:] == ["--check"], []
    for name, text in pages.items():
        file = REFERENCE / name
        if file.exists() and file.read_text() == text:
            continue
        stale.append(name)
        if not check:
            file.write_text(text)
            print(f"wrote {file}")
    if check and stale:
        print(f"out of date: {', '.join(stale)}; run scripts/gen_cli_reference.py")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
