"""Which tests of a run beside one another go to the same process."""

from __future__ import annotations

from functools import cache

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

__all__ = ["Scheduling"]

COSTLY = "transformers"
"""What takes five CPU seconds to import."""
NEEDING = (COSTLY, "engine_ring", "from checkpoints")
"""One of these stands in every file whose tests import it, by themselves or through what they import."""


class Scheduling(LoadFileScheduling):
    """Those of a file, for they share what is slow to start; and all that need what is slow to import."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        self._root = config.rootpath
        self._needs = cache(self._needs_it)

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return COSTLY if self._needs(file) else file

    def _needs_it(self, file: str) -> bool:
        text = (self._root / file).read_text()
        return any(each in text for each in NEEDING)
