"""`joule peers`: what is remembered is shown with what follows from it, and forgotten on demand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node.app.network.peers import peers_file
from node.peers import PeerDatabase
from node.peers.deeds import Deeds
from protocol.identity.ids import checksum_address
from protocol.reputation.standing import Deed

Joule = Callable[..., Any]
FAILED, LIAR = b"f" * 20, b"l" * 20


@pytest.fixture
def remembered(tmp_path: Path) -> Path:
    now, deeds = int(time.time()), Deeds()
    deeds.take(FAILED, Deed.SERVED, at=now - 900, amount=1_500_000)
    for second in range(3):
        deeds.take(FAILED, Deed.SILENT, at=now - second, about="took the job and said nothing\x1b[2J")
    deeds.take(LIAR, Deed.LIED, at=now, about="signed for 10^12 J")
    for node in (None, b"n" * 20):
        database = PeerDatabase(peers_file(tmp_path, node))
        database.write(deeds, now)
        database.close()
    return tmp_path


def test_peers_are_listed_with_their_deeds_and_until_when_they_are_left_out(joule: Joule, remembered: Path) -> None:
    outcome = joule("peers", "list", "--data-dir", str(remembered), "--json")
    assert outcome.status == 0
    failed, liar = json.loads(outcome.out)
    assert failed["address"] == checksum_address(FAILED)
    assert {each["deed"]: (each["count"], each["amount"]) for each in failed["deeds"]} == {
        "served": (1, 1_500_000),
        "silent": (3, 0),
    }
    assert failed["shunned_until"] > time.time() + 60
    assert "it failed you 3 times in a row" in failed["why"]
    assert "it signed what cannot be true" in liar["why"]
    table = joule("peers", "list", "--data-dir", str(remembered))
    assert "silent 3" in table.out
    assert "took the job and said nothing" in table.out
    assert "\x1b[2J" not in table.out


def test_a_nodes_record_is_its_own(joule: Joule, remembered: Path) -> None:
    node = checksum_address(b"n" * 20)
    outcome = joule("peers", "forget", "all", "--data-dir", str(remembered), "--node", node, "--json")
    assert json.loads(outcome.out) == {"peers": 2}
    assert json.loads(joule("peers", "list", "--data-dir", str(remembered), "--node", node, "--json").out) == []
    assert len(json.loads(joule("peers", "list", "--data-dir", str(remembered), "--json").out)) == 2


def test_one_peer_is_forgotten_and_no_other(joule: Joule, remembered: Path) -> None:
    outcome = joule("peers", "forget", checksum_address(LIAR), "--data-dir", str(remembered))
    assert (outcome.status, outcome.out) == (0, "forgot 1 peer\n")
    (left,) = json.loads(joule("peers", "list", "--data-dir", str(remembered), "--json").out)
    assert left["address"] == checksum_address(FAILED)
    again = joule("peers", "forget", checksum_address(LIAR), "--data-dir", str(remembered))
    assert again.out == "forgot 0 peers\n"


def test_peers_alone_lists_and_says_when_there_are_none(
    joule: Joule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOULE_DATA_DIR", str(tmp_path))
    outcome = joule("peers")
    assert (outcome.status, outcome.out) == (0, "nothing is remembered of any peer\n")
    assert not peers_file(tmp_path, None).exists()


@pytest.mark.parametrize("what", ["0x12", "nobody"])
def test_what_is_no_address_is_refused(joule: Joule, tmp_path: Path, what: str) -> None:
    assert joule("peers", "forget", what, "--data-dir", str(tmp_path)).status == 1
