"""The last values that each feed gave, on disk: a node that starts while a feed is down asks what it asked before.

They are believed for as long as the feed itself would be (`stale_after_s`), and never as if it had just said them.
Whoever can write to the folder can set what this node asks; a file that is not whole, or out of bounds, counts as none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from node.durable import replace_file
from node.tariff.description import Feed, Quantity
from node.tariff.documents import parse_json, read_bounded
from node.tariff.points import AHEAD_S, BACK_S
from protocol.energy.price_series import STEP_S
from protocol.errors import LocalError, MalformedError, PeerError

__all__ = ["KeptFeeds", "points_of"]

MAX_KEPT_BYTES = 1024 * 1024
_VERSION = 1
_UNTOLD = {"fallback", "stale_s", "refresh_s", "token_file"}
"""Fields of a feed that do not change what its values mean."""


class KeptFeeds:
    """One folder, shared by all who read the same feeds; None for nothing that is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def load(self, name: str, feed: Feed, quantity: Quantity, now: int) -> dict[int, int]:
        """Values by the start of each quarter; none where nothing is kept of this very feed, or what is is too old."""
        path = self._path(name, feed)
        if path is None or not path.exists():
            return {}
        try:
            return points_of(read_bounded(path, MAX_KEPT_BYTES), quantity, now - feed.stale_s, now)
        except (LocalError, PeerError):
            return {}

    def save(self, name: str, feed: Feed, points: Mapping[int, int], now: int) -> None:
        """Keep what a feed gave just now. A disk that takes nothing is no reason to stop."""
        path = self._path(name, feed)
        if path is None:
            return
        kept = {"version": _VERSION, "read_at": now, "points": sorted(points.items())}
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(path, json.dumps(kept).encode())
        except OSError:
            return

    def _path(self, name: str, feed: Feed) -> Path | None:
        if self._folder is None:
            return None
        told = [(each.name, str(getattr(feed, each.name))) for each in fields(feed) if each.name not in _UNTOLD]
        return self._folder / f"{name}-{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}.json"


def points_of(data: bytes, quantity: Quantity, oldest: int, now: int) -> dict[int, int]:
    """What was kept, if it was read at `oldest` or later. Raises MalformedError."""
    found = parse_json(data, "what is kept of a feed")
    if not isinstance(found, dict) or found.get("version") != _VERSION or type(found.get("read_at")) is not int:
        raise MalformedError("what is kept of a feed has another form")
    rows = found.get("points")
    if not isinstance(rows, list) or not all(_is_point(each, quantity) for each in rows):
        raise MalformedError("what is kept of a feed is out of bounds")
    if found["read_at"] < oldest:
        return {}
    return {start: value for start, value in rows if now - BACK_S <= start <= now + AHEAD_S}


def _is_point(row: Any, quantity: Quantity) -> bool:
    if not isinstance(row, list) or len(row) != 2 or not all(type(each) is int for each in row):
        return False
    start, value = row
    return bool(start % STEP_S == 0 and quantity.low <= value <= quantity.high)
