"""Energy that the operator has declared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from node.energy.account import Figure, Figures
from protocol.energy.energy_shares import Worked
from protocol.market.offer import Provenance
from protocol.units import ceil_div

__all__ = ["DeclaredEnergy"]


class DeclaredEnergy:
    """The operator's word, for prompt and generated tokens alike.

    Args:
        millijoules_per_token: through all blocks that are served.
        blocks: so many these are.
    """

    source = Provenance.DECLARED

    def __init__(self, millijoules_per_token: int, *, blocks: int) -> None:
        if millijoules_per_token < 1:
            raise ValueError("no token is free of energy")
        self._each = millijoules_per_token
        self._blocks = blocks
        self._done: Counter[bytes] = Counter()
        self._told_uj = 0

    def begin(self) -> None:
        """Changes nothing."""

    def record(self, worked: Sequence[Worked]) -> None:
        """Counts positions, by the blocks that they went through."""
        for each in worked:
            if each.session:
                self._done[each.session] += (each.prompt + each.generated) * each.blocks

    def spent(self, session: bytes) -> int | None:
        """Positions at the declared figure."""
        return ceil_div(self._done.get(session, 0) * self._each, self._blocks)

    def end(self, session: bytes) -> int | None:
        """Likewise, in all."""
        told = self.spent(session)
        self._told_uj += (told or 0) * 1000
        self._done.pop(session, None)
        return told

    def offered(self) -> Figure | None:
        """The declared figure."""
        return Figure(millijoules_in=self._each, millijoules_out=self._each, source=self.source, batch=1)

    def calibrate(self, prefill: Callable[[], int], decode: Callable[[], int]) -> None:
        """Nothing to learn."""

    def figures(self) -> Figures:
        """No meter has counted anything."""
        each = self._each * 1000
        return Figures(source=self.source, meter="declared", in_uj=each, out_uj=each, told_uj=self._told_uj)
