"""A log that strangers cannot fill: what they cause at will is told once in a while, with how often it came."""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["TOLD_EVERY_S", "Repeated"]

TOLD_EVERY_S = 10.0
"""The same trouble is logged once in this time."""
_KINDS = 256


class Repeated(logging.Filter):
    """Lets a message through once in `TOLD_EVERY_S`, with how often it came in between, and none about broken requests.

    A stranger causes those at will, and has been answered.
    """

    def __init__(self, harmless: tuple[type[BaseException], ...], seconds: Callable[[], float]) -> None:
        super().__init__()
        self._harmless = harmless
        self._seconds = seconds
        self._told: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show it."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, self._harmless):
            return False
        kind, now = f"{record.msg} {type(error).__name__}", self._seconds()
        told_at, missed = self._told.get(kind, (-TOLD_EVERY_S, 0))
        if now - told_at < TOLD_EVERY_S:
            self._told[kind] = (told_at, missed + 1)
            return False
        if missed:
            record.msg = f"{record.msg} ({missed} more before)"
        if len(self._told) >= _KINDS:
            self._told.clear()
        self._told[kind] = (now, 0)
        return True
