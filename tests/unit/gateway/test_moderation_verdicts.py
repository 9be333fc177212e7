"""What somebody else says of a request: read whatever it is."""

from __future__ import annotations

import pytest

from node.gateway.moderation import verdict_of


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (b'{"flagged": false}', (False, "")),
        (b'{"flagged": true, "reason": "no \\ud800"}', (True, "no ?")),
        (b'{"results": [{"flagged": false}, {"flagged": true}]}', (True, "")),
    ],
)
def test_a_verdict_is_read(answer: bytes, verdict: tuple[bool, str]) -> None:
    assert verdict_of(answer) == verdict


@pytest.mark.parametrize(
    "answer", [b"", b"\xff", b"1", b'{"results": []}', b'{"results": [1]}', b'{"flagged": 1}', b"[" * 60_000]
)
def test_what_is_none_is_refused_as_one(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        verdict_of(answer)
