"""An answer on stdout, piece by piece, while events are told on stderr."""

from __future__ import annotations

import sys

import click

from node.screen import screen_text

__all__ = ["AnswerStream"]


class AnswerStream:
    """What comes of an answer is printed at once. Where both streams end on one terminal, neither breaks the other."""

    def __init__(self) -> None:
        self._in_line = False

    def write(self, piece: str) -> None:
        """Print the next piece."""
        click.echo(screen_text(piece), nl=False)
        if piece:
            self._in_line = not piece.endswith("\n")

    def leave_line(self) -> None:
        """To be called before something else is told: on a terminal it begins on a line of its own.

        Only the terminal sees that: what is read from stdout is the answer alone.
        """
        if self._in_line and sys.stdout.isatty() and sys.stderr.isatty():
            click.echo(err=True)
            self._in_line = False
