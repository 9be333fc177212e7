"""The list of receipts says what each file is worth, whatever is in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forged_bundles import honest_bundle

from protocol.receipts.bundle_file import dump_bundle

Joule = Callable[..., Any]


def test_without_receipts_the_list_says_where_they_would_be(joule: Joule, home: Path) -> None:
    assert joule("receipt", "list").out == f"no receipts in {home / 'receipts'}: `joule run` keeps them there\n"
    assert joule("receipt", "list", "--json").json == []


def test_a_receipt_is_shown_without_what_was_asked(joule: Joule, tmp_path: Path) -> None:
    whole, shown = tmp_path / "whole.json", tmp_path / "shown.json"
    whole.write_text(dump_bundle(honest_bundle()))
    assert joule("receipt", "redact", str(whole), str(shown)).out == (
        f"{shown}: verifies, without the tokens of prompt and answer\n"
    )
    before, after = (joule("receipt", "verify", str(each), "--json").json for each in (whole, shown))
    assert after == {**before, "withheld": True}
    assert "withheld" in joule("receipt", "verify", str(shown)).out
    again = joule("receipt", "redact", str(whole), str(shown))
    assert (again.status, "exists already" in again.err) == (1, True)
    refused = joule("audit", str(shown))
    assert (refused.status, "the tokens of this receipt are withheld" in refused.err) == (1, True)


def test_a_file_that_is_no_receipt_is_listed_with_what_is_wrong(joule: Joule, home: Path) -> None:
    (home / "receipts").mkdir(parents=True)
    for age, (name, text) in enumerate({"new.json": "{", "old\x1b[2J.json": '{"format": "x"}'}.items()):
        file = home / "receipts" / name
        file.write_text(text)
        os.utime(file, (1_700_000_000 - age, 1_700_000_000 - age))
    (home / "receipts" / "notes.txt").write_text("not listed")
    listed = joule("receipt", "list", "--json").json
    assert [(Path(each["file"]).name, each["verified"], each["paid"]) for each in listed] == [
        ("new.json", False, None),
        ("old\x1b[2J.json", False, None),
    ]
    assert listed[0]["time"] == 1_700_000_000
    assert all(each["error"]["code"] == "malformed" for each in listed)
    shown = joule("receipt", "list")
    assert shown.status == 0
    assert "NO: " in shown.out
    assert "\x1b" not in shown.out
    assert "old␛[2J.json" in shown.out.replace("\n", "")
