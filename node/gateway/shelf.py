"""Files that callers leave with the gateway, and what is written for them: a folder, with a note beside each file.

What is here is plain text of prompts and answers, for its owner's eyes (mode 0600), until its caller deletes it.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from node.durable import replace_file
from node.gateway.refusals import ApiError

__all__ = ["MOST_FILES", "Shelf", "StoredFile", "unknown"]

MOST_FILES = 10_000
"""Of all callers."""
_IDENTITY = re.compile(r"(file|batch)-[0-9a-f]{24}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """What is noted of a file."""

    id: str
    owner: str
    """Id of the key that left it; empty where none is needed."""
    name: str
    purpose: str
    bytes: int
    created_at: int
    """Unix seconds."""

    def to_json(self) -> dict[str, Any]:
        """As OpenAI's API shows it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


class Shelf:
    """One folder. Its methods block for a moment, and may be called from any thread. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def content(self, identity: str) -> Path:
        """Where a file is."""
        return self._folder / f"{_checked(identity)}.jsonl"

    def put(self, data: bytes, *, owner: str, name: str, purpose: str, now: int) -> StoredFile:
        """Keep a file."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if sum(1 for _ in self._folder.iterdir()) >= 2 * MOST_FILES:
            raise ApiError(507, "too many files here; delete some", kind="server_error", code="no_room")
        stored = StoredFile(
            id=f"file-{secrets.token_hex(12)}",
            owner=owner,
            name=name[:128],
            purpose=purpose,
            bytes=len(data),
            created_at=now,
        )
        replace_file(self.content(stored.id), data)
        self.note(stored.id, asdict(stored))
        return stored

    def grown(self, stored: StoredFile) -> StoredFile:
        """The same, noted with as many bytes as it has now."""
        now = replace(stored, bytes=self.content(stored.id).stat().st_size)
        self.note(now.id, asdict(now))
        return now

    def file(self, identity: str, owner: str) -> StoredFile:
        """A file of this owner. Raises ApiError."""
        noted = self.noted(identity)
        if noted is None or noted["owner"] != owner or not identity.startswith("file-"):
            raise unknown("file", identity)
        return StoredFile(**noted)

    def files(self, owner: str) -> list[StoredFile]:
        """All of an owner's, newest first."""
        found = [StoredFile(**each) for each in self.all("file") if each["owner"] == owner]
        return sorted(found, key=lambda each: (-each.created_at, each.id))

    def delete(self, identity: str) -> None:
        """Forget a file and its note."""
        self.content(identity).unlink(missing_ok=True)
        self._note(identity).unlink(missing_ok=True)

    def note(self, identity: str, value: Mapping[str, Any]) -> None:
        """Keep what is to be known of something."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(self._note(identity), json.dumps(value).encode())

    def noted(self, identity: str) -> dict[str, Any] | None:
        """What is known of it; None for what there is not."""
        try:
            found: dict[str, Any] = json.loads(self._note(identity).read_bytes())
        except FileNotFoundError:
            return None
        return found

    def all(self, kind: str) -> list[dict[str, Any]]:
        """All notes of a kind: ``file`` or ``batch``."""
        if not self._folder.is_dir():
            return []
        return [json.loads(each.read_bytes()) for each in sorted(self._folder.glob(f"{kind}-*.json"))]

    def _note(self, identity: str) -> Path:
        return self._folder / f"{_checked(identity)}.json"


def _checked(identity: str) -> str:
    if not _IDENTITY.fullmatch(identity):
        raise unknown("batch" if identity.startswith("batch-") else "file", identity)
    return identity


def unknown(kind: str, identity: str) -> ApiError:
    """There is no such thing, or it is somebody else's."""
    return ApiError(
        404, f"there is no {kind} {identity[:64]!r}", kind="invalid_request_error", code=f"unknown_{kind}", param="id"
    )
