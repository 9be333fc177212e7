"""A model on its way to the disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from node.events.base import Event, Level

__all__ = ["BlocksNotFetched", "FetchingModel", "ModelFetched", "SourceLied"]

_MB = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchingModel(Event):
    """Weights are coming in."""

    name: ClassVar[str] = "fetching the model"
    model: str
    """Its name, for people."""
    done_bytes: int
    """Fetched in this run."""
    of_bytes: int
    """Known to be missing when it began, so far."""
    sources: int
    """Peers, mirrors and folders that are asked."""

    def sentence(self) -> str:
        done, whole = self.done_bytes // _MB, -(-self.of_bytes // _MB)
        return f"fetching {self.model}: {done} of {whole} MB, from {self.sources} sources"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFetched(Event):
    """What these blocks need is on the disk, and is what the manifest says."""

    name: ClassVar[str] = "model fetched"
    model: str
    """Its name, for people."""
    root: bytes
    """Model root."""
    blocks: str
    """As ``first:end``, the end not included."""
    fetched_bytes: int
    """In this run; what was here before is not counted."""
    directory: str
    """Where it lies."""

    def sentence(self) -> str:
        return f"blocks {self.blocks} of {self.model} are in {self.directory}; {self.fetched_bytes} bytes were fetched"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLied(Event):
    """A source gave what is not the model's: nothing of it was kept, and it is asked for nothing more."""

    name: ClassVar[str] = "source lied"
    level: ClassVar[Level] = Level.WARNING
    source: str
    """A peer, or the address of a mirror or folder."""
    what: str
    """What it gave, for people."""

    def sentence(self) -> str:
        return f"{self.source} is not asked any more: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksNotFetched(Event):
    """Blocks that this node was to go to cannot be had; it stays with its own for now."""

    name: ClassVar[str] = "blocks not fetched"
    level: ClassVar[Level] = Level.WARNING
    blocks: str
    """As ``first:end``, the end not included."""
    code: str
    """Why, for programs."""
    reason: str
    """For people."""

    def sentence(self) -> str:
        return f"stays with its blocks: {self.blocks} cannot be fetched: {self.reason}"
