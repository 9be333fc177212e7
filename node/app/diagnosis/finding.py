"""One line of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    level: str
    """``ok``, ``note`` (works without it) or ``fail`` (something will not work)."""
    what: str
    """What was looked at."""
    detail: str
    """What was found."""
    fix: str = ""
    """What to do; empty where nothing has to be done."""
