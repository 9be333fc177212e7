"""``python -m simulator run FILE.toml``: the simulator without the node."""

from __future__ import annotations

import sys

import click

from protocol.errors import JoulemeshError
from simulator.cli import sim


def main() -> None:
    """Run the command; what the user can mend is said in two lines and a non-zero status."""
    try:
        sim(prog_name="python -m simulator")
    except JoulemeshError as error:
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
