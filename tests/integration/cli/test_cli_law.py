"""`joule anchor show`, `joule attest` and `joule policy`, as people run them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Joule = Callable[..., Any]


@pytest.fixture
def keys(joule: Joule) -> dict[str, dict[str, str]]:
    made = {}
    for name in ("auditor", "worker"):
        done = joule("key", "new", "--light", "--name", name, "--json")
        assert done.status == 0, done.err
        made[name] = json.loads(done.out)
    return made


def said(joule: Joule, *arguments: str) -> Any:
    done = joule(*arguments, "--json")
    assert done.status == 0, done.err
    return json.loads(done.out)


def test_a_statement_is_signed_shown_and_taken_back(joule: Joule, home: Path, keys: dict[str, Any]) -> None:
    file, listed = str(home / "berlin.statement"), str(home / "back.list")
    arguments = ("attest", "place", keys["worker"]["peer_id"], "de-be", "--key", "auditor", "--out", file)
    made = said(joule, *arguments, "--days", "30")
    assert made == said(joule, "attest", "show", file)
    assert made["signer"] == keys["auditor"]["address"]
    assert made["about"] == keys["worker"]["address"]
    assert made["says"] == ["place DE-BE"]
    assert made["expires_at"] - made["issued_at"] == 30 * 86_400
    assert "DE-BE" in joule("attest", "show", file).out
    assert joule(*arguments).status != 0, "it is not written over"

    back = ("attest", "revoke", file, "--out", listed)
    assert joule(*back, "--key", "worker").status != 0
    taken = said(joule, *back, "--key", "auditor")
    assert taken["kind"] == "list"
    assert taken["says"] == [f"statement {made['hash'].removeprefix('0x')}"]
    assert said(joule, *back, "--key", "auditor")["says"] == taken["says"]


def test_a_list_grows_under_one_key(joule: Joule, home: Path, keys: dict[str, Any]) -> None:
    file = str(home / "export.list")
    new = ("attest", "deny", "--key", "auditor", "--out", file)
    first = said(joule, *new, "--name", "export control", "--place", "ir", "--effective-in-days", "2")
    assert first["effective_from"] - first["issued_at"] == 2 * 86_400
    operator = keys["worker"]["address"]
    second = said(joule, *new, "--operator", operator, "--hardware", "cluster")
    assert second["says"] == ["place IR", f"operator {operator.lower()}", "hardware cluster"]
    assert (second["about"], second["effective_from"]) == ("export control", first["effective_from"])
    assert joule(*new, "--place", "XX").status != 0
    assert joule("attest", "deny", "--key", "worker", "--out", file).status != 0
    (home / "junk").write_text("junk")
    for command in (("attest", "show", str(home / "junk")), ("attest", "show", str(home / "none"))):
        done = joule(*command)
        assert done.status != 0
        assert "Traceback" not in done.err


def test_a_policy_is_told_in_sentences(joule: Joule, home: Path, keys: dict[str, Any]) -> None:
    file = str(home / "a.list")
    said(joule, "attest", "deny", "--key", "auditor", "--out", file, "--place", "IR", "--days", "400")
    flags = (
        "--allow", "EU", "--origin", "DE", "--corridor", "EU>EU-ADEQUACY:inference:2099-01-01", "--training",
        "forbidden", "--max-retention-s", "0", "--deny-list", f"{keys['auditor']['address']}@{file}",
        "--attestor", keys["auditor"]["address"], "--min-evidence", "attested", "--max-price-out", "2",
    )  # fmt: skip
    found = said(joule, "policy", "show", *flags)
    assert [each["name"] for each in found["blocs"]] == ["EU", "EU-ADEQUACY"]
    assert len(found["blocs"][0]["members"]) == 27
    assert found["lists"][0]["entries"] == 1
    assert found["trust"] is not None
    out = joule("policy", "show", *flags).out
    for word in ("machines stand in EU", "corridors for inference", "attested", "no model is trained", "0 s", "$2.00"):
        assert word in out
    assert "anywhere" in joule("policy", "show").out
    assert joule("policy", "show", "--corridor", "EU>CH:inference:2099-01-01").status == 0
    assert joule("policy", "show", "--corridor", "EU>CH").status != 0


def test_an_anchors_line_is_what_settings_take(joule: Joule, keys: dict[str, Any]) -> None:
    place = ("anchor", "show", "--key", "auditor", "--at", "50.11,8.68", "--place", "DE")
    line = said(joule, *place, "--inside-km", "100")["anchor"]
    assert line == f"{keys['auditor']['address']}@DE:50.11/8.68:100km"
    assert said(joule, "policy", "show", "--anchor", line)["trust"] is not None
    assert said(joule, *place)["anchor"].endswith(":0km")
    for wrong in (("--at", "91,0"), ("--at", "x"), ("--place", "EU"), ("--place", "XX")):
        done = joule(*place, *wrong)
        assert done.status != 0
        assert "Traceback" not in done.err
