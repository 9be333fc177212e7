"""Every message by itself: its example is what its declaration makes, and each neighbour of it is refused."""

from __future__ import annotations

import json

from protocol.encoding.codec import decode, encode
from protocol.errors import MalformedError
from scripts.vectors.messages import FILE, build, fields, kinds

VECTORS = json.loads(FILE.read_text())
KINDS = {each.kind: each for each in kinds()}


def test_the_file_is_what_the_declarations_make() -> None:
    assert build() == VECTORS


def test_every_message_is_the_one_that_its_bytes_say() -> None:
    for case in VECTORS["messages"]:
        message = decode(bytes.fromhex(case["bytes"]), KINDS[case["kind"]])
        assert fields(message) == case["fields"]
        assert encode(message).hex() == case["bytes"]
    assert {case["kind"] for case in VECTORS["messages"]} == set(KINDS)


def test_neighbours_of_a_message_are_none() -> None:
    taken = [f"{case['kind']}, {case['what']}" for case in VECTORS["malformed"] if is_taken(case)]
    assert not taken


def is_taken(case: dict[str, str]) -> bool:
    try:
        decode(bytes.fromhex(case["bytes"]), KINDS[case["kind"]])
    except MalformedError:
        return False
    return True
