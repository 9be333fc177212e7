"""The receipt bundle: all that a client keeps of a job, and the check that needs nothing else and nobody's help.

It is a JSON file, so that people can look into it; each value that counts is the canonical bytes of a message, in
base64. The check follows docs/spec/receipt.md, clauses R1 to R9. A bundle holds the prompt and the answer as token ids:
whoever has it can read both.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

from protocol.checkpoint import Checkpoint, open_checkpoint
from protocol.codec import decode, encode
from protocol.eip712 import Domain, recover_typed
from protocol.errors import DishonestError, MalformedError
from protocol.frames import Pay
from protocol.ids import ModelManifest, keccak256
from protocol.merkle import leaf_hash, verify_inclusion
from protocol.messages import Close, LogEntry, Open, SessionEffect, Settle, session_id
from protocol.metering import leg_amount, served, window_end
from protocol.note import VerifierKey
from protocol.order import JobOrder
from protocol.policy import policy_hash
from protocol.receipt import SKETCH_BYTES, UNMEASURED, SignedReceipt, check_receipt, check_window, receipts_root
from protocol.session import ledger_domain
from protocol.signing import open_envelope

__all__ = ["Bundle", "LedgerProof", "Verified", "dump_bundle", "load_bundle", "verify_bundle"]

FORMAT = "joulemesh-receipt/1"
MAX_BUNDLE_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 8
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)
"""Strings, to be skipped, and brackets."""


@dataclass(frozen=True, slots=True)
class LedgerProof:
    """One ledger entry and the proof that it stands in the log."""

    entry: LogEntry
    index: int
    proof: tuple[bytes, ...]
    checkpoint: bytes
    """Signed note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A job's evidence."""

    verifier_key: str
    """Of the ledger."""
    manifest: ModelManifest
    order: bytes
    """The sealed order of leg 0: terms, route, counts, policy, sampling."""
    tokens: tuple[int, ...]
    """Token ids, prompt first."""
    windows: tuple[tuple[tuple[SignedReceipt, bytes], ...], ...]
    """For each window, each leg's receipt and its 128-byte sketch."""
    pay: Pay
    """The last voucher."""
    opened: LedgerProof
    settled: LedgerProof
    closed: LedgerProof | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a bundle proves once `verify_bundle` has returned."""

    order: JobOrder
    domain: Domain
    tokens_in: int
    tokens_out: int
    amounts: tuple[int, ...]
    """Micro-units paid to each leg."""
    millijoules: tuple[int | None, ...]
    """What each leg says it spent; None where it did not measure."""
    windows: int
    refunded: int | None
    """Micro-units that went back to the client; None while the session is open."""
    checkpoint: Checkpoint
    """The newest one that the proofs end in."""
    proof_bytes: int
    """Size of all inclusion proofs together."""


def window_bounds(order: JobOrder, positions: int) -> list[tuple[int, int]]:
    """The position ranges of the windows of a job in which `positions` positions were processed."""
    bounds, start = [], 0
    while start < positions:
        end = min(window_end(order.plan, start), positions)
        bounds.append((start, end))
        start = end
    return bounds


def verify_bundle(bundle: Bundle) -> Verified:
    """Hold a bundle against itself. The caller still owes one thing: that it trusts `bundle.verifier_key`.

    Raises:
        MalformedError, SignatureError, DishonestError: the first thing that does not hold.
    """
    verifier, domain = VerifierKey.parse(bundle.verifier_key), ledger_domain(bundle.verifier_key)
    # R1: the client signed the order; it is for this ledger, this model and this policy.
    order, client = open_envelope(bundle.order, JobOrder)
    terms, session = order.session, session_id(order.session)
    _require(client == terms.client, "the order is not signed by the session's client")
    _require(order.venue == domain.separator, "the order is for another ledger")
    _require(terms.model == bundle.manifest.root, "the manifest is not that of the model in the session")
    _require(terms.policy == policy_hash(order.policy), "the policy is not the one in the session")
    _require(len(order.hops) == len(terms.legs), "the route does not match the session's legs")
    _require(order.plan.window == terms.window, "the order's window is not the session's")
    _require(min(order.plan.chunk, order.plan.window, order.plan.prompt) > 0, "a window of no tokens")
    # R2 to R4: the ledger's entries stand in its log, and are the ones that this job needs.
    checkpoints = [_check_proof(proof, verifier) for proof in _proofs(bundle)]
    _require(_action(bundle.opened, Open).session == terms, "the session that was opened has other terms")
    settle = _action(bundle.settled, Settle)
    _require(settle.voucher == bundle.pay.voucher, "the voucher that was settled is another one")
    effect = _effect(bundle.settled, session)
    counts = (bundle.pay.voucher.tokens_in, bundle.pay.voucher.tokens_out)
    _require((effect.tokens_in, effect.tokens_out) == counts, "the ledger settled other counts")
    # R5: the voucher is the client's.
    signer = recover_typed(domain, bundle.pay.voucher, bundle.pay.signature)
    _require(bundle.pay.voucher.session == session and signer == client, "the voucher is not the client's")
    # R6 to R8: every window's receipts are signed, meet their neighbours' and the tokens, and are the voucher's.
    _check_windows(bundle, order, domain, session)
    receipts = [signed for window in bundle.windows for signed, _ in window]
    _require(receipts_root(receipts) == bundle.pay.voucher.receipts, "the voucher names other receipts")
    # R9: what was left went back.
    refunded = None if bundle.closed is None else _check_close(bundle, session)
    return Verified(
        order=order,
        domain=domain,
        tokens_in=counts[0],
        tokens_out=counts[1],
        amounts=tuple(leg_amount(leg, *counts) for leg in terms.legs),
        millijoules=_energy(bundle),
        windows=len(bundle.windows),
        refunded=refunded,
        checkpoint=max(checkpoints, key=lambda checkpoint: checkpoint.size),
        proof_bytes=sum(len(part) for proof in _proofs(bundle) for part in proof.proof),
    )


def _check_windows(bundle: Bundle, order: JobOrder, domain: Domain, session: bytes) -> None:
    positions = 0
    if bundle.windows:
        last = bundle.windows[-1][0][0].receipt
        positions = last.tokens_in if not last.tokens_out else order.plan.prompt - 1 + last.tokens_out
    _require(positions < len(bundle.tokens), "the receipts count more tokens than there are")
    bounds = window_bounds(order, positions)
    _require(len(bounds) == len(bundle.windows), "the windows do not add up to the counts")
    for (start, end), window in zip(bounds, bundle.windows, strict=True):
        _require(len(window) == len(order.session.legs), "a window lacks the receipt of a leg")
        for signed, sketch in window:
            check_receipt(domain, order.session, signed)
            _require(keccak256(sketch) == signed.receipt.fingerprint, "a sketch is not the one that was signed")
        receipts = [signed.receipt for signed, _ in window]
        check_window(order.plan, start, end, bundle.tokens, receipts, session)
    # A complete answer is paid to its last token; one that was cut short, at most one window beyond its receipts.
    voucher = bundle.pay.voucher
    receipted = served(order.plan, positions)[1] if positions else 0
    _require(voucher.tokens_out <= receipted + order.plan.window, "the voucher pays far beyond the receipts")


def _check_close(bundle: Bundle, session: bytes) -> int:
    if bundle.closed is None:
        raise TypeError("there is no close to check")
    _require(_action(bundle.closed, Close).session == session, "the session that was closed is another one")
    before, after = _effect(bundle.settled, session), _effect(bundle.closed, session)
    _require(after.closed, "the session is not closed")
    return before.reserved


def _energy(bundle: Bundle) -> tuple[int | None, ...]:
    if not bundle.windows:
        return ()
    figures = (signed.receipt.millijoules for signed, _ in bundle.windows[-1])
    return tuple(None if figure == UNMEASURED else figure for figure in figures)


def _proofs(bundle: Bundle) -> list[LedgerProof]:
    return [proof for proof in (bundle.opened, bundle.settled, bundle.closed) if proof is not None]


def _check_proof(proof: LedgerProof, verifier: VerifierKey) -> Checkpoint:
    checkpoint = open_checkpoint(proof.checkpoint, verifier)
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(encode(proof.entry)), proof.proof, checkpoint.root)
    return checkpoint


def _effect(proof: LedgerProof, session: bytes) -> SessionEffect:
    effects = proof.entry.sessions
    _require(len(effects) == 1 and effects[0].session == session, f"entry {proof.index} is about another session")
    return effects[0]


def _action(proof: LedgerProof, kind: type[Any]) -> Any:
    return decode(proof.entry.op.action, kind)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DishonestError(otherwise)


# The file


def dump_bundle(bundle: Bundle, *, text: tuple[str, str]) -> str:
    """The bundle as JSON; `text` is prompt and answer for people, and proves nothing."""
    value = {
        "format": FORMAT,
        "about": "Evidence of one paid inference job. Check it with: joule receipt verify FILE",
        "prompt": text[0],
        "answer": text[1],
        "verifier_key": bundle.verifier_key,
        "manifest": _b64(encode(bundle.manifest)),
        "order": _b64(bundle.order),
        "tokens": list(bundle.tokens),
        "windows": [
            [{"receipt": _b64(encode(signed)), "sketch": _b64(sketch)} for signed, sketch in window]
            for window in bundle.windows
        ],
        "voucher": _b64(encode(bundle.pay)),
        "ledger": {
            "opened": _proof_json(bundle.opened),
            "settled": _proof_json(bundle.settled),
            "closed": None if bundle.closed is None else _proof_json(bundle.closed),
        },
    }
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def load_bundle(data: bytes) -> Bundle:
    """The bundle in a file's bytes. Raises MalformedError; what it says is still to be verified."""
    if len(data) > MAX_BUNDLE_BYTES:
        raise MalformedError(f"a receipt of {len(data)} bytes is too large")
    _require_shallow(data)
    try:
        value = json.loads(data)
        if value["format"] != FORMAT:
            raise MalformedError(f"this is a {value['format']!r} file, not {FORMAT!r}")
        ledger = value["ledger"]
        tokens = tuple(value["tokens"])
        if not all(type(token) is int and 0 <= token < 2**32 for token in tokens):
            raise MalformedError("a token id that is not a 32-bit number")
        return Bundle(
            verifier_key=str(value["verifier_key"]),
            manifest=decode(_raw(value["manifest"]), ModelManifest),
            order=_raw(value["order"]),
            tokens=tokens,
            windows=tuple(
                tuple((decode(_raw(each["receipt"]), SignedReceipt), _sketch(each["sketch"])) for each in window)
                for window in value["windows"]
            ),
            pay=decode(_raw(value["voucher"]), Pay),
            opened=_proof(ledger["opened"]),
            settled=_proof(ledger["settled"]),
            closed=None if ledger["closed"] is None else _proof(ledger["closed"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise MalformedError(
            f"not a receipt file: {type(error).__name__} {error}", hint="give the file that `joule run` wrote"
        ) from None


def _require_shallow(data: bytes) -> None:
    """Raises MalformedError for JSON nested deeper than a receipt: the parser recurses, and can run out of stack."""
    depth = 0
    for mark in _BRACKETS.finditer(data):
        depth += 1 if mark.group() in b"[{" else -1 if mark.group() in b"]}" else 0
        if depth > MAX_DEPTH:
            raise MalformedError("not a receipt file: it is nested too deeply")


def _proof_json(proof: LedgerProof) -> dict[str, Any]:
    return {
        "index": proof.index,
        "entry": _b64(encode(proof.entry)),
        "proof": [_b64(part) for part in proof.proof],
        "checkpoint": proof.checkpoint.decode(),
    }


def _proof(value: dict[str, Any]) -> LedgerProof:
    index = value["index"]
    if type(index) is not int or index < 0:
        raise MalformedError("an entry's index that is not a number")
    parts = tuple(_raw(part) for part in value["proof"])
    return LedgerProof(decode(_raw(value["entry"]), LogEntry), index, parts, value["checkpoint"].encode())


def _sketch(text: str) -> bytes:
    sketch = _raw(text)
    if len(sketch) != SKETCH_BYTES:
        raise MalformedError(f"a sketch of {len(sketch)} bytes, not {SKETCH_BYTES}")
    return sketch


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _raw(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise MalformedError("a value that is not base64") from None
