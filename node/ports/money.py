"""Where money is: a settlement venue, and the node's own books."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from protocol.identity.eip712 import Domain
from protocol.identity.signing import SigningKey
from protocol.session.messages import Session, SignedDischarge, SignedVoucher
from protocol.settlement import Account, SessionRecord

__all__ = [
    "JobJournal",
    "Settlement",
    "Taken",
    "VenueRules",
    "Withdrawals",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueRules:
    """What holds in a settlement venue now."""

    grace_s: int
    """Seconds after a session's expiry in which vouchers are redeemed."""
    fee: int
    """Micro-units that an operation costs whoever submits it; 0 where the venue charges in another way."""
    gas: int = 0
    """Micro-units that it costs beside, roughly, in a coin that no account of the venue holds; 0 where nobody weighs
    it."""
    bond_multiple: int = 0
    """What vouchers pay a provider within one wait of stakes is at most so many times its bond; 0 for no bound."""

    @property
    def cost(self) -> int:
        """Micro-units that an operation has to be worth."""
        return self.fee + self.gas


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An operation as a venue took it down."""

    place: str
    """Where it stands in the venue's books, for people: a log entry's index, a transaction's hash."""
    actor: bytes
    """Address of who submitted it, and paid for it."""
    sessions: tuple[bytes, ...]
    """What it changed, by id."""


class Settlement(Protocol):
    """Where sessions are opened and vouchers redeemed, as others see it: an embedded ledger, or a contract.

    What it returns is verified before. *Evidence* is bytes that convince a third party
    (`protocol.settlement.evidence`); those who carry it do not look inside. Every method raises UnreachableError where
    the venue does not answer, and RuleError, with the code of the rule, where its rules forbid the operation.
    """

    @property
    def domain(self) -> Domain:
        """What typed signatures for this venue carry."""

    async def rules(self) -> VenueRules:
        """What holds there now."""

    async def open(self, session: Session, key: SigningKey) -> bytes:
        """Reserve a session's caps; evidence that it is open, once that is final."""

    async def check_opened(self, session: Session, evidence: bytes) -> None:
        """That a session was opened here. Nobody is asked where evidence alone convinces. Raises PeerError."""

    async def settle(self, vouchers: Sequence[SignedVoucher], key: SigningKey) -> bytes:
        """Redeem vouchers; evidence. RuleError ``settled``: somebody was quicker."""

    async def release(self, discharges: Sequence[SignedDischarge], key: SigningKey) -> bytes:
        """Return what legs do not claim to the client; evidence."""

    async def close(self, session: bytes, key: SigningKey) -> bytes:
        """After the grace: return what is left to the client; evidence."""

    def shown(self, session: Session, evidence: bytes) -> SessionRecord | None:
        """A session as the operation left it that this venue has just given evidence of; None where it does not say."""

    async def latest(self, session: bytes) -> tuple[SessionRecord, Taken] | None:
        """A session as it stands, and the last operation that changed it; None where it was never opened."""

    def taken(self, evidence: bytes) -> Taken:
        """What evidence that this venue has just given is of."""

    async def account(self, address: bytes) -> Account:
        """An account as it stands."""

    async def session(self, session: bytes) -> SessionRecord | None:
        """A session as it stands; None where it was never opened, or is over and forgotten."""

    async def evidence(self, session: bytes) -> bytes:
        """Evidence of the last operation that changed a session."""


class Withdrawals(Protocol):
    """Where free money leaves a settlement venue. It raises as `Settlement` does."""

    async def rules(self) -> VenueRules:
        """What the venue fixed for good."""

    async def account(self, address: bytes) -> Account:
        """An account as it stands."""

    async def withdraw(self, amount: int, to: str, key: SigningKey, *, seen: Account) -> Taken:
        """Take money out.

        RuleError ``nonce``: the account's owner has done something since it was `seen` so. However often this is tried
        for one state of an account, the venue takes it once at most; where it gives no answer it may have taken it.
        """


class JobJournal(Protocol):
    """What became of each job, for the books of whoever runs the node. No prompt and no answer comes here.

    What is noted is on disk soon after. Nothing here raises, and nothing but `written` waits.
    """

    def begun(self, session: bytes, *, client: bytes, leg: int, blocks: str) -> None:
        """A job was taken."""

    def ended(
        self,
        session: bytes,
        *,
        outcome: str,
        tokens_in: int,
        tokens_out: int,
        rows: int,
        millijoules: int | None,
        source: str,
        earned: int,
    ) -> None:
        """A job is over; the fields are those of `protocol.serving.earnings.JobRecord`."""

    def left(
        self, session: bytes, *, client: bytes, leg: int, begun_at: int, tokens_in: int, tokens_out: int, earned: int
    ) -> None:
        """An earlier run of the program was promised this, and may not have come to write down more of it."""

    def paid(self, session: bytes, *, amount: int, fee: int, entry: str) -> None:
        """The venue has paid so many micro-units for a job in all, as its books show at `entry`, for a fee of ours."""

    def closed(self, session: bytes) -> None:
        """No more is to be had for a job."""

    async def written(self) -> None:
        """Until what was noted is on disk, or the disk has refused it, which was told as an event."""
