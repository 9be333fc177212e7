"""The bundle as JSON: read in its one meaning, or refused as malformed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from agreed_job import agree
from played_job import Play

from protocol.errors import MalformedError
from protocol.receipts.bundle import verify_bundle
from protocol.receipts.bundle_file import MAX_BUNDLE_BYTES, dump_bundle, load_bundle

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def text() -> str:
    play = Play(agree(standbys=((0, 6),)))
    play.window()
    play.reroute((3, (0, 6)))
    return dump_bundle(play.run(generated=2).bundle())


def test_the_file_of_an_honest_job_verifies(text: str) -> None:
    found = verify_bundle(load_bundle(text.encode()))
    assert (found.tokens_in, found.tokens_out) == (10, 2)


def test_spaces_and_order_of_keys_mean_nothing(text: str) -> None:
    value = json.loads(text)
    tight = json.dumps(dict(reversed(value.items())), separators=(",", ":"))
    assert load_bundle(tight.encode()) == load_bundle(text.encode())


def other_base64(data: str) -> str:
    """The same bytes with set bits in the padding, which most readers pass over."""
    assert data.endswith("=")
    body = data.rstrip("=")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = letters[letters.index(body[-1]) + 1]
    other = body[:-1] + last + data[len(body) :]
    assert base64.b64decode(other) == base64.b64decode(data)
    return other


def put(value: dict[str, Any], *path: Any, to: Any) -> None:
    for step in path[:-1]:
        value = value[step]
    value[path[-1]] = to


BROKEN: dict[str, Change] = {
    "an unknown key": lambda v: v.update(more=1),
    "an unknown key within": lambda v: v["evidence"].update(more=1),
    "a missing key": lambda v: v.pop("nonce"),
    "another format": lambda v: v.update(format="joulemesh-receipt/1"),
    "no format": lambda v: v.update(format=None),
    "another about": lambda v: v.update(about=[1]),
    "a key of a number": lambda v: v.update(verifier_key=7),
    "a manifest of nothing": lambda v: v.update(manifest=""),
    "terms that are no text": lambda v: v.update(terms=None),
    "another message in its place": lambda v: v.update(session=v["terms"]),
    "an offer too many": lambda v: v.update(offers=v["offers"] * 5),
    "offers that are no list": lambda v: v.update(offers={}),
    "65 reroutes": lambda v: v.update(reroutes=v["reroutes"] * 65),
    "a token below 0": lambda v: put(v, "tokens", 0, to=-1),
    "a token of a fraction": lambda v: put(v, "tokens", 0, to=1.0),
    "a token of truth": lambda v: put(v, "tokens", 0, to=True),
    "a token of text": lambda v: put(v, "tokens", 0, to="1"),
    "a token of 33 bits": lambda v: put(v, "tokens", 0, to=2**32),
    "a huge token": lambda v: put(v, "tokens", 0, to=10**30),
    "a window of 17 receipts": lambda v: put(v, "windows", 0, to=v["windows"][0] * 6),
    "a window that is no list": lambda v: put(v, "windows", 0, to={}),
    "a receipt without sketches": lambda v: v["windows"][1][0].pop("sketches"),
    "sketches too long": lambda v: put(v, "windows", 1, 0, "sketches", to="AAAA" * 1600),
    "a receipt in other base64": lambda v: put(
        v, "windows", 0, 0, "receipt", to=v["windows"][0][0]["receipt"].replace("=", "") + "===="
    ),
    "a nonce of 31 bytes": lambda v: v.update(nonce=base64.b64encode(bytes(31)).decode()),
    "a nonce of 33 bytes": lambda v: v.update(nonce=base64.b64encode(bytes(33)).decode()),
    "a nonce in another spelling": lambda v: v.update(nonce=other_base64(v["nonce"])),
    "base64 with a line break": lambda v: v.update(nonce=v["nonce"][:20] + "\n" + v["nonce"][20:]),
    "base64 for web addresses": lambda v: v.update(voucher=v["voucher"].replace("/", "_").replace("+", "-") + "-"),
    "base64 beyond ASCII": lambda v: v.update(nonce="é" * 44),
    "text without an answer": lambda v: v["text"].pop("answer"),
    "text that is a list": lambda v: v.update(text=["Q", "A"]),
    "a prompt of a number": lambda v: put(v, "text", "prompt", to=5),
    "evidence that is missing": lambda v: put(v, "evidence", "opened", to=None),
    "too much evidence": lambda v: put(v, "evidence", "opened", to="AAAA" * 20_000),
    "a transcript of nothing": lambda v: v.update(transcript=""),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_not_what_it_should_be(text: str, change: Change) -> None:
    value = json.loads(text)
    change(value)
    with pytest.raises(MalformedError):
        load_bundle(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"tokens": [', '"tokens": [], "tokens": ['),
        ('"prompt": "Q"', '"prompt": "other", "prompt": "Q"'),
        ('"opened":', '"opened": null, "opened":'),
        ('"tokens": [\n', '"tokens": [\n1e2,'),
        ('"tokens": [\n', '"tokens": [\n-0,'),
        ('"tokens": [\n', '"tokens": [\nNaN,'),
        ('"tokens": [\n', '"tokens": [\n' + "9" * 5000 + ","),
        ('"prompt": "Q"', '"prompt": "\\ud800"'),
        ('"text": {', '"text": {{'),
    ],
)
def test_json_that_two_readers_take_differently(text: str, old: str, new: str) -> None:
    assert text.count(old) == 1
    with pytest.raises(MalformedError):
        load_bundle(text.replace(old, new).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{\x00}\x00",
        b'{"format": "joulemesh-receipt/3"}',
        b'{"format":' + b"[" * 100_000,
        b'{"windows":' + b"[" * 5 + b"]" * 5 + b"}",
        b'{"format": 1' + b"0" * 100_000 + b"}",
    ],
)
def test_noise_is_no_receipt(data: bytes) -> None:
    with pytest.raises(MalformedError):
        load_bundle(data)


def test_a_file_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(MalformedError, match="are allowed"):
        load_bundle(bytes(MAX_BUNDLE_BYTES + 1))


def test_characters_beyond_ascii_in_the_text_survive() -> None:
    bundle = Play(agree()).run().bundle(text=("Wie heißt „γ“?\n\t\x1b[31m", '🙂"\\'))
    assert load_bundle(dump_bundle(bundle).encode()) == bundle
    verify_bundle(bundle)
