"""What the ledger's HTTP interface says in JSON, in both directions: errors by name and code.

A client gets back the very error that the rules raised. Text from a remote ledger is cut and cleaned before anybody
prints it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

from protocol.errors import (
    JoulemeshError,
    LocalError,
    MalformedError,
    PeerError,
    RefusedError,
    RuleError,
    SignatureError,
    UnreachableError,
    peers_fault,
)
from protocol.ids import Address, checksum_address, parse_address
from protocol.merkle import MAX_SIZE
from protocol.session import ledger_domain

__all__ = [
    "MAX_OP_BYTES",
    "LedgerInfo",
    "error_to_json",
    "int_field",
    "json_object",
    "place_field",
    "remote_error",
    "status_of",
]

MAX_OP_BYTES = 16 * 1024
"""Bound on a submitted operation: twice the longest action."""

_MAX_TEXT = 400
_MAX_PEERS = 64

_NAMED: dict[str, type[JoulemeshError]] = {
    each.__name__: each for each in (RuleError, MalformedError, SignatureError, RefusedError)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerInfo:
    """What ``/info`` says."""

    verifier_key: str
    """C2SP verifier key of its checkpoints; the EIP-712 domain follows from it."""
    operator: Address
    grace_s: int
    """Seconds after expiry in which vouchers are redeemed."""
    faucet_limit: int
    """Most micro-units of play money for one account; 0 for no faucet."""
    peers: tuple[str, ...]
    """Multiaddrs where a newcomer finds the network."""
    version: str
    """Of the software that serves."""

    def to_json(self) -> dict[str, Any]:
        """The answer's body; beside the fields it names what follows from the key, for people."""
        domain = ledger_domain(self.verifier_key)
        return {
            "verifier_key": self.verifier_key,
            "origin": self.verifier_key.partition("+")[0],
            "domain": {
                "name": domain.name,
                "version": domain.version,
                "chainId": domain.chain_id,
                "verifyingContract": checksum_address(domain.verifying_contract),
            },
            "operator": checksum_address(self.operator),
            "grace_s": self.grace_s,
            "faucet_limit": self.faucet_limit,
            "peers": list(self.peers),
            "version": self.version,
        }

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Self:
        """Read strictly. Raises MalformedError."""
        peers = body.get("peers")
        if not isinstance(peers, list) or len(peers) > _MAX_PEERS:
            raise MalformedError("the ledger's list of peers cannot be read")
        with peers_fault():
            operator = parse_address(_text(body.get("operator")))
        return cls(
            verifier_key=_text(body.get("verifier_key")),
            operator=operator,
            grace_s=int_field(body, "grace_s"),
            faucet_limit=int_field(body, "faucet_limit"),
            peers=tuple(map(_text, peers)),
            version=_text(body.get("version")),
        )


def json_object(content: bytes) -> dict[str, Any]:
    """The JSON object that `content` spells. Raises MalformedError."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise MalformedError("not a JSON object")
    return value


def int_field(body: dict[str, Any], name: str) -> int:
    """A whole number from 0 to 2**63-1. Raises MalformedError."""
    value = body.get(name)
    if type(value) is not int or not 0 <= value < MAX_SIZE:
        raise MalformedError(f"the ledger's answer has no number {name}")
    return value


def place_field(body: dict[str, Any], name: str) -> int | None:
    """As `int_field`, or None where the answer says null. Raises MalformedError."""
    return None if name in body and body[name] is None else int_field(body, name)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        raise MalformedError("the ledger's answer has text that cannot be read")
    return value


def status_of(error: JoulemeshError) -> int:
    """The HTTP status that an error is answered with."""
    match error:
        case RuleError():
            return 422
        case PeerError():
            return 400
        case LocalError():
            return 503
    return 500


def error_to_json(error: JoulemeshError) -> dict[str, str]:
    """The body of an error's answer."""
    return {"error": type(error).__name__, "code": error.code, "message": error.message, "hint": error.hint}


def remote_error(status: int, body: object) -> JoulemeshError:
    """The error that an answer of another status than 200 means."""
    fields: dict[str, Any] = body if isinstance(body, dict) else {}
    message = _clean(fields.get("message")) or f"the ledger answered with status {status}"
    code, hint = _clean(fields.get("code")) or None, _clean(fields.get("hint")) or None
    if status >= 500:
        return UnreachableError(f"the ledger cannot answer now: {message}", code=code, hint=hint or "try again later")
    return _NAMED.get(str(fields.get("error")), RefusedError)(message, code=code, hint=hint)


def _clean(text: object) -> str:
    if not isinstance(text, str):
        return ""
    return "".join(character if character.isprintable() else " " for character in text[:_MAX_TEXT])
