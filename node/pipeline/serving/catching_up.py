"""What a leg was fed that joined in mid-stream: held by its client against what the leg before has signed for."""

from __future__ import annotations

from node.pipeline.serving.windows import Passed
from protocol.session.metering import window_end
from protocol.session.receipt import bytes_hash, fed_hash
from protocol.session.terms import Plan

__all__ = ["Fed"]


class Fed:
    """Rows from position 0 on, by window (docs/spec/session.md, clause H4)."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._hashes: list[bytes] = []
        self._open: list[bytes] = []

    def add(self, passed: Passed) -> None:
        """The next rows."""
        at = passed.position
        while at < passed.end:
            ends = window_end(self._plan, at)
            end = min(passed.end, ends)
            self._open.append(passed.part(at, end).received)
            if end == ends:
                self._hashes.append(bytes_hash(*self._open))
                self._open.clear()
            at = end

    @property
    def hash(self) -> bytes:
        """Of all windows that are whole."""
        return fed_hash(self._hashes)
