"""Other parties: links, requests, and what is remembered of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from protocol.reputation.standing import Deed, Standing

__all__ = [
    "STRANGER",
    "Allowance",
    "Connect",
    "DialMemory",
    "Endpoint",
    "Link",
    "LinkRank",
    "PeerMemory",
    "PlaceOrder",
    "Requests",
]


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


Endpoint = tuple[str, int]
"""An IP address and a port."""


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


class DialMemory(Protocol):
    """What came of dials of what offers name, in this process and those before it."""

    def past_dials(self) -> Sequence[tuple[Endpoint, bytes | None, float]]:
        """Where was dialled before this process began, the public key that answered as it should, or None where it was
        in vain, and how many seconds ago.
        """

    def note_dial(self, endpoint: Endpoint, answered: bytes | None) -> None:
        """Take down what came of a dial just now; it is on disk soon after. Never waits."""
