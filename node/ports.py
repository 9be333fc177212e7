"""What the services of a node need from one another, as interfaces: the only thing that they share.

`node.app` joins the concrete classes. Nothing here has behaviour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from protocol.eip712 import Domain
from protocol.ids import BlockSpan
from protocol.messages import Session, SignedDischarge, SignedVoucher
from protocol.offer import Provenance
from protocol.settlement import Account, SessionRecord
from protocol.signing import SigningKey
from protocol.standing import Deed, Standing

__all__ = [
    "STRANGER",
    "Activations",
    "Allowance",
    "Clock",
    "Connect",
    "DraftAsk",
    "Drafter",
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
    "Taken",
    "VenueRules",
    "Withdrawals",
    "Worker",
]

Activations = np.ndarray[Any, np.dtype[np.float32]]
"""Rows of activations, ``[positions, hidden_size]``."""

Clock = Callable[[], int]
"""Unix seconds now."""

Randomness = Callable[[int], bytes]
"""So many unpredictable bytes."""

T = TypeVar("T")


Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]
"""Start a task under a name, in the care of somebody who ends with its reason if it fails."""


class Worker(Protocol):
    """Where calls run that take long or wait for a disk: one at a time, in the order in which they were given."""

    def run(self, call: Callable[[], T]) -> Awaitable[T]:
        """What `call` returns or raises. A caller that is cancelled stops waiting; the call runs all the same.

        Its turn may come before the answer is awaited.
        """

    def close(self) -> None:
        """End after what it is doing and what waits."""


class LinkRank(IntEnum):
    """What the peer of a link has here. Where places run short, links of the lowest rank leave first."""

    STRANGER = 0
    KNOWN = 1
    """It has had a part in a session."""
    BUSY = 2
    """It has a part in one now."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the peer of a link may send now, and for whom its link is kept."""

    header: int
    """Bytes in a frame's header."""
    payload: int
    """Bytes in a frame's payload."""
    rank: LinkRank


STRANGER = Allowance(header=4096, payload=4096, rank=LinkRank.STRANGER)
"""For a peer without a part in any session: enough to be told why a frame is refused."""


class Link(Protocol):
    """A direct, mutually authenticated connection to one peer (data plane)."""

    @property
    def public_key(self) -> bytes:
        """The peer's 33-byte public key, proven in the handshake."""

    def allow(self, allowance: Callable[[], Allowance]) -> None:
        """Say what the peer may send; asked again for each frame, before it is taken in.

        At first it is what a stranger may.
        """

    async def send(self, header: bytes, payload: bytes | memoryview = b"") -> None:
        """Send one frame; waits while the peer does not read. Raises LostPeerError."""

    def put(self, header: bytes, payload: bytes | memoryview = b"") -> bool:
        """Send one frame without waiting: whether it is on its way, whole; not where the peer has not read those
        before it. Raises LostPeerError.
        """

    async def receive(self) -> tuple[bytes, bytes]:
        """The next frame.

        Raises:
            LostPeerError: the end of the link, or a frame that does not get through in time.
            MalformedError: bytes that are no frame, or a longer one than allowed; the link has ended.
        """

    async def close(self) -> None:
        """Close; what was sent before is still delivered."""


Connect = Callable[[str, bytes], Awaitable[Link]]
"""Dial a data plane address, expecting this public key there. Raises UnreachableError or SignatureError."""


PlaceOrder = Callable[[str, bytes, bytes, bytes], Awaitable[bytes]]
"""The sealed answer to a sealed order: data address, public key behind it, session, order. The link to that place is
open then, and the next `Connect` has it. Raises RefusedError with the peer's code, and as `Connect` does."""


class Requests(Protocol):
    """One question, one answer, to a peer by its public key (libp2p)."""

    async def request(
        self, peer: str, protocol: str, data: bytes, *, timeout_s: float = ..., max_reply: int = ...
    ) -> bytes:
        """The answer. Raises RefusedError with the peer's code, UnreachableError or LostPeerError."""


class PeerMemory(Protocol):
    """What this party has seen of others, by their 20-byte addresses. Lost are at most the last moments of a crash."""

    def standing(self, address: bytes) -> Standing:
        """What is remembered of a peer; `NEWCOMER` where that is nothing. Never waits."""

    def note(self, address: bytes, deed: Deed, *, count: int = 1, amount: int = 0, about: str = "") -> None:
        """Take down what a peer did just now; it counts at once, and is on disk soon after.

        Args:
            amount: micro-units that moved.
            about: why, for people.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInput:
    """One session's part of a forward pass."""

    session: bytes
    position: int
    """Of the first row: where the session's KV ends, or before; what it holds from there on is forgotten first."""
    length: int
    data: Sequence[int] | Activations
    """Token ids at the first span, else activations ``[length, hidden_size]``."""
    draws: int
    """Last span: draw a token after each of so many of the last rows; 0 for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutput:
    """What came out, in the order of the inputs."""

    session: bytes
    position: int
    length: int
    hidden: Activations
    """The last block's output; what the next leg receives, and what the sketch is taken of."""
    tokens: tuple[int, ...]
    """The tokens drawn, as many as were asked for."""


