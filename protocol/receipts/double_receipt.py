"""Two receipts that a leg has signed under one nonce and that say different things: kept by whoever was sent both.

The two convict their signer wherever it has money at stake (docs/spec/settlement.md, clause L17). With the session they
are enough for anybody: a ledger looks the session up, a contract is handed it.
"""

from __future__ import annotations

import base64
import json
from collections import OrderedDict
from dataclasses import dataclass

from protocol.encoding.codec import Message, decode, encode
from protocol.encoding.strict_json import exact_keys, parse_object
from protocol.errors import MalformedError, PeerError
from protocol.identity.eip712 import Domain
from protocol.log.note import decode_base64
from protocol.session.messages import Session, SignedReceipt
from protocol.session.receipt import NO_HASH, check_receipt

__all__ = ["MAX_DOUBLE_BYTES", "DoubleReceipt", "SaidOnce", "check_double", "dump_double", "is_double", "load_double"]

MAX_DOUBLE_BYTES = 32 * 1024
_KIND = "double-receipt/1"
_KEYS = ("kind", "venue", "session", "first", "second")
_MOST_KEPT = 4096
"""Receipts of one session that a new one is held against; the oldest are forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleReceipt:
    """See the module. It proves nothing until `check_double` has looked at it."""

    venue: str
    """Where the signatures count: a ledger's verifier key, or a contract."""
    session: Session
    first: SignedReceipt
    second: SignedReceipt


def check_double(double: DoubleReceipt, domain: Domain) -> bytes:
    """The address of the provider that has signed both, in this domain.

    Raises:
        MalformedError: the two do not contradict each other.
        SignatureError, DishonestError: they are not both of that leg.
    """
    one, other = double.first.receipt, double.second.receipt
    places = [(each.session, each.leg, each.window, each.nonce) for each in (one, other)]
    if places[0] != places[1] or one.nonce == NO_HASH or one == other:
        raise MalformedError("the two receipts prove nothing: they are not different ones under one nonce")
    for signed in (double.first, double.second):
        check_receipt(domain, double.session, signed)
    return double.session.legs[one.leg].provider


class SaidOnce:
    """Holds each receipt of a session against those that came before under its nonce."""

    def __init__(self, domain: Domain, session: Session) -> None:
        self._domain = domain
        self._session = session
        self._kept: OrderedDict[tuple[int, int, bytes], SignedReceipt] = OrderedDict()

    def take(self, leg: int, signed: SignedReceipt) -> SignedReceipt | None:
        """The earlier receipt of a leg that this one contradicts, where it has signed both; neither was looked at."""
        receipt = signed.receipt
        if receipt.nonce == NO_HASH or receipt.leg != leg:
            return None
        before = self._kept.setdefault((leg, receipt.window, receipt.nonce), signed)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        if before.receipt == receipt:
            return None
        try:
            for each in (before, signed):
                check_receipt(self._domain, self._session, each)
        except PeerError:
            return None  # one of them nobody has signed
        return before


def dump_double(double: DoubleReceipt) -> str:
    """The proof as a file has it: JSON, with its messages in base64."""
    said = {
        "kind": _KIND,
        "venue": double.venue,
        "session": _base64(double.session),
        "first": _base64(double.first),
        "second": _base64(double.second),
    }
    return json.dumps(said, indent=1) + "\n"


def is_double(data: bytes) -> bool:
    """Whether a file is meant as one of these, well written or not."""
    return _KIND.encode() in data[:200]


def load_double(data: bytes) -> DoubleReceipt:
    """Read strictly; nothing is verified. Raises MalformedError."""
    said = exact_keys(parse_object(data, limit=MAX_DOUBLE_BYTES, depth=2), *_KEYS)
    if not all(isinstance(each, str) for each in said.values()) or said["kind"] != _KIND:
        raise MalformedError(f"this is not a {_KIND}")
    return DoubleReceipt(
        venue=said["venue"],
        session=decode(decode_base64(said["session"]), Session),
        first=decode(decode_base64(said["first"]), SignedReceipt),
        second=decode(decode_base64(said["second"]), SignedReceipt),
    )


def _base64(message: Message) -> str:
    return base64.b64encode(encode(message)).decode()
