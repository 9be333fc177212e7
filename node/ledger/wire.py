"""What the ledger's HTTP interface says in JSON, in both directions (docs/spec/ledger.md, clauses C3 to C6).

A client gets back the very error that the rules raised. Text from a remote ledger is cut and cleaned before anybody
prints it. A whole number that may be above 2^53 is text, since JSON readers round such numbers.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from protocol.encoding.strict_json import int_text, parse_object
from protocol.encoding.text import is_plain_text, to_plain_text
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
from protocol.identity.ids import Address, checksum_address, parse_address
from protocol.log.note import decode_base64
from protocol.settlement import Account, Change, Rules, ledger_domain

__all__ = [
    "MAX_ANSWER_BYTES",
    "MAX_KNOWN",
    "MAX_OP_BYTES",
    "MAX_PROVIDERS",
    "Answer",
    "LedgerInfo",
    "Place",
    "account_to_json",
    "error_to_json",
    "providers_from_json",
    "providers_to_json",
    "read_object",
    "remote_error",
    "status_of",
]

MAX_OP_BYTES = 16 * 1024
"""Bound on a submitted operation, which is above that of the longest action."""
MAX_ANSWER_BYTES = 192 * 1024
"""Bound on an answer in JSON: two of the longest entries with their proofs fit."""
MAX_KNOWN = 8
"""Sizes that one question may ask consistency proofs from."""
MAX_OFFER_PAGE_BYTES = 256 * 1024
"""Of one page of offers: small enough to be written at once, so that a slow reader holds little."""
MAX_OFFER_PAGES = 64

MAX_PROVIDERS = 1_000
"""Providers that a ledger lists: more than any client weighs, in some 110 KiB."""

_DEPTH = 4
_MAX_TEXT = 400
_MAX_PEERS = 64
_MAX_PROOF = 128
_NAMED: dict[str, type[JoulemeshError]] = {
    each.__name__: each for each in (RuleError, RefusedError, MalformedError, SignatureError)
}


@dataclass(frozen=True, slots=True)
class Place:
    """An entry, where it stands, and the inclusion proof for it: in JSON an object of three keys. Unverified."""

    index: int
    entry: bytes
    proof: tuple[bytes, ...]

    def to_json(self) -> dict[str, Any]:
        """As an answer spells it."""
        return {"index": str(self.index), "entry": _base64(self.entry), "proof": _hashes_to_json(self.proof)}

    @classmethod
    def from_json(cls, said: object) -> Self:
        """Read strictly. Raises MalformedError."""
        body = _object(said, "index", "entry", "proof")
        return cls(int_text(body["index"]), decode_base64(_string(body["entry"])), _hashes_from_json(body["proof"]))


@dataclass(frozen=True, slots=True)
class Answer:
    """What every answer holds beside its own: a checkpoint, and that it continues those that the reader knows."""

    note: bytes
    """The checkpoint, signed; all proofs in the answer end in it."""
    consistency: Mapping[int, tuple[bytes, ...]]
    """Proofs from the sizes that were asked for, as far as the log reaches them."""
    said: Mapping[str, Any]
    """The whole object."""

    def to_json(self) -> dict[str, Any]:
        """The answer's body."""
        proofs = {str(size): _hashes_to_json(proof) for size, proof in self.consistency.items()}
        return {**self.said, "checkpoint": self.note.decode(), "consistency": proofs}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Read strictly. Raises MalformedError."""
        proofs = said.get("consistency")
        if not isinstance(proofs, dict) or len(proofs) > MAX_KNOWN:
            raise MalformedError("the ledger's answer has no consistency proofs")
        return cls(
            _string(said.get("checkpoint")).encode(),
            {int_text(size): _hashes_from_json(proof) for size, proof in proofs.items()},
            said,
        )

    def place(self, name: str) -> Place:
        """The entry under a name. Raises MalformedError."""
        return Place.from_json(self.said.get(name))

    def has(self, name: str) -> bool:
        """Whether there is something but null under a name. Raises MalformedError where the name is missing."""
        if name not in self.said:
            raise MalformedError(f"the ledger's answer lacks {name}")
        return self.said[name] is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerInfo:
    """What ``/info`` tells a newcomer."""

    verifier_key: str
    """C2SP verifier key of its checkpoints; the EIP-712 domain follows from it."""
    operator: Address
    grace_s: int
    """Seconds after expiry in which vouchers are redeemed."""
    faucet_limit: int
    """Most micro-units of play money for one account; 0 for no faucet."""
    fee: int
    """Micro-units that every operation costs its actor."""
    unbonding_s: int
    """Seconds until stakes that are taken back are free."""
    notice_s: int
    """Seconds that a change of rules is announced before it takes effect."""
    bond_multiple: int
    """How many times its bond vouchers may pay a provider in one period; 0 for no bound."""
    coming: Change | None = None
    """What was announced and does not hold yet."""
    peers: tuple[str, ...]
    """Multiaddrs where a newcomer finds the network."""
    version: str
    """Of the software that serves."""

    @property
    def rules(self) -> Rules:
        """What the genesis entry must say too."""
        return Rules(
            operator=self.operator,
            verifier_key=self.verifier_key,
            grace_s=self.grace_s,
            unbonding_s=self.unbonding_s,
            notice_s=self.notice_s,
            faucet_limit=self.faucet_limit,
            fee=self.fee,
            bond_multiple=self.bond_multiple,
            coming=self.coming,
        )

    def to_json(self) -> dict[str, Any]:
        """Part of the answer's body; beside the fields it names what follows from the key, for people."""
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
            "venue": "0x" + domain.separator.hex(),
            "operator": checksum_address(self.operator),
            "grace_s": self.grace_s,
            "faucet_limit": str(self.faucet_limit),
            "fee": str(self.fee),
            "unbonding_s": self.unbonding_s,
            "notice_s": self.notice_s,
            "bond_multiple": self.bond_multiple,
            "coming": None if self.coming is None else _change_to_json(self.coming),
            "peers": list(self.peers),
            "version": self.version,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read strictly. Raises MalformedError."""
        peers = body.get("peers")
        if not isinstance(peers, list) or len(peers) > _MAX_PEERS:
            raise MalformedError("the ledger's list of peers cannot be read")
        with peers_fault():
            operator = parse_address(_text(body.get("operator")))
        return cls(
            verifier_key=_text(body.get("verifier_key")),
            operator=operator,
            grace_s=_number(body, "grace_s"),
            faucet_limit=int_text(body.get("faucet_limit")),
            fee=int_text(body.get("fee")),
            unbonding_s=_number(body, "unbonding_s"),
            notice_s=_number(body, "notice_s"),
            bond_multiple=_number(body, "bond_multiple"),
            coming=_change_from_json(body.get("coming")),
            peers=tuple(map(_text, peers)),
            version=_text(body.get("version")),
        )


def _change_to_json(change: Change) -> dict[str, Any]:
    return {
        "effective": change.effective,
        "faucet_limit": str(change.faucet_limit),
        "fee": str(change.fee),
        "bond_multiple": change.bond_multiple,
    }


def _change_from_json(said: object) -> Change | None:
    if said is None:
        return None
    body = _object(said, "effective", "faucet_limit", "fee", "bond_multiple")
    return Change(
        effective=_number(body, "effective"),
        faucet_limit=int_text(body["faucet_limit"]),
        fee=int_text(body["fee"]),
        bond_multiple=_number(body, "bond_multiple"),
    )


def account_to_json(account: Account) -> dict[str, str]:
    """What an account has; `period` and `claimed`, which bound what vouchers pay, stand in its entry alone."""
    return {
        "free": str(account.free),
        "nonce": str(account.nonce),
        "bond": str(account.bond),
        "unbonding": str(account.unbonding),
        "unlock_at": str(account.unlock_at),
    }


class Merit(Protocol):
    """Somebody whom this ledger's vouchers have paid."""

    @property
    def address(self) -> Address: ...
    @property
    def sessions(self) -> int: ...
    @property
    def since(self) -> int: ...


