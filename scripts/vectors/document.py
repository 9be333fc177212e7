"""The example jobs as JSON: every message with its fields, its canonical bytes, and what is hashed and signed of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from protocol.encoding.codec import Message, encode, shapes
from protocol.encoding.strict_json import MAX_NUMBER
from protocol.identity.eip712 import encode_type, struct_hash, typed_digest
from protocol.identity.ids import checksum_address, keccak256
from protocol.identity.peer_id import peer_id_of
from protocol.identity.signing import SigningKey, open_envelope
from protocol.log.merkle import leaf_hash
from protocol.market.offer import Offer
from protocol.models.activations import to_wire
from protocol.receipts.bundle_file import dump_bundle
from protocol.session.draws import NonceChain, nonces_up_to
from protocol.session.frames import Discharged
from protocol.session.messages import SignedDischarge, SignedReceipt, SignedVoucher
from protocol.session.metering import positions_of, served, stints, work_of
from protocol.session.order import Acceptance
from protocol.session.receipt import Accepted, Window, token_bytes, yielded_by
from protocol.session.tab import Tab
from protocol.session.terms import terms_hash
from scripts.vectors.log import Taken
from scripts.vectors.parties import (
    CLIENT,
    DOMAIN,
    LOG_KEY,
    MANIFEST,
    NOW,
    OPERATOR,
    PROVIDERS,
    STRANGER,
)
from scripts.vectors.reroutes import reroutes
from scripts.vectors.talk import CLIENT_PARTY, Frame, rows_of
from scripts.vectors.wrong import wrong

if TYPE_CHECKING:
    from scripts.vectors.job import ExampleJob

__all__ = ["document"]

Json = dict[str, Any]
ABOUT = (
    "Example jobs of docs/spec, down to the bytes; written by scripts/vectors/job.py. Byte strings are hexadecimal, "
    "numbers above 2^53 - 1 are text. What leaves the blocks of leg k at position p, where token t entered the first "
    "leg, is ((31 p + 17 d + 7 (k + 1) + 13 t) mod 97 - 48) / 16 in dimension d; the token drawn there is "
    "(31 t + 7 p) mod 49 + 1. Of a token x that is drawn for position q, with o = q mod 2, the n likeliest are said to "
    "be (x + o + i) mod 50 with 1,000 q + i millionths, for i from 0, and x itself to have 1,000 q + o n. A program "
    "takes 32 random bytes where an example takes the hash of a name."
)


def document(jobs: Sequence[ExampleJob]) -> Json:
    """The whole file."""
    return {
        "about": ABOUT,
        "now": NOW,
        "parties": {
            "operator": _party(OPERATOR),
            "client": _party(CLIENT),
            "stranger": _party(STRANGER),
            "legs": [_party(key) for key in PROVIDERS],
        },
        "ledger": {
            "verifier_key": str(LOG_KEY.verifier),
            "signing_seed": "04" * 32,
            "domain": plain(DOMAIN),
            "domain_separator": DOMAIN.separator.hex(),
        },
        "model": _named(MANIFEST) | {"root": MANIFEST.root.hex()},
        "reroutes": reroutes(),
        "jobs": [_job(job) for job in jobs],
        "invalid": wrong(jobs),
    }


def plain(value: object) -> Any:
    """A message's fields as JSON."""
    if isinstance(value, Message):
        return {name: plain(getattr(value, name)) for name, _ in shapes(type(value))}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if isinstance(value, bytes):
        return value.hex()
    if type(value) is int and value > MAX_NUMBER:
        return str(value)
    return None if value is None else value if isinstance(value, int) else str(value)


def _named(value: Message) -> Json:
    return {"fields": plain(value), "bytes": encode(value).hex()}


def _typed(value: Message, signature: bytes, whole: Message) -> Json:
    return {
        "fields": plain(value),
        "type": encode_type(type(value)),
        "struct_hash": struct_hash(value).hex(),
        "digest": typed_digest(DOMAIN, value).hex(),
        "signature": signature.hex(),
        "bytes": encode(whole).hex(),
    }


def _sealed(data: bytes, kind: type[Message]) -> Json:
    value, signer = open_envelope(data, kind)
    body = encode(value)
    return {
        "fields": plain(value),
        "body": body.hex(),
        "digest": keccak256(b"\x19joulemesh envelope\n" + body).hex(),
        "signer": signer.hex(),
        "sealed": data.hex(),
        "hash": keccak256(data).hex(),
    }


def _party(key: SigningKey) -> Json:
    return {
        "secret": key.secret.hex(),
        "public_key": key.public_key.hex(),
        "address": checksum_address(key.address),
        "peer_id": peer_id_of(key.public_key),
    }


