"""Which model this client means by a name: the one that it used under it before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from node.durable import replace_file

__all__ = ["KnownNames"]

MOST = 1024
"""Names that are remembered; the one that was used least lately goes first."""
ROOT_BYTES = 32


class KnownNames:
    """A file with the root that was used last under each name. One that cannot be read counts as empty.

    It is kept for comfort: who loses it is asked again which of several models is meant.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def roots(self) -> Mapping[str, bytes]:
        """Root by name, the one that was used last at the end."""
        try:
            said = json.loads(self._file.read_text(encoding="utf-8"))
            found = {name: bytes.fromhex(root) for name, root in said.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}
        return {name: root for name, root in found.items() if len(root) == ROOT_BYTES}

    def remember(self, name: str, root: bytes) -> None:
        """This model was used under this name. Raises LocalError, OSError: it cannot be written."""
        known = dict(self.roots())
        if list(known.items())[-1:] == [(name, root)]:
            return
        known.pop(name, None)
        known[name] = root
        newest = dict(list(known.items())[-MOST:])
        self._file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({each: kept.hex() for each, kept in newest.items()}, indent=1)
        replace_file(self._file, text.encode())
