"""Where one ledger is reached: its front ends, which show one log, and of which one takes operations.

A request goes to the one that answered the last of its kind, and to the others where that one is gone or only stands
by. Nothing that a ledger says leads anywhere but to the addresses that the user has named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from node.ledger_address import addresses_of
from protocol.errors import JoulemeshError, UnreachableError

__all__ = ["Addresses", "Delivery", "SilentError"]

_STANDBY = "standby"
_ELSEWHERE = frozenset({_STANDBY, "ledger-stopped", UnreachableError.default_code})
"""With these codes another front end may still do what was asked for."""
_PATIENCE_S = 15.0
"""How long it is waited for one of those that stand by to take over."""
_AGAIN_S = 0.25


class SilentError(UnreachableError):
    """Nobody answered in time."""

    def __init__(self, message: str, *, hint: str, sent: bool) -> None:
        super().__init__(message, hint=hint)
        self.sent = sent
        """Whether the request may have arrived."""


@dataclass(slots=True)
class Delivery:
    """What became of a request that may be sent again: the ledger takes it once at most."""

    unsure: bool = False
    """Whether it may have arrived at a front end that did not say what became of it."""


class Addresses:
    """The front ends that a setting names, at least one."""

    def __init__(self, setting: str) -> None:
        self._all = addresses_of(setting)
        self._newest = {"GET": 0, "POST": 0}
        """Which one answered last, by method."""

    def __len__(self) -> int:
        return len(self._all)

    def __str__(self) -> str:
        return ",".join(self._all)

    def read_where_written(self) -> None:
        """Ask the one next that took, or refused, the last operation: it knows best what became of it."""
        self._newest["GET"] = self._newest["POST"]

    async def ask(self, method: str, ask: Callable[[str], Awaitable[bytes]], delivery: Delivery | None = None) -> bytes:
        """What the first front end answers that can; `ask` sends the request to an address.

        Raises UnreachableError, the last one, where none can. Without a `delivery` nothing is sent a second time that
        may have changed something.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE_S
        while True:
            waits = False
            for place in self._in_turn(method):
                try:
                    answer = await ask(self._all[place])
                except UnreachableError as error:
                    if len(self._all) == 1 or error.code not in _ELSEWHERE:
                        raise
                    failure, waits = error, waits or error.code == _STANDBY
                    if method == "POST" and _may_have_arrived(error):
                        if delivery is None:
                            raise
                        delivery.unsure = True
                except JoulemeshError:
                    self._newest[method] = place
                    raise
                else:
                    self._newest[method] = place
                    return answer
            if not waits or loop.time() >= until:
                raise failure
            await asyncio.sleep(_AGAIN_S)

    def _in_turn(self, method: str) -> list[int]:
        count = len(self._all)
        return [(self._newest[method] + turn) % count for turn in range(count)]


def _may_have_arrived(error: UnreachableError) -> bool:
    return error.sent if isinstance(error, SilentError) else error.code != _STANDBY
