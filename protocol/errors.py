"""Every error that Joulemesh raises on purpose, and who has to act on it.

::

    JoulemeshError
    +-- PeerError            a remote party sent what the rules forbid; the session may end, the process lives on
    |   +-- MalformedError   bytes that do not decode strictly: unknown kind, wrong type, too long, not canonical
    |   +-- SignatureError   a signature that does not belong to the party it names
    |   +-- ExpiredError     past its expiry, or from too far in the future
    |   +-- StaleError       replayed, or superseded by something newer
    |   +-- UnpaidError      asks for work beyond what the vouchers pay
    |   +-- RefusedError     a peer's own, reasoned refusal
    |   +-- DishonestError   commitments, counts or log heads that contradict each other
    |   |   +-- ForkedError  a ledger that has provably signed two histories
    |   +-- UnwitnessedError too few witnesses have cosigned a checkpoint, or too long ago
    |   +-- UnbondedError    a ledger's operator has less at stake than is asked for
    |   +-- LostPeerError    the peer went away, or stayed silent past its time
    +-- InvalidError         a value that no message or table allows; whose fault it is depends on where it came from
    +-- RuleError            the settlement rules reject an operation; `code` says which rule
    +-- RoutingError         no route satisfies the policy; carries the reason for every offer
    +-- LocalError           something on this machine that its user can mend
        +-- ConfigurationError
        +-- KeystoreError
        +-- ModelError
        +-- MeterError       a meter that does not answer, or whose answer makes no sense
        +-- ListenError      an address that cannot be listened on
        +-- UnreachableError a service that does not answer: a ledger, a bootstrap peer
        +-- FundsError       a balance too low for what was asked

`code` is stable and travels on the wire; `message` is for people; `hint` says what to do next.

Whose fault a wrong value is, only its reader knows. Messages, tables and other values raise `InvalidError`. Whoever
reads what a peer sent turns it into a `MalformedError` (`codec.decode` does, elsewhere `peers_fault`); whoever reads
what a user wrote turns it into a `LocalError`. One that nobody turned is about a value of our own: a defect.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar

__all__ = [
    "ConfigurationError",
    "DishonestError",
    "ExpiredError",
    "ForkedError",
    "FundsError",
    "InvalidError",
    "JoulemeshError",
    "KeystoreError",
    "ListenError",
    "LocalError",
    "LostPeerError",
    "MalformedError",
    "ModelError",
    "PeerError",
    "RefusedError",
    "RoutingError",
    "RuleError",
    "SignatureError",
    "StaleError",
    "UnbondedError",
    "UnpaidError",
    "UnreachableError",
    "UnwitnessedError",
    "of_legs",
    "peers_fault",
]


class JoulemeshError(Exception):
    """The root. Never raised itself."""

    default_code: ClassVar[str] = "error"
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = self.default_code if code is None else code
        self.hint = self.default_hint if hint is None else hint


class PeerError(JoulemeshError):
    """A remote party is at fault; nothing on this side is broken."""

    default_code = "peer"
    legs: tuple[int, ...] = ()
    """Of a session: whose fault it is, where that is known; of several, it is one or more of them."""


class MalformedError(PeerError):
    """Bytes that do not decode strictly."""

    default_code = "malformed"


class SignatureError(PeerError):
    """A signature that does not verify for the party it names."""

    default_code = "bad-signature"


class ExpiredError(PeerError):
    """Past its expiry, or dated too far in the future."""

    default_code = "expired"


class StaleError(PeerError):
    """A replay, or something that a newer message has superseded."""

    default_code = "stale"


class UnpaidError(PeerError):
    """Work was asked for beyond what the vouchers at hand pay."""

    default_code = "unpaid"


class RefusedError(PeerError):
    """A peer refused, and said why: `code` is the peer's."""

    default_code = "refused"

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None, retry_s: int = 0) -> None:
        super().__init__(message, code=code, hint=hint)
        self.retry_s = retry_s
        """Seconds after which the same may be asked again; 0 where time alone changes nothing, or nobody knows."""


class DishonestError(PeerError):
    """Two signed statements, or a statement and the facts, contradict each other."""

    default_code = "dishonest"


class ForkedError(DishonestError):
    """The ledger has signed two histories, and the proof is at hand: nothing new is begun with it."""

    default_code = "ledger-forked"


class UnwitnessedError(PeerError):
    """Too few of the witnesses that are trusted here have cosigned a checkpoint, or too long ago."""

    default_code = "unwitnessed"


class UnbondedError(PeerError):
    """The operator of a ledger has less at stake than is asked for."""

    default_code = "unbonded"


class LostPeerError(PeerError):
    """The connection ended, or the peer stayed silent past its time."""

    default_code = "lost-peer"


class InvalidError(JoulemeshError):
    """A value that no message or table allows, wherever it came from."""

    default_code = "invalid"

    def by_peer(self) -> MalformedError:
        """The same, once it is known that a peer sent the value."""
        code = None if self.code == self.default_code else self.code
        return MalformedError(self.message, code=code, hint=self.hint)


@contextlib.contextmanager
def of_legs(*legs: int) -> Iterator[None]:
    """Where some legs of a session are held to their word: a `PeerError` within says that it is about them."""
    try:
        yield
    except PeerError as error:
        error.legs = error.legs or legs
        raise


@contextlib.contextmanager
def peers_fault() -> Iterator[None]:
    """Where values come from a peer: an `InvalidError` within is raised as the peer's `MalformedError`."""
    try:
        yield
    except InvalidError as error:
        raise error.by_peer() from None


class RuleError(JoulemeshError):
    """The settlement rules reject an operation. `code` names the rule."""

    default_code = "rule"


class RoutingError(JoulemeshError):
    """No route satisfies the policy."""

    default_code = "no-route"


class LocalError(JoulemeshError):
    """Something on this machine that its user can mend."""

    default_code = "local"


class ConfigurationError(LocalError):
    """A setting that is unknown, ill-typed or out of range."""

    default_code = "configuration"


class KeystoreError(LocalError):
    """A key file that is missing or unreadable, or a passphrase that does not open it."""

    default_code = "keystore"


class ModelError(LocalError):
    """A model directory that is missing, incomplete or of an unsupported architecture."""

    default_code = "model"


class MeterError(LocalError):
    """A meter of energy that does not answer, or whose answer makes no sense."""

    default_code = "meter"


class ListenError(LocalError):
    """An address that cannot be listened on."""

    default_code = "listen"


class UnreachableError(LocalError):
    """A service that does not answer."""

    default_code = "unreachable"


class FundsError(LocalError):
    """A balance too low for what was asked."""

    default_code = "funds"