def providers_to_json(rows: Sequence[Merit]) -> list[dict[str, str]]:
    """Who was paid, in how many sessions, since which entry."""
    return [
        {"address": f"0x{row.address.hex()}", "sessions": str(row.sessions), "since": str(row.since)} for row in rows
    ]


def providers_from_json(value: object) -> dict[bytes, int]:
    """In how many sessions each was paid, as far as the list goes. Raises MalformedError."""
    if not isinstance(value, list) or len(value) > MAX_PROVIDERS:
        raise MalformedError("the ledger's list of providers cannot be read")
    found: dict[bytes, int] = {}
    for each in value:
        body = _object(each, "address", "sessions", "since")
        with peers_fault():
            found[parse_address(_text(body["address"]))] = int_text(body["sessions"])
    return found


def read_object(content: bytes, *, limit: int = MAX_ANSWER_BYTES) -> dict[str, Any]:
    """The JSON object that `content` spells. Raises MalformedError."""
    return parse_object(content, limit=limit, depth=_DEPTH)


def _object(value: object, *names: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not value.keys() >= set(names):
        raise MalformedError(f"the ledger's answer lacks an object with {', '.join(names)}")
    return value


def _number(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if type(value) is not int:
        raise MalformedError(f"the ledger's answer has no number {name}")
    return value


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise MalformedError("the ledger's answer has something else where text belongs")
    return value


def _text(value: object) -> str:
    text = _string(value)
    if len(text) > _MAX_TEXT or not is_plain_text(text):
        raise MalformedError("the ledger's answer has text that cannot be read")
    return text


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _hashes_to_json(hashes: Sequence[bytes]) -> list[str]:
    return [_base64(each) for each in hashes]


def _hashes_from_json(value: object) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > _MAX_PROOF:
        raise MalformedError("the ledger's answer has no proof")
    return tuple(decode_base64(_string(each)) for each in value)


def status_of(error: JoulemeshError) -> int:
    """The HTTP status that an error is answered with."""
    match error:
        case RefusedError(code="busy"):
            return 429
        case RefusedError(code="not-found" | "unknown-session"):
            return 404
        case RuleError():
            return 422
        case PeerError():
            return 400
        case LocalError():
            return 503
    return 500


def error_to_json(error: JoulemeshError) -> dict[str, str]:
    """The body of an error's answer."""
    name = next((cls.__name__ for cls in type(error).__mro__ if cls.__name__ in _NAMED), type(error).__name__)
    return {"error": name, "code": error.code, "message": error.message, "hint": error.hint}


def remote_error(status: int, body: object) -> JoulemeshError:
    """The error that an answer of another status than 200 means."""
    fields: dict[str, Any] = body if isinstance(body, dict) else {}
    message = _clean(fields.get("message")) or f"the ledger answered with status {status}"
    code, hint = _clean(fields.get("code")) or None, _clean(fields.get("hint")) or None
    if status >= 500 or status == 429:
        return UnreachableError(f"the ledger cannot answer now: {message}", code=code, hint=hint or "try again later")
    return _NAMED.get(str(fields.get("error")), RefusedError)(message, code=code, hint=hint)


def _clean(text: object) -> str:
    return to_plain_text(text, _MAX_TEXT) if isinstance(text, str) else ""
