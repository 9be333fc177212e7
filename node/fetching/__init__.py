"""A model from an empty disk: chunks of its files from peers, folders and web mirrors, each held against the manifest.

Reading order: `disk` (chunks in files that have holes), `sources` (who has chunks), `swarm` (many chunks from many
sources at once), `model` (which chunks the blocks of a node need), `handing_out` (the other side, within a bandwidth).

What is on the disk is looked at again by hash before it counts, so a fetch that was stopped goes on where it ended, and
nothing that is half written is ever used.
"""

from __future__ import annotations

from node.fetching.disk import ChunkFile, require_space
from node.fetching.handing_out import ChunkDesk, Uplink
from node.fetching.model import ModelFetch
from node.fetching.sources import FolderSource, MirrorSource, PeerSource, Source
from node.fetching.swarm import Swarm

__all__ = [
    "ChunkDesk",
    "ChunkFile",
    "FolderSource",
    "MirrorSource",
    "ModelFetch",
    "PeerSource",
    "Source",
    "Swarm",
    "Uplink",
    "require_space",
]
