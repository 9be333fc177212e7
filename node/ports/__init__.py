"""What the services of a node need from one another, as interfaces: the only thing that they share.

`node.app` joins the concrete classes. Nothing here has behaviour.
"""

from node.ports.engine import (
    GREEDY,
    Activations,
    DraftAsk,
    Drafter,
    EnergyAccount,
    SpanEngine,
    StepInput,
    StepOutput,
)
from node.ports.money import (
    JobJournal,
    Settlement,
    Taken,
    VenueRules,
    Withdrawals,
)
from node.ports.network import (
    STRANGER,
    Allowance,
    Connect,
    DialMemory,
    Endpoint,
    Link,
    LinkRank,
    PeerMemory,
    PlaceOrder,
    Requests,
)
from node.ports.running import (
    Clock,
    Randomness,
    Spawn,
    T,
    Worker,
)

__all__ = [
    "GREEDY",
    "STRANGER",
    "Activations",
    "Allowance",
    "Clock",
    "Connect",
    "DialMemory",
    "DraftAsk",
    "Drafter",
    "Endpoint",
    "EnergyAccount",
    "JobJournal",
    "Link",
    "LinkRank",
    "PeerMemory",
    "PlaceOrder",
    "Randomness",
    "Requests",
    "Settlement",
    "SpanEngine",
    "Spawn",
    "StepInput",
    "StepOutput",
    "T",
    "Taken",
    "VenueRules",
    "Withdrawals",
    "Worker",
]
