"""Every code with which one party tells another that it will not, or cannot go on; and which way each one travels.

A code is for programs and stable; the reason beside it is for people. Whoever does not know a code takes it
for `refused`. Errors of one's own machine have codes too (`errors`), but they do not travel.
docs/spec/messages.md is written from this table.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["WAYS", "RefusalCode", "Way"]


class Way(StrEnum):
    """How a code travels, and so how far its receiver may rely on it."""

    SEALED = "sealed"
    """In a `refusal/2` under the provider's signature, with its discharge: the session was found open on the ledger."""
    REQUEST = "request"
    """In a `request-refused/1` on the stream of the question: from the peer at the other end, but signed by nobody."""
    FRAME = "frame"
    """In a `failed/2` on the data plane, from the peer at the other end: a running job ends."""
    LEDGER = "ledger"
    """In the JSON body of a ledger's answer with another status than 200."""


class RefusalCode(StrEnum):
    """Why not."""

    # Of any question

    MALFORMED = "malformed"
    """What came breaks a clause that anyone can check without knowing more."""
    BAD_SIGNATURE = "bad-signature"
    """A signature is none, or not that of the party it has to be."""
    REFUSED = "refused"
    """For a reason without a code of its own."""
    TOO_LONG = "too-long"
    """More bytes, tokens or positions than this party takes."""
    BUSY = "busy"
    """Too much at once, in all or from this peer; later it may go. Of an order: too many prompts wait here now, and
    `retry_s` says when to come back."""
    TIMEOUT = "timeout"
    """No answer was ready in time."""
    INTERNAL = "internal"
    """A fault of the answering program."""
    CLOSING = "closing"
    """The answering program is about to end."""
    FILE = "file"
    """A file of the model that this node does not hand out."""

    # Of an order

    EXPIRED = "expired"
    """The order is too old or from the future, or the session has expired."""
    STALE = "stale"
    """This session was ordered here before, or a newer voucher has been taken."""
    VENUE = "venue"
    """This node settles on another ledger."""
    MODEL = "model"
    """This node serves another model."""
    NOT_MINE = "not-mine"
    """The leg is another provider's."""
    SPAN = "span"
    """Blocks that this node does not hold."""
    CONTEXT = "context"
    """Prompt and answer do not fit the model's context."""
    PRECISION = "precision"
    """The model is served in another number format than the order's policy demands."""
    CAP = "cap"
    """The leg's cap does not pay for it."""
    WINDOW = "window"
    """A window or chunk above this node's limits."""
    CREDIT = "credit"
    """More tokens before they are paid than this node grants the client."""
    SPECULATION = "speculation"
    """Deeper drafts than this node verifies."""
    UNKNOWN_SESSION = "unknown-session"
    """No such session on the ledger, or none that runs here."""
    SESSION_OPEN = "session-open"
    """The session runs here already."""
    FULL = "full"
    """All places for jobs are taken."""
    NO_ROOM = "no-room"
    """Not enough memory for the job's positions."""
    NEXT_UNREACHABLE = "next-unreachable"
    """The next leg cannot be reached from here."""
    LEDGER_FORKED = "ledger-forked"
    """The ledger has provably signed two histories: this node begins nothing new there."""
    UNWITNESSED = "unwitnessed"
    """The evidence ends in a checkpoint that too few of this node's witnesses have cosigned, or too long ago."""
    UNREACHABLE = "unreachable"
    """A service that this node needs, such as the ledger, does not answer."""

    # Of a running job

    OUT_OF_ORDER = "out-of-order"
    """Not the next position, or a frame that may not follow what came before."""
    BEYOND_RESERVATION = "beyond-reservation"
    """Positions beyond those that were ordered."""
    NOT_FINITE = "not-finite"
    """Activations with a number that is not finite."""
    UNPROVEN = "unproven"
    """A reroute from a position that this leg has not signed for."""
    NO_TRAIL = "no-trail"
    """What was sent before is not kept any more, and cannot be sent again."""
    GRAMMAR = "grammar"
    """The answer cannot be held to its grammar here: it cannot be read, or takes too many steps."""
    UNPAID = "unpaid"
    """Work beyond what the vouchers pay."""
    NOT_PARTY = "not-party"
    """A frame for another party of this session to send."""
    DISHONEST = "dishonest"
    """Two statements of a party, or a statement and the facts, contradict each other."""
    CLIENT_GONE = "client-gone"
    """The client's connection has ended."""
    SET_ASIDE = "set-aside"
    """What this leg had computed of the session had to make room for others: it can begin anew."""
    NEIGHBOUR_LOST = "neighbour-lost"
    """The connection to a neighbour on the route has ended."""
    LOST_PEER = "lost-peer"
    """A connection has ended, or its peer was silent for too long."""
    IDLE = "idle"
    """Nothing was heard of the job for too long."""
    PAUSED = "paused"
    """Power is too dear here for now, or the grid asks for less: no job of this class is taken, or goes on."""
    SHUTDOWN = "shutdown"
    """The node is shutting down, or leaving these blocks for others."""

    # Of an operation on a ledger

    RULE = "rule"
    """A rule without a code of its own."""
    NONCE = "nonce"
    """Not above the actor's last nonce."""
    GENESIS = "genesis"
    """A genesis entry where there can be none, or none where there must be one."""
    NOT_OPERATOR = "not-operator"
    """Only the ledger's operator may."""
    NOT_CLIENT = "not-client"
    """Only the session's client may."""
    AMOUNT = "amount"
    """An amount of zero, or nothing that is unbonding."""
    BALANCE = "balance"
    """The account has less free."""
    OVERFLOW = "overflow"
    """The account would hold more than a ledger can count."""
    BOND = "bond"
    """The account has less at stake, or bonds do not allow more to be paid in this period."""
    PROOF = "proof"
    """The two statements do not convict anybody."""
    NOTHING_STAKED = "nothing-staked"
    """Whom a proof accuses has nothing to lose."""
    FAUCET = "faucet"
    """More than the faucet has left for this account."""
    EXPIRY = "expiry"
    """The session's expiry is past, or too far ahead."""
    EXISTS = "exists"
    """A session on these very terms was opened before."""
    SETTLED = "settled"
    """This voucher, or one for as much, was settled before."""
    CLOSED = "closed"
    """The session is closed."""
    EARLY = "early"
    """The session's grace, or the wait of what is unbonding, has not ended; or a notice is too short."""
    RELEASED = "released"
    """A discharge that frees nothing which is still held."""
    MISMATCH = "mismatch"
    """A voucher or discharge inside the operation is not for its session."""
    FEE = "fee"
    """A ledger without a fee, in its genesis entry or a notice."""
    NOT_FOUND = "not-found"
    """The log does not reach that far."""
    HTTP = "http"
    """What the HTTP status says: no such path, method or length."""
    CLOCK = "clock"
    """The ledger's clock has jumped, so it takes no operations for now."""
    DISK = "disk"
    """The ledger's disk is full: it goes on once there is room."""
    LEDGER_STOPPED = "ledger-stopped"
    """The ledger takes no operations any more."""
    STANDBY = "standby"
    """This front end of the ledger takes no operations, and asks no witnesses: another one does."""


