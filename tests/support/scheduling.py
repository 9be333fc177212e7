"""Which tests of a run beside one another go to the same process."""

from __future__ import annotations

from functools import cache

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

__all__ = ["Scheduling"]

COSTLY = "transformers"
"""What takes five CPU seconds to import."""


class Scheduling(LoadFileScheduling):
    """Those of a file, for they share what is slow to start; and all that need what is slow to import."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        self._needs = cache(lambda file: COSTLY in (config.rootpath / file).read_text())

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return COSTLY if self._needs(file) else file
