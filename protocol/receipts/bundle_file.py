"""A receipt bundle as the JSON file that people keep (docs/spec/receipt.md, clause R12).

Each value that counts is the canonical bytes of a message, in base64: there is one reader for it, whoever carries it.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from protocol.encoding.codec import decode, encode
from protocol.encoding.strict_json import exact_keys, parse_object
from protocol.errors import MalformedError
from protocol.identity.ids import ModelManifest
from protocol.policy.policy import MAX_LISTS
from protocol.policy.trust import Trust
from protocol.receipts.bundle import Bundle
from protocol.routing.routes import MAX_LEGS
from protocol.session.logprobs import said_bytes
from protocol.session.messages import Session, SignedReceipt, SignedVoucher
from protocol.session.order import MAX_EVIDENCE_BYTES
from protocol.session.receipt import MOST_SKETCHES_BYTES
from protocol.session.terms import MAX_REROUTES, Terms

__all__ = ["dump_bundle", "load_bundle"]

FORMAT = "joulemesh-receipt/3"
ABOUT = "Evidence of one paid inference job. Check it with: joule receipt verify FILE"
MAX_BUNDLE_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 5
MAX_SEALED_BYTES = 64 * 1024
_KEYS = (
    "format",
    "about",
    "text",
    "transcript",
    "verifier_key",
    "manifest",
    "terms",
    "session",
    "offers",
    "acceptances",
    "reroutes",
    "tokens",
    "logprobs",
    "windows",
    "nonce",
    "voucher",
    "evidence",
    "law",
)


def dump_bundle(bundle: Bundle) -> str:
    """The bundle as JSON."""
    text, asks = bundle.text, bundle.terms.sampling.logprobs is not None
    value = {
        "format": FORMAT,
        "about": ABOUT,
        "text": None if text is None else {"prompt": text[0], "answer": text[1]},
        "transcript": _maybe(bundle.transcript),
        "verifier_key": bundle.verifier_key,
        "manifest": _b64(encode(bundle.manifest)),
        "terms": _b64(encode(bundle.terms)),
        "session": _b64(encode(bundle.session)),
        "offers": [_b64(each) for each in bundle.offers],
        "acceptances": [_b64(each) for each in bundle.acceptances],
        "reroutes": [_b64(each) for each in bundle.reroutes],
        "tokens": None if bundle.tokens is None else list(bundle.tokens),
        "logprobs": None if bundle.tokens is None or not asks else _b64(b"".join(bundle.said)),
        "windows": [
            [{"receipt": _b64(encode(signed)), "sketches": _b64(sketches)} for signed, sketches in row]
            for row in bundle.windows
        ],
        "nonce": _maybe(bundle.nonce),
        "voucher": _b64(encode(bundle.pay)),
        "evidence": {
            "opened": _b64(bundle.opened),
            "settled": _b64(bundle.settled),
            "released": _maybe(bundle.released),
        },
        "law": {
            "trust": None if bundle.trust is None else _b64(encode(bundle.trust)),
            "lists": [_b64(each) for each in bundle.lists],
            "round_trips": _maybe(bundle.measured),
        },
    }
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def load_bundle(data: bytes) -> Bundle:
    """The bundle in a file's bytes. Raises MalformedError; what it says is still to be verified."""
    value = parse_object(data, limit=MAX_BUNDLE_BYTES, depth=MAX_DEPTH)
    if value.get("format") != FORMAT:
        raise MalformedError(
            f"this is no {FORMAT} file", hint="give the file that `joule run` wrote, with this version or a newer one"
        )
    exact_keys(value, *_KEYS)
    _text(value["about"])
    evidence = exact_keys(value["evidence"], "opened", "settled", "released")
    law = exact_keys(value["law"], "trust", "lists", "round_trips")
    windows = tuple(
        tuple(_receipt(each) for each in _list(row, MAX_LEGS)) for row in _list(value["windows"], MAX_BUNDLE_BYTES)
    )
    terms, tokens = decode(_raw(value["terms"]), Terms), value["tokens"]
    return Bundle(
        verifier_key=_text(value["verifier_key"]),
        manifest=decode(_raw(value["manifest"]), ModelManifest),
        terms=terms,
        session=decode(_raw(value["session"]), Session),
        offers=_sealed(value["offers"], MAX_LEGS),
        acceptances=_sealed(value["acceptances"], MAX_LEGS),
        reroutes=_sealed(value["reroutes"], MAX_REROUTES),
        tokens=None if tokens is None else tuple(_token(each) for each in _list(tokens, MAX_BUNDLE_BYTES)),
        said=_said(value["logprobs"], 0 if tokens is None else said_bytes(terms.sampling.logprobs)),
        windows=windows,
        nonce=None if value["nonce"] is None else _raw(value["nonce"], least=32, most=32),
        pay=decode(_raw(value["voucher"]), SignedVoucher),
        opened=_raw(evidence["opened"], most=MAX_EVIDENCE_BYTES),
        settled=_raw(evidence["settled"], most=MAX_EVIDENCE_BYTES),
        released=None if evidence["released"] is None else _raw(evidence["released"], most=MAX_EVIDENCE_BYTES),
        transcript=None if value["transcript"] is None else _raw(value["transcript"]),
        text=_texts(value["text"]),
        trust=None if law["trust"] is None else decode(_raw(law["trust"]), Trust),
        lists=_sealed(law["lists"], MAX_LISTS),
        measured=None if law["round_trips"] is None else _raw(law["round_trips"]),
    )


def _receipt(value: object) -> tuple[SignedReceipt, bytes]:
    pair = exact_keys(value, "receipt", "sketches")
    sketches = _raw(pair["sketches"], least=0, most=MOST_SKETCHES_BYTES)
    return decode(_raw(pair["receipt"]), SignedReceipt), sketches


def _said(value: object, size: int) -> tuple[bytes, ...]:
    """By generated token, so many bytes each; nothing where the terms ask for none."""
    if (value is None) is not (size == 0):
        raise MalformedError("log probabilities that the terms do not ask for, or none where they do")
    data = b"" if value is None else _raw(value, least=0, most=MAX_BUNDLE_BYTES)
    if size and len(data) % size:
        raise MalformedError("log probabilities of a part of a token")
    return tuple(data[at : at + size] for at in range(0, len(data), size or 1))


def _texts(value: object) -> tuple[str, str] | None:
    if value is None:
        return None
    pair = exact_keys(value, "prompt", "answer")
    return _text(pair["prompt"]), _text(pair["answer"])


def _sealed(value: object, most: int) -> tuple[bytes, ...]:
    return tuple(_raw(each, least=0) for each in _list(value, most))


def _list(value: object, most: int) -> list[Any]:
    if type(value) is not list or len(value) > most:
        raise MalformedError(f"a receipt file with something else than a list of at most {most}")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise MalformedError("a receipt file with something else than text")
    return value


def _token(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**32:
        raise MalformedError("a token id that is not a 32-bit number")
    return value


def _maybe(data: bytes | None) -> str | None:
    return None if data is None else _b64(data)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _raw(value: object, *, least: int = 1, most: int = MAX_SEALED_BYTES) -> bytes:
    try:
        data = base64.b64decode(_text(value).encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise MalformedError("a value that is not base64") from None
    if _b64(data) != value or not least <= len(data) <= most:
        raise MalformedError(f"a value of {len(data)} bytes, or not in the one spelling of base64")
    return data
