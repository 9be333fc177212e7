"""How far something has come, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

__all__ = ["counted"]


def counted(what: str) -> Callable[[int, int], None]:
    """Draws one changing line on a terminal's stderr, nothing anywhere else; called with how many of how many."""
    terminal = sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        if terminal:
            click.echo(f"\r\x1b[K{done} of {total} {what}" if done < total else "\r\x1b[K", nl=False, err=True)

    return show
