"""What a node's jobs came to: sums of its journal by day, model or client. Integers, rounded once at the end.

What the energy of a job cost is known where its energy is. Where that of one job is not, neither is that of a sum: it
is said to be unknown, and never counted as nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from protocol.identity.ids import checksum_address
from protocol.reputation.standing import DAY_S

__all__ = ["Books", "Grouping", "JobRecord", "PayoutRecord", "Sum", "books_of"]

_MILLI_PUE_MILLIJOULES_PER_KWH = 1000 * 3_600_000_000


class Grouping(StrEnum):
    """What jobs are summed up by."""

    DAY = "day"
    """On which they ended, in UTC."""
    MODEL = "model"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job of a node, as its journal has it. There is no prompt and no answer in it."""

    session: bytes
    """Its id on the ledger, 32 bytes."""
    client: bytes
    """Address of who ordered it."""
    leg: int
    """Its place in the chain, from 0."""
    model: bytes
    """Root of the model, 32 bytes."""
    model_name: str
    """The model's name."""
    blocks: str
    """``START:END`` that were ordered of this node."""
    begun_at: int
    """Unix seconds."""
    ended_at: int | None
    """Unix seconds; None while it runs."""
    outcome: str
    """``running``; ``served`` to its end; ``cut`` where the node stopped in its middle; else why it ended."""
    tokens_in: int
    """Prompt tokens served."""
    tokens_out: int
    """Generated tokens served."""
    rows: int
    """Positions computed in all, those in vain included."""
    millijoules: int | None
    """That it took here, by the same figures as its receipts; None where it is not known."""
    source: str
    """Where that figure comes from."""
    energy_price: int
    """Micro-units per kWh, as it was set when the job ended."""
    pue_milli: int
    """Power usage effectiveness then, in thousandths."""
    earned: int
    """Micro-units that vouchers promise to this leg, as far as it has earned them."""
    paid: int
    """Micro-units of it that the ledger has paid out."""
    fees: int
    """Micro-units that this node has spent on having it."""
    entry: str | None
    """Where the ledger shows that it was paid: by this node's own operation, or at its last look; None before."""
    paid_at: int | None
    """When this node saw that, Unix seconds."""
    closed: bool
    """Whether no more is to be had for it."""

    @property
    def gross(self) -> int:
        """Micro-units that it brings: what was paid, and while more is to be had what was earned."""
        return self.paid if self.closed else max(self.earned, self.paid)

    @property
    def day(self) -> int:
        """Days since 1970 in UTC, when it ended; while it runs when it began."""
        return (self.begun_at if self.ended_at is None else self.ended_at) // DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutRecord:
    """Free money that a node has sent out of the ledger."""

    at: int
    """Unix seconds."""
    amount: int
    """Micro-units."""
    fee: int
    """Micro-units that it cost."""
    to: str
    """Where it should go, as it was set."""
    entry: str | None
    """Where the ledger took it down; None where it gave no answer, so that it may have or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """Some jobs together."""

    key: str
    """What they have in common: a day, a model's name and the beginning of its root, a client; or ``payouts``."""
    jobs: int
    """How many."""
    tokens_in: int
    """Prompt tokens served."""
    tokens_out: int
    """Generated tokens served."""
    gross: int
    """Micro-units that they bring."""
    outstanding: int
    """Micro-units of it that the ledger has not paid out yet."""
    fees: int
    """Micro-units spent on the ledger's operations."""
    unmeasured: int
    """Jobs among them whose energy is not known."""
    millijoules: int | None
    """Energy of those whose energy is known; None where that is none."""
    measured_power_cost: int
    """Micro-units that this energy cost, rounded up."""
    power_cost: int | None
    """The same where it is that of all jobs, else None."""
    net: int | None
    """Micro-units that are left: gross without fees and power; None where the cost of power is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """All that was asked for, by group and in all."""

    rows: tuple[Sum, ...]
    total: Sum
    """Of all jobs, its power cost rounded once: less than one micro-unit a row below the sum of the rows."""


@dataclass(slots=True)
class _Tally:
    jobs: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    gross: int = 0
    outstanding: int = 0
    fees: int = 0
    unmeasured: int = 0
    millijoules: int = 0
    power: int = 0
    """Millijoules times PUE in thousandths times micro-units per kWh."""

    def take(self, job: JobRecord, price: int | None) -> None:
        self.jobs += 1
        self.tokens_in += job.tokens_in
        self.tokens_out += job.tokens_out
        self.gross += job.gross
        self.outstanding += job.gross - job.paid
        self.fees += job.fees
        if job.millijoules is None:
            self.unmeasured += 1
        else:
            self.millijoules += job.millijoules
            self.power += job.millijoules * job.pue_milli * (job.energy_price if price is None else price)

    def sum(self, key: str) -> Sum:
        cost = -(-self.power // _MILLI_PUE_MILLIJOULES_PER_KWH)  # rounded up
        known = None if self.unmeasured else cost
        return Sum(
            key=key,
            jobs=self.jobs,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            gross=self.gross,
            outstanding=self.outstanding,
            fees=self.fees,
            unmeasured=self.unmeasured,
            millijoules=None if self.jobs and self.unmeasured == self.jobs else self.millijoules,
            measured_power_cost=cost,
            power_cost=known,
            net=None if known is None else self.gross - self.fees - known,
        )


def books_of(
    jobs: Iterable[JobRecord],
    payouts: Iterable[PayoutRecord],
    *,
    by: Grouping,
    day_name: Callable[[int], str],
    energy_price: int | None = None,
) -> Books:
    """Jobs summed up, by day in order, else the dearest group first. What payouts cost is among the fees.

    Args:
        day_name: of a day since 1970.
        energy_price: micro-units per kWh for all jobs, in the place of what each of them was done at.
    """
    total, groups = _Tally(), dict[str, _Tally]()
    for job in jobs:
        for tally in (total, groups.setdefault(_key(job, by, day_name), _Tally())):
            tally.take(job, energy_price)
    for payout in payouts:
        if payout.entry is not None:
            key = day_name(payout.at // DAY_S) if by is Grouping.DAY else "payouts"
            for tally in (total, groups.setdefault(key, _Tally())):
                tally.fees += payout.fee
    rows = [tally.sum(key) for key, tally in groups.items()]
    rows.sort(key=(lambda row: (0, row.key)) if by is Grouping.DAY else (lambda row: (-row.gross, row.key)))
    return Books(rows=tuple(rows), total=total.sum("all"))


def _key(job: JobRecord, by: Grouping, day_name: Callable[[int], str]) -> str:
    match by:
        case Grouping.DAY:
            return day_name(job.day)
        case Grouping.MODEL:
            return f"{job.model_name} {job.model.hex()[:12]}"
        case Grouping.CLIENT:
            return checksum_address(job.client)
