"""What a demo has to show for itself."""

from __future__ import annotations

from dataclasses import dataclass

from node.app.buying.audit import AuditReport
from node.app.buying.report import JobReport
from protocol.receipts.audit import Verdict

__all__ = ["ByLaw", "DemoFindings", "DemoResult", "DemoTransaction", "Killed", "SitePower", "Way"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """A node that was killed in the middle of the answer, and what became of that."""

    leg: int
    """Its place in the route."""
    name: str
    """Of the node in the demo."""
    tokens: int
    """Generated tokens that had come."""
    replaced: bool
    """Whether the answer went on without it."""
    same_answer: bool
    """Whether the answer is the one that came where nobody died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to answer over a distance."""

    name: str
    """For people."""
    round_trip_s: float
    """Between any two hosts."""
    seconds_to_open: float
    """From asking for the session until it was open."""
    seconds_to_first_token: float | None
    """From asking for the session; null where none came."""
    tokens_per_second: float | None
    """From the first token to the last; null where there was one at most."""
    tokens_out: int
    """Generated tokens."""
    same_answer: bool
    """Whether the answer is that of the first way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByLaw:
    """What a policy made of the route."""

    policy: str
    """Its name in the demo."""
    route: tuple[str, ...]
    """Nodes and their countries, in order."""
    left_out: tuple[str, ...]
    """The others, each with why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTransaction:
    """What the client had the chain do."""

    operation: str
    """The function that was called: of the contract, or ``approve`` of the token."""
    transaction: bytes
    """Its hash."""
    block: int
    """Number of the block that holds it."""
    gas: int
    """That it took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePower:
    """What power and work cost at a node at an hour, and what of it the route took."""

    name: str
    """Of the node in the demo."""
    jurisdiction: str
    """Where it says that it stands."""
    blocks: str
    """That it offers."""
    micro_per_kwh: int
    """Micro-units per kWh of its power."""
    block_micro: int
    """Micro-units that it asks for a million generated tokens through one block."""
    taken: str | None
    """Blocks that the route took of it; null where none."""
    reason: str | None
    """Why the route does without it; null where it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFindings:
    """What a demo found out besides the report of its job."""

    audit: AuditReport | None
    """What `joule audit` says of the receipt; null where nothing was settled, so that there is nothing to check."""
    killed: Killed | None = None
    """With ``--kill``: who died; else null."""
    by_law: ByLaw | None = None
    """With ``--policy``: whom it let serve; else null."""
    transactions: tuple[DemoTransaction, ...] = ()
    """With ``--venue evm``: what the client sent, in order."""
    power: tuple[SitePower, ...] = ()
    """With ``--hour``: the nodes, the cheapest block first."""
    ways: tuple[Way, ...] = ()
    """With ``--wan``: the same question, answered in different ways; the report is that of the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """All of it."""

    report: JobReport
    found: DemoFindings

    @property
    def passed(self) -> bool:
        """Whether the answer came whole, its receipt holds, the spot check agrees, and no death or way changed it."""
        audit, killed = self.found.audit, self.found.killed
        checked = audit is not None and audit.verdict is Verdict.MATCH
        survived = killed is None or (killed.replaced and killed.same_answer)
        same = all(way.same_answer for way in self.found.ways)
        return checked and survived and same and self.report.error is None and self.report.verified
