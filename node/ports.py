"""What the services of a node need from one another, as interfaces: the only thing that they share.

`node.app` joins the concrete classes. Nothing here has behaviour.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from protocol.codec import Message
from protocol.eip712 import Domain
from protocol.ids import BlockSpan
from protocol.messages import LogEntry
from protocol.session import Account
from protocol.signing import SigningKey

__all__ = [
    "Activations",
    "Clock",
    "Connect",
    "EnergyAccount",
    "Link",
    "Proven",
    "Requests",
    "Settlement",
    "SpanEngine",
    "StepInput",
    "StepOutput",
]

Activations = np.ndarray[Any, np.dtype[np.float32]]
"""Rows of activations, ``[positions, hidden_size]``."""

Clock = Callable[[], int]
"""Unix seconds now."""


class Link(Protocol):
    """A direct, mutually authenticated connection to one peer (data plane)."""

    @property
    def public_key(self) -> bytes:
        """The peer's 33-byte public key, proven in the handshake."""

    async def send(self, header: bytes, payload: bytes | memoryview = b"") -> None:
        """Send one frame; waits while the peer does not read. Raises LostPeerError."""

    async def receive(self) -> tuple[bytes, bytes]:
        """The next frame. Raises LostPeerError at the end, MalformedError for bytes that are no frame."""

    async def close(self) -> None:
        """Close; what was sent before is still delivered."""


Connect = Callable[[str, bytes], Awaitable[Link]]
"""Dial a data plane address, expecting this public key there. Raises UnreachableError or SignatureError."""


class Requests(Protocol):
    """One question, one answer, to a peer by its public key (libp2p)."""

    async def request(
        self, peer: str, protocol: str, data: bytes, *, timeout_s: float = ..., max_reply: int = ...
    ) -> bytes:
        """The answer. Raises RefusedError with the peer's code, UnreachableError or LostPeerError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInput:
    """One session's part of a forward pass."""

    session: bytes
    position: int
    """Of the first row; must be where the session's KV ends."""
    length: int
    data: Sequence[int] | Activations
    """Token ids at the first span, else activations ``[length, hidden_size]``."""
    sample: bool
    """Last span: draw a token after the last row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutput:
    """What came out, in the order of the inputs."""

    session: bytes
    position: int
    length: int
    hidden: Activations
    """The last block's output; what the next leg receives, and what the sketch is taken of."""
    token: int | None
    """The token drawn, where one was asked for."""


class SpanEngine(Protocol):
    """Some blocks of a model, and the KV of the sessions that run through them. Used from one thread."""

    def open(
        self, session: bytes, *, max_tokens: int, temperature_milli: int, seed: int, blocks: BlockSpan | None = None
    ) -> None:
        """Reserve KV for a session through some of the blocks, all by default. Raises RefusedError without room."""

    def close(self, session: bytes) -> None:
        """Free a session's KV; unknown sessions are ignored."""

    def forward(self, items: Sequence[StepInput]) -> list[StepOutput | Exception]:
        """One packed pass. A bad item gives a PeerError in its place and leaves the others alone."""


class EnergyAccount(Protocol):
    """Attributes measured joules to the work done."""

    def record(self, tokens: int, seconds: float) -> None:
        """`tokens` positions were processed in a pass of `seconds` of CPU time."""

    def millijoules_for(self, tokens: int) -> int | None:
        """What that many positions cost by the latest figure; None while nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A ledger entry and the proof that it stands in the log."""

    entry: LogEntry
    index: int
    proof: tuple[bytes, ...]
    """RFC 6962 inclusion hashes, leaf to root."""
    checkpoint: bytes
    """The signed note that the proof ends in."""


class Settlement(Protocol):
    """The ledger as the rest of a node sees it: everything that it returns is verified against a checkpoint."""

    @property
    def domain(self) -> Domain:
        """What typed signatures for this ledger carry."""

    async def submit(self, action: Message, key: SigningKey) -> Proven:
        """Submit an operation; returns once it is in a signed checkpoint. Raises RuleError, UnreachableError."""

    async def account(self, address: bytes) -> Account:
        """An account as of the last entry that changed it."""

    async def session(self, session: bytes) -> tuple[Proven, Proven] | None:
        """The entry that opened a session and the latest one that changed it; None when it is unknown."""
