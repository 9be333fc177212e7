"""Routes that change, sessions that continue, several windows ahead: each bundle with its invalid neighbours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import PeerError
from protocol.receipts.bundle import verify_bundle
from protocol.receipts.bundle_file import load_bundle
from protocol.session.messages import session_id
from scripts.vectors import sessions

Json = dict[str, Any]
CASES = json.loads(Path(sessions.FILE).read_text())["cases"]
WRONG = [(case, wrong) for case in CASES for wrong in case["invalid"]]


def named(name: str) -> Json:
    return next(case for case in CASES if case["name"] == name)


def test_they_are_what_the_script_writes() -> None:
    assert json.loads(json.dumps(sessions.document())) == {"cases": CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_bundle_verifies(case: Json) -> None:
    found = verify_bundle(load_bundle(case["bundle"].encode()))
    assert found.complete
    assert list(found.amounts) == case.get("amounts", list(found.amounts))
    assert len(found.sketches) == len(found.windows)


@pytest.mark.parametrize(("case", "wrong"), WRONG, ids=[wrong["name"] for _, wrong in WRONG])
def test_a_bundle_that_breaks_a_rule_is_refused(case: Json, wrong: Json) -> None:
    assert wrong["edits"]
    with pytest.raises(PeerError):
        verify_bundle(load_bundle(json.dumps(json.loads(case["bundle"]) | wrong["edits"]).encode()))


def test_indices_are_left_out_after_a_reroute() -> None:
    case = named("a standby takes over")
    found = verify_bundle(load_bundle(case["bundle"].encode()))
    assert [window.index for window in found.windows] == case["indices"]


def test_a_session_begins_where_the_one_before_is_held() -> None:
    case = named("a session that continues another")
    found, before = (verify_bundle(load_bundle(case[key].encode())) for key in ("bundle", "before"))
    assert (found.base, list(found.starts)) == (case["base"], case["starts"])
    assert found.continues == session_id(before.session)
    assert found.windows[0].start == case["base"] <= before.windows[-1].end
