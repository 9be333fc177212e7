"""The kinds of value that say which model a node serves, and where its files come from (`node.settings.kinds`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from node.settings.kinds import Folder, items_of
from node.settings.places import WebAddress

__all__ = ["Mirrors", "ModelPlace"]


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """A model directory, or the name or root of a model that is fetched."""

    metavar: str = "DIR|NAME|ROOT"
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> Path:
        return Folder().parse(raw)

    def show(self, value: Any) -> str:
        return Folder().show(value)

    @staticmethod
    def within(value: Path, folder: Path) -> Path:
        """The same, for a reader in another folder: a name stays one where no such directory is there."""
        there = folder / value
        return there if there.is_dir() or str(value).startswith(".") else value

    def describe(self) -> str:
        return "a directory, else a name in a catalogue, or the 64 hex digits of a model root"


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Web addresses and folders that have a model's files."""

    metavar: str = "URL|DIR"
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> tuple[str, ...]:
        """As `Kind`."""
        items = tuple(dict.fromkeys(items_of(raw)))
        return tuple(WebAddress().parse(item) if "://" in item else str(Folder().parse(item)) for item in items)

    def show(self, value: Any) -> str:
        return json.dumps(list(value), ensure_ascii=False)

    @staticmethod
    def within(value: tuple[str, ...], folder: Path) -> tuple[str, ...]:
        """The same, for a reader in another folder."""
        return tuple(item if "://" in item else str(folder / item) for item in value)

    def describe(self) -> str:
        return "http or https URLs, and paths: a list in a file, commas in a variable, a repeated flag"
