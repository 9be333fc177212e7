"""Ending an answer before a text that its reader does not want."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Stops"]


class Stops:
    """Text goes in piece by piece; what comes out cannot be the beginning of a stop any more."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._kept = ""
        self.found = False
        """Whether one of them came: nothing is handed out after it."""

    def take(self, piece: str) -> str:
        """What may be handed out now."""
        if self.found:
            return ""
        text = self._kept + piece
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.found, self._kept = True, ""
            return text[: min(places)]
        keep = max((_begun(text, stop) for stop in self._stops), default=0)
        self._kept = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was kept back, at the end of the answer."""
        kept, self._kept = self._kept, ""
        return kept


def _begun(text: str, stop: str) -> int:
    """Characters at the end of a text that a stop begins with."""
    return next((length for length in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:length])), 0)