def _chain(chain: NonceChain, count: int) -> Json:
    last = chain.nonce(count - 1)
    return {"anchor": chain.anchor.hex(), "nonces": [nonce.hex() for nonce in nonces_up_to(last, count)]}


def _job(job: ExampleJob) -> Json:
    windows = job.talk.tab.book.windows
    return {
        "name": job.name,
        "about": job.about,
        "offers": [_sealed(sealed, Offer) for sealed in job.offers],
        "terms": _named(job.terms) | {"hash": terms_hash(job.terms).hex()},
        "session": _named(job.session) | {"type": encode_type(type(job.session)), "id": struct_hash(job.session).hex()},
        "ledger": [_taken(each) for each in job.log.taken],
        "orders": [sealed.hex() for sealed in job.sealed_orders],
        "acceptances": [_sealed(each.acceptance, Acceptance) for each in job.legs],
        "nonces": {
            "client": _chain(job.chain, len(windows)),
            "legs": [_chain(each.chain, len(windows)) for each in job.legs],
        },
        "vouchers": [_voucher(job, at, signed) for at, signed in enumerate(job.talk.vouchers)],
        "windows": [_window(job, window) for window in windows],
        "closing": [_receipt(each) for each in job.talk.tab.closing],
        "receipts_root": job.talk.tab.book.root.hex(),
        "frames": [_frame(frame) for frame in job.talk.frames],
        "discharges": [_discharge(job.talk.discharges[leg].signed) for leg in sorted(job.talk.discharges)],
        "tokens": list(job.talk.tab.tokens),
        "bundle": dump_bundle(job.bundle),
        "withheld": dict.fromkeys(("tokens", "logprobs", "text", "transcript")),
    }


def _taken(taken: Taken) -> Json:
    return {
        "index": taken.index,
        "time": taken.entry.time,
        "operation": type(taken.action).__name__,
        "action": _typed(taken.action, taken.entry.op.signature, taken.action),
        "entry": encode(taken.entry).hex(),
        "leaf": taken.leaf.hex(),
        "root": taken.checkpoint.root.hex(),
        "checkpoint": taken.note.decode(),
    }


def _voucher(job: ExampleJob, at: int, signed: SignedVoucher) -> Json:
    voucher, plan = signed.voucher, job.terms.plan
    positions = positions_of(plan, voucher.tokens_in, voucher.tokens_out)
    work = [
        work_of(plan, stint, positions, late=late)
        for stint, late in zip(stints(job.terms, ()), job.talk.lates[at], strict=True)
    ]
    names = ("cached", "tokens_in", "tokens_out", "late", "rejected")
    counts = [{name: getattr(each, name) for name in names} for each in work]
    return {"positions": positions, "work": counts} | _typed(voucher, signed.signature, signed)


def _discharge(signed: SignedDischarge) -> Json:
    return _typed(signed.discharge, signed.signature, Discharged(signed=signed))


def _window(job: ExampleJob, window: Window) -> Json:
    tab = job.talk.tab
    drawn = yielded_by(job.terms.plan, tab.tokens, window.start, window.end)
    sketches = tab.book.sketches[window.index]
    rows = [rows_of(leg, tab.tokens, window.start, window.end) for leg in range(len(job.legs))]
    sent = [to_wire(job.terms.activations, each) for each in rows]
    return {
        "index": window.index,
        "start": window.start,
        "end": window.end,
        "token_ids_in": token_bytes(tab.tokens[window.start : window.end]).hex(),
        "rows_out": [rows.hex() for rows in sent],
        "token_ids_drawn": token_bytes(drawn).hex(),
        "log_probabilities": b"".join(_said_in(tab, window)).hex(),
        "receipts": [_receipt(each) for each in window.receipts],
        "seed": job.talk.draws[window.index].seed.hex(),
        "sketches": [sketches[leg].hex() for leg in range(len(job.legs))],
    }


def _said_in(tab: Tab, window: Window) -> Sequence[bytes]:
    """What was said of the tokens that a window yields."""
    first, last = (served(tab.terms.plan, at)[1] for at in (window.start, window.end))
    return tab.said[first:last]


def _receipt(accepted: Accepted) -> Json:
    signed: SignedReceipt = accepted.signed
    found = _typed(signed.receipt, signed.signature, signed)
    return found | {"leaf": leaf_hash(encode(signed)).hex(), "sketches": accepted.sketches.hex()}


def _frame(frame: Frame) -> Json:
    header = encode(frame.header)
    name = type(frame.header).kind
    return {
        "from": _place(frame.sender),
        "to": _place(frame.receiver),
        "kind": name,
        "header": header.hex(),
        "payload": frame.payload.hex(),
    }


def _place(party: int) -> str:
    return "client" if party == CLIENT_PARTY else f"leg {party}"
