"""What an attack is, and the list of all of them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["ATTACKS", "Attack", "Budget", "Ground", "NodeAt", "Surface", "Target", "attack"]


CAME = ("done", "stood", "refused_ConnectionReset", "refused_IncompleteRead")
"""What floods and what is held open count that were let in, or thrown out."""


class Surface(StrEnum):
    """What is attacked."""

    DATA = "data port"
    LIBP2P = "libp2p port"
    LEDGER = "ledger"
    OFFERS = "offers"
    ORDERS = "orders"
    PROVIDERS = "providers"


class Budget(StrEnum):
    """What the attacker has to spend on the ledger."""

    NOTHING = "none"
    ONE_JOB = "one job"
    """What one honest job has to have free: its caps and fees."""
    PLAY = "play money"
    """As much as the faucet gives: for attacks whose harm is not meant to end with the money."""


@dataclass(frozen=True, slots=True)
class NodeAt:
    """A node under attack."""

    peer: str
    """Multiaddr of its libp2p host."""
    data: str
    """Address of its data plane."""
    blocks: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Everything that an outsider knows of the network that it attacks."""

    ledger: str
    """URL."""
    ledger_peer: str
    """Multiaddr."""
    nodes: tuple[NodeAt, ...]
    model: str
    """Directory of the model that they serve."""
    model_name: str
    budget_micro: int
    """What one honest job has to have free, in micro-units."""
    home: str
    """A folder of the attacker's own."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Target:
        values = json.loads(text)
        return cls(**{**values, "nodes": tuple(NodeAt(**each) for each in values["nodes"])})


@dataclass(slots=True)
class Ground:
    """What an attack acts on, in the attacker's process. It ends soon after `stop` is set."""

    target: Target
    count: int
    """How many of whatever the attack is made of."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    tally: Counter[str] = field(default_factory=Counter)
    """What came of it, by name: facts of the row."""

    def at_full(self) -> None:
        """Tell the harness that the attack runs at full force from here on."""
        say("at full")

    async def hold(self) -> None:
        """Keep up what is held until the harness has seen enough."""
        self.at_full()
        await self.stop.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One way to harm the network."""

    name: str
    surface: Surface
    about: str
    act: Callable[[Ground], Awaitable[None]]
    on: str
    """Whose memory and descriptors are looked at: ``node0``, ``ledger`` or ``honest``."""
    short: int
    """`Ground.count` in `make test`; 0 where the long form alone has it, since it differs little from another."""
    long: int
    """`Ground.count` in `make siege`."""
    budget: Budget
    fresh: bool
    """Whether commands of newcomers are timed beside it."""
    most_files: int | None
    """Descriptors that the nodes may have; None for what the system gives."""
    at_least_s: float
    """Seconds that it is held up in the long form."""
    came: tuple[str, ...]
    """Beginnings of the names in `Ground.tally` that say that it has reached whom it attacks: without any of them
    nothing came of it."""


ATTACKS: dict[str, Attack] = {}
"""By name, in the order in which they are run."""


def attack(
    surface: Surface,
    *,
    short: int,
    long: int,
    on: str = "node0",
    budget: Budget = Budget.NOTHING,
    fresh: bool = False,
    most_files: int | None = None,
    at_least_s: float = 15.0,
    came: tuple[str, ...] = CAME,
) -> Callable[[Callable[[Ground], Awaitable[None]]], Callable[[Ground], Awaitable[None]]]:
    """Put a coroutine function on the list, under its own name and with the first line of its docstring."""

    def register(act: Callable[[Ground], Awaitable[None]]) -> Callable[[Ground], Awaitable[None]]:
        name = act.__name__.replace("_", "-")
        if name in ATTACKS:
            raise ValueError(f"two attacks are called {name}")
        ATTACKS[name] = Attack(
            name=name,
            surface=surface,
            about=(act.__doc__ or "").partition("\n")[0],
            act=act,
            on=on,
            short=short,
            long=long,
            budget=budget,
            fresh=fresh,
            most_files=most_files,
            at_least_s=at_least_s,
            came=came,
        )
        return act

    return register


def say(event: str, **facts: Any) -> None:
    """One line to the harness."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()
