"""What libraries log through Python's `logging`: on stderr, by the same level as our own events."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import click

from node.events import Level
from node.screen import json_text, screen_line

__all__ = ["follow_logs"]

QUIET_S = 10.0
"""The same message is shown once in this time: a peer that causes one cannot fill a log with it."""
MAX_REMEMBERED = 1_000


class _Shown(logging.Handler):
    """Prints records, the first line of each; as JSON where `as_json` says so."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.as_json = False
        self._seconds = seconds
        self._last: dict[tuple[str, str], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        kind, now = (record.name, str(record.msg)), self._seconds()
        if now - self._last.get(kind, -QUIET_S) < QUIET_S:
            return
        if len(self._last) >= MAX_REMEMBERED:
            self._last.clear()
        self._last[kind] = now
        try:
            text = record.getMessage().partition("\n")[0]
            if record.exc_info and record.exc_info[1] is not None:
                text += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            click.echo(self._line(record, text), err=True)
        except Exception:  # noqa: BLE001 - logging never fails the code that logs
            self.handleError(record)

    def _line(self, record: logging.LogRecord, text: str) -> str:
        level = record.levelname.lower()
        if self.as_json:
            said = {"time": int(time.time()), "event": "library", "level": level, "name": record.name, "message": text}
            return json_text(said)
        return f"{time.strftime('%H:%M:%S')}  {level:<7}  {record.name}: {screen_line(text)}"


def follow_logs(level: Level, *, as_json: bool = False) -> None:
    """Show records of `level` and above, once for the process; called again, it changes the level and the form.

    Libraries say little that concerns a user: below warnings they are heard at the level debug alone.
    """
    root = logging.getLogger()
    if not any(isinstance(handler, _Shown) for handler in root.handlers):
        root.addHandler(_Shown())
    for handler in root.handlers:
        if isinstance(handler, _Shown):
            handler.as_json = as_json
    root.setLevel(level if level is Level.DEBUG else max(level, Level.WARNING))