_C = RefusalCode
_EARLY_CHECKS = (_C.MALFORMED, _C.BAD_SIGNATURE, _C.EXPIRED, _C.STALE, _C.VENUE, _C.MODEL, _C.NOT_MINE, _C.CONTEXT)
"""An order that fails here is refused before anyone looks for its session on the ledger."""
_CARRIED: dict[Way, tuple[RefusalCode, ...]] = {
    Way.SEALED: (
        *(_C.REFUSED, _C.TOO_LONG, _C.SPAN, _C.WINDOW, _C.CREDIT, _C.SPECULATION, _C.SESSION_OPEN),
        *(_C.FULL, _C.NO_ROOM, _C.NEXT_UNREACHABLE, _C.UNREACHABLE, _C.LOST_PEER, _C.SHUTDOWN, _C.BUSY),
        _C.PAUSED,
        # Of the next leg's offer, which is looked at last.
        *(_C.MALFORMED, _C.BAD_SIGNATURE, _C.DISHONEST, _C.EXPIRED),
    ),
    Way.REQUEST: (
        *_EARLY_CHECKS,
        *(
            _C.PRECISION,
            _C.CAP,
            _C.UNPAID,
            _C.UNKNOWN_SESSION,
            _C.REFUSED,
            _C.UNREACHABLE,
            _C.DISHONEST,
            _C.LEDGER_FORKED,
            _C.UNWITNESSED,
            _C.TOO_LONG,
        ),
        *(_C.BUSY, _C.TIMEOUT, _C.INTERNAL, _C.CLOSING, _C.FILE),
    ),
    Way.FRAME: (
        *(_C.MALFORMED, _C.BAD_SIGNATURE, _C.REFUSED, _C.TOO_LONG, _C.EXPIRED, _C.STALE, _C.CAP, _C.UNKNOWN_SESSION),
        *(_C.OUT_OF_ORDER, _C.BEYOND_RESERVATION, _C.NOT_FINITE, _C.GRAMMAR, _C.UNPAID, _C.NOT_PARTY),
        _C.CLIENT_GONE,
        *(_C.SET_ASIDE, _C.NEIGHBOUR_LOST, _C.LOST_PEER, _C.IDLE, _C.PAUSED, _C.SHUTDOWN),
        # Of a reroute, which a standby may refuse like an order.
        *(_C.NOT_MINE, _C.UNPROVEN, _C.NO_TRAIL, _C.FULL, _C.NO_ROOM, _C.NEXT_UNREACHABLE, _C.DISHONEST, _C.BUSY),
        _C.INTERNAL,
    ),
    Way.LEDGER: (
        *(_C.MALFORMED, _C.BAD_SIGNATURE, _C.REFUSED, _C.BUSY, _C.INTERNAL, _C.EXPIRED, _C.CAP),
        *(_C.UNKNOWN_SESSION, _C.RULE, _C.NONCE, _C.GENESIS, _C.NOT_OPERATOR, _C.NOT_CLIENT, _C.AMOUNT, _C.BALANCE),
        *(
            _C.OVERFLOW,
            _C.BOND,
            _C.PROOF,
            _C.NOTHING_STAKED,
            _C.FAUCET,
            _C.EXPIRY,
            _C.EXISTS,
            _C.SETTLED,
            _C.CLOSED,
            _C.EARLY,
            _C.RELEASED,
            _C.MISMATCH,
            _C.FEE,
            _C.NOT_FOUND,
        ),
        *(_C.HTTP, _C.CLOCK, _C.DISK, _C.LEDGER_STOPPED, _C.STANDBY, _C.UNREACHABLE),
    ),
}

WAYS: dict[RefusalCode, tuple[Way, ...]] = {
    code: tuple(way for way in Way if code in _CARRIED[way]) for code in RefusalCode
}
"""By which ways each code travels; at least one."""
