"""What a reader asks of the checkpoints that it believes: its policy, and the clock that it goes by."""

from __future__ import annotations

from dataclasses import dataclass, field

from node.ledger.trust import Question
from node.ports import Clock
from protocol.log.cosignature import WitnessPolicy

__all__ = ["Witnessed"]


@dataclass(frozen=True, slots=True)
class Witnessed:
    """By default it asks for nothing."""

    policy: WitnessPolicy = field(default_factory=WitnessPolicy)
    clock: Clock = lambda: 0

    def query(self, question: Question) -> str:
        """The end of a path that asks for such a checkpoint."""
        if self.policy.least == 0:
            return question.query
        by = "".join(f"&by={each.hex()}" for each in self.policy.key_ids)
        return f"{question.query or '?'}{'&' if question.query else ''}witnesses={self.policy.least}{by}"

    def check(self, note: bytes) -> None:
        """Raises UnwitnessedError."""
        self.policy.check(note, self.clock())