class SpanEngine(Protocol):
    """Some blocks of a model, and the KV of the sessions that run through them. Used from one worker."""

    def open(
        self, session: bytes, *, max_tokens: int, temperature_milli: int, seed: int, blocks: BlockSpan | None = None
    ) -> None:
        """Reserve KV for a session through some of the blocks, all by default. Raises RefusedError without room."""

    @property
    def kv_free(self) -> int:
        """Positions that no session has reserved."""

    def trim(self, session: bytes, length: int) -> int:
        """Forget positions from `length` on and free the room beyond them; the room that is kept, in positions.

        Raises MalformedError when there are fewer.
        """

    def adopt(
        self,
        old: bytes,
        new: bytes,
        *,
        length: int,
        max_tokens: int,
        temperature_milli: int,
        seed: int,
        blocks: BlockSpan | None = None,
    ) -> None:
        """Open a session with the first `length` positions of one that is over, which is gone then.

        Raises RefusedError as `open`, and MalformedError for an old one that is not open or has fewer positions: it
        stays as it was.
        """

    def close(self, session: bytes) -> None:
        """Free a session's KV; unknown sessions are ignored."""

    def length(self, session: bytes) -> int:
        """Positions of a session that are in the KV. Raises MalformedError for one that is not open."""

    def rollback(self, session: bytes, length: int) -> None:
        """Forget a session's positions from `length` on. Raises MalformedError when there are fewer."""

    def forward(self, items: Sequence[StepInput]) -> list[StepOutput | Exception]:
        """One packed pass. A bad item gives a PeerError in its place and leaves the others alone."""


class DraftAsk(NamedTuple):
    """For guesses in one sequence."""

    session: bytes
    guesses: tuple[int, ...]
    """Tokens after the certain ones that are guessed already, and under way."""
    wanted: int
    """How many more, at least 1."""


class Drafter(Protocol):
    """Guesses how token sequences go on. What it says costs or gains time, and never changes an answer.

    Used from one worker, unless it is instant. It bounds its own memory: for sequences beyond that it has no guesses.
    """

    @property
    def instant(self) -> bool:
        """Whether a call takes microseconds, so that it needs no worker."""

    def begin(self, session: bytes, *, max_tokens: int, temperature_milli: int, seed: int) -> None:
        """A sequence begins, of at most so many tokens, drawn in this way."""

    def extend(self, session: bytes, tokens: Sequence[int]) -> None:
        """These tokens come next in a sequence, and stand. One that is not known is ignored."""

    def propose(self, asks: Sequence[DraftAsk]) -> list[tuple[int, ...]]:
        """For each ask, in order, at most so many ids as it wants; none where nothing comes to mind."""

    def end(self, session: bytes) -> None:
        """A sequence is over; one that is not known is ignored."""


class EnergyAccount(Protocol):
    """Attributes measured joules to the work done."""

    @property
    def source(self) -> Provenance:
        """Where its figures come from; `UNKNOWN` while there are none."""

    def record(self, prompt: int, generated: int, seconds: float) -> None:
        """A pass that took `seconds` on the clock has just ended; so many prompt and generated positions were in it."""

    def millijoules_for(self, prompt: int, generated: int) -> int | None:
        """What so many positions cost by the latest figures; None while nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueRules:
    """What holds in a settlement venue now."""

    grace_s: int
    """Seconds after a session's expiry in which vouchers are redeemed."""
    fee: int
    """Micro-units that an operation costs whoever submits it; 0 where the venue charges in another way."""


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

    What it returns is verified before. *Evidence* is bytes that convince a third party (`protocol.evidence`); those who
    carry it do not look inside. Every method raises UnreachableError where the venue does not answer, and RuleError,
    with the code of the rule, where its rules forbid the operation.
    """

    @property
    def domain(self) -> Domain:
        """What typed signatures for this venue carry."""

    async def rules(self) -> VenueRules:
        """What holds there now."""

    async def open(self, session: Session, key: SigningKey) -> bytes:
        """Reserve a session's caps; evidence that it is open, once that is final."""

    def check_opened(self, session: Session, evidence: bytes) -> None:
        """That a session was opened here, without asking anybody. Raises PeerError."""

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
        """A job is over; the fields are those of `protocol.earnings.JobRecord`."""

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
