"""`joule status`, with services that run and without any."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from node.app.process.services import services_here, shown_here
from node.events import GatewayReady, unheard

Joule = Callable[..., Any]


def test_an_empty_home_says_so_and_is_left_alone(home: Path, joule: Joule) -> None:
    found = joule("status", "--ledger", "http://127.0.0.1:1")
    assert found.status == 0
    for said in ("Nothing runs here.", "No keys: joule key new", "No open sessions.", "(no answer)"):
        assert said in found.out
    assert not home.exists()


def test_a_ledger_that_runs_here_is_found_on_any_port(home: Path, joule: Joule) -> None:
    assert joule("key", "new", "--light").status == 0
    command = [sys.executable, "-m", "node", "ledger", "run", "--port", "0", "--json", "--faucet-limit", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            told = next(each for each in map(json.loads, process.stdout) if each["event"] == "ledger ready")
            assert joule("faucet", "2", "--ledger", told["url"]).status == 0
            found = joule("status", "--json")
            assert found.status == 0
            (service,) = found.json["services"]
            assert (service["service"], service["process"]) == ("ledger", process.pid)
            assert service["ready"]["url"] == found.json["ledger"] == told["url"]
            assert [(each["name"], each["free"]) for each in found.json["keys"]] == [("default", 2_000_000)]
            assert found.json["warnings"] == []
            assert told["url"] in joule("status").out
        finally:
            process.send_signal(signal.SIGKILL)
    # What was killed does not run, and the next start sweeps its file away.
    assert services_here(home) == []
    assert len(list((home / "services").iterdir())) == 1
    with shown_here(home, "node", unheard):
        assert [each.service for each in services_here(home)] == ["node"]
    assert list((home / "services").iterdir()) == []


def test_a_service_is_shown_from_its_start_to_its_end(tmp_path: Path) -> None:
    with shown_here(tmp_path, "gateway", unheard, ledger="http://x") as events:
        (starting,) = services_here(tmp_path)
        assert (starting.process, starting.ledger, starting.ready) == (os.getpid(), "http://x", None)
        events(GatewayReady(url="http://127.0.0.1:8640/v1", key_needed=False))
        (ready,) = services_here(tmp_path)
        assert ready.ready == {"url": "http://127.0.0.1:8640/v1", "key_needed": False}
        for torn in (b'{"service": "gat', b"[]", b'{"since": "now", "ledger": 1, "ready": 3}'):
            (path,) = (tmp_path / "services").iterdir()
            path.write_bytes(torn)
            assert [each.ready for each in services_here(tmp_path)] == [None]
    assert services_here(tmp_path) == []


def test_a_folder_that_cannot_be_written_stops_no_service(tmp_path: Path) -> None:
    (tmp_path / "services").write_text("a file")
    with shown_here(tmp_path, "gateway", unheard) as events, contextlib.suppress(OSError):
        events(GatewayReady(url="http://127.0.0.1:1/v1", key_needed=True))
    assert services_here(tmp_path) == []


def test_a_proof_against_a_ledger_is_a_warning(home: Path, joule: Joule) -> None:
    (home / "ledgers").mkdir(parents=True)
    (home / "ledgers" / "x.fork.json").write_text("{}")
    warned = [each["what"] for each in joule("status", "--ledger", "http://127.0.0.1:1", "--json").json["warnings"]]
    assert warned == ["ledger", "ledger forked"]
