"""`joule key`: what a person does with keys."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocol.identity.peer_id import public_key_of
from protocol.identity.signing import address_of_public_key

Joule = Callable[..., Any]
SECRET = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
ADDRESS = "0x008AeEda4D805471dF9b2A5B0f38A0C3bCBA786b"


def test_a_new_key_is_shown_without_its_passphrase(joule: Joule, monkeypatch: pytest.MonkeyPatch) -> None:
    made = joule("key", "new", "--light", "--json")
    assert made.status == 0
    monkeypatch.delenv("JOULE_PASSPHRASE")
    shown = joule("key", "show", "--json")
    assert shown.json == made.json
    public_key = bytes.fromhex(made.json["public_key"])
    assert public_key_of(made.json["peer_id"]) == public_key
    assert made.json["address"].lower() == "0x" + address_of_public_key(public_key).hex()
    assert made.json["address"] in joule("key", "show").out
    assert made.json["address"] in joule("key", "list").out


def test_a_second_key_needs_another_name(joule: Joule) -> None:
    assert joule("key", "new", "--light").status == 0
    again = joule("key", "new", "--light")
    assert (again.status, again.out) == (1, "")
    assert again.err.startswith("error: there is a key 'default' already")
    assert "hint: choose another with --name" in again.err
    assert joule("key", "new", "--light", "--name", "berlin").status == 0
    assert [each["name"] for each in joule("key", "list", "--json").json] == ["berlin", "default"]


def test_the_variable_names_the_key(joule: Joule, monkeypatch: pytest.MonkeyPatch) -> None:
    joule("key", "new", "--light", "--name", "berlin")
    monkeypatch.setenv("JOULE_KEY", "berlin")
    assert joule("key", "show", "--json").json["name"] == "berlin"


def test_export_and_import_round_trip_with_another_wallet(joule: Joule, tmp_path: Path) -> None:
    from eth_account import Account

    made = joule("key", "new", "--light", "--json").json
    exported = joule("key", "export")
    assert exported.status == 0
    secret = Account.decrypt(exported.out, "correct horse")
    assert Account.from_key(secret).address == made["address"]

    theirs = tmp_path / "wallet.json"
    theirs.write_text(json.dumps(Account.encrypt(secret, "correct horse", kdf="scrypt", iterations=4096)))
    imported = joule("key", "import", str(theirs), "--name", "back", "--light", "--json")
    assert (imported.json["address"], imported.json["peer_id"]) == (made["address"], made["peer_id"])


def test_a_bare_secret_goes_in_and_out(joule: Joule, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text(f"0x{SECRET}\n")
    imported = joule("key", "import", "--secret-file", str(tmp_path / "secret.txt"), "--light", "--json")
    assert imported.json["address"] == ADDRESS
    assert joule("key", "export", "--secret", "--yes").out == SECRET + "\n"
    out = tmp_path / "out.txt"
    assert joule("key", "export", "--secret", "--yes", "--out", str(out)).status == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert joule("key", "export", "--out", str(out)).status == 1, "an existing file is not overwritten"
    assert out.read_text() == SECRET + "\n"


def test_a_bare_secret_is_not_shown_unasked(joule: Joule, monkeypatch: pytest.MonkeyPatch) -> None:
    joule("key", "new", "--light")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    refused = joule("key", "export", "--secret")
    assert (refused.status, refused.out) == (2, "")


@pytest.mark.parametrize("content", ["", "zz" * 32, "00" * 32, "ff" * 32, "12" * 31])
def test_what_is_no_secret_is_not_imported(joule: Joule, tmp_path: Path, content: str) -> None:
    (tmp_path / "secret.txt").write_text(content)
    outcome = joule("key", "import", "--secret-file", str(tmp_path / "secret.txt"))
    assert outcome.status == 1
    assert "does not hold a secret key" in outcome.err


@pytest.mark.parametrize("arguments", [(), ("a.json", "--secret-file", "b.txt")])
def test_import_takes_one_source(joule: Joule, arguments: tuple[str, ...]) -> None:
    assert joule("key", "import", *arguments).status == 2


def test_a_wrong_passphrase_is_an_error_without_a_traceback(joule: Joule, monkeypatch: pytest.MonkeyPatch) -> None:
    joule("key", "new", "--light")
    monkeypatch.setenv("JOULE_PASSPHRASE", "battery staple")
    outcome = joule("key", "export", "--secret", "--yes")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("error: wrong passphrase for the key 'default'")
    assert "Traceback" not in outcome.err
    assert joule("key", "import", "x", "--json").json["code"] == "keystore"


def test_a_passphrase_file_wins_over_the_variable(joule: Joule, tmp_path: Path) -> None:
    (tmp_path / "pass.txt").write_text("first line\r\nsecond line\n")
    file = ("--passphrase-file", str(tmp_path / "pass.txt"))
    joule("key", "new", "--light", *file)
    assert joule("key", "export", "--secret", "--yes").status == 1
    assert joule("key", "export", "--secret", "--yes", *file).status == 0
    missing = joule("key", "new", "--name", "b", "--passphrase-file", str(tmp_path / "none"))
    assert "cannot read the passphrase file" in missing.err


def test_without_a_terminal_a_missing_passphrase_says_how_to_give_one(
    joule: Joule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOULE_PASSPHRASE")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    outcome = joule("key", "new")
    assert outcome.status == 1
    assert "hint: give --passphrase-file, or set JOULE_PASSPHRASE" in outcome.err
