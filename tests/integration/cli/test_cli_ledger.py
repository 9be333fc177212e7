"""`joule` against a real ledger process: money in and out, verification, and what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ledger_world import CLIENT, MILLION, PROVIDERS, make_session, open_session, receipt_of, stake

from node.keystore import Keystore
from node.ledger import LedgerClient
from node.ledger.log_key import read_log_key
from protocol.identity.ids import checksum_address
from protocol.log.checkpoint import Checkpoint, operator_line, sign_checkpoint
from protocol.log.fork import ForkProof, dump_fork
from protocol.log.note import Note, parse_note
from protocol.receipts.double_receipt import DoubleReceipt, dump_double
from protocol.session.messages import SignedReceipt
from protocol.settlement import ledger_domain

Joule = Callable[..., Any]
START_S = 90
PASSPHRASE = "correct horse"


class LedgerProcess(NamedTuple):
    """A ledger that runs as a person would run it."""

    process: subprocess.Popen[str]
    url: str
    folder: Path
    verifier_key: str


def start(forked: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "JOULE_HOME": str(folder), "JOULE_PASSPHRASE": PASSPHRASE}
    command = [str(forked / "joule"), "ledger", "run", "--json", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def ledger(home: Path, joule: Joule, forked: Path) -> Iterator[LedgerProcess]:
    assert joule("key", "new", "--light", "--name", "operator").status == 0
    assert joule("key", "new", "--light").status == 0
    process = start(
        forked,
        home,
        "--key",
        "operator",
        "--port",
        "0",
        "--faucet-limit",
        "10",
        "--grace-s",
        "60",
        "--unbonding-s",
        "2",
    )
    with process:
        try:
            assert process.stdout is not None
            event = json.loads(process.stdout.readline() or '{"event": "ended"}')
            assert event["event"] == "ledger ready", process.communicate(timeout=START_S)
            yield LedgerProcess(process, event["url"], home, event["verifier_key"])
        finally:
            if process.poll() is None:
                process.kill()


def test_money_goes_in_and_out_and_the_log_verifies(joule: Joule, ledger: LedgerProcess) -> None:
    at = ("--ledger", ledger.url)
    credited = joule("faucet", "5", *at, "--json")
    assert credited.status == 0, credited
    address = joule("key", "show", "--json").json["address"]
    assert credited.json["free"][address] == 5_000_000
    assert joule("withdraw", "1.25", *at).out == f"withdrew $1.25 from {address} (ledger entry 2)\n"
    assert joule("balance", *at).out == f"{address}  $3.749999 free\n"
    expected = {"address": address, "free": 3_749_999, "held": 0, "held_until": None, "nonce": 1}
    expected |= {"bond": 0, "unbonding": 0, "unlock_at": None}
    assert joule("balance", address, *at, "--json").json == expected

    too_much = joule("withdraw", "100", *at)
    assert (too_much.status, too_much.out) == (1, "")
    assert "96.250001 missing" in too_much.err
    beyond = joule("faucet", "6", *at, "--json")
    assert (beyond.status, set(beyond.json)) == (1, {"code", "message", "hint"})

    for target in (ledger.url, str(ledger.folder / "ledger" / "ledger.sqlite3")):
        verified = joule("ledger", "verify", target, "--verifier-key", ledger.verifier_key, "--json")
        assert verified.status == 0
        found = verified.json
        assert (found["sound"], found["entries"], found["held"]) == (True, 3, 3_750_000)
        assert (found["deposited"], found["withdrawn"]) == (5_000_000, 1_250_000)
    assert "every entry follows the rules" in joule("ledger", "verify", ledger.url).out


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_money_is_staked_and_comes_back_after_a_wait(joule: Joule, ledger: LedgerProcess) -> None:
    at = ("--ledger", ledger.url)
    assert joule("faucet", "5", *at).status == 0
    address = joule("key", "show", "--json").json["address"]
    assert joule("stake", "6", *at).status == 1
    said = f"{address}: staked $2.00; $2.00 is at stake (ledger entry 2)\n"
    assert joule("stake", "2", *at).out == said
    leaving = joule("unstake", "1.50", *at, "--json").json
    assert (leaving["bond"], leaving["unbonding"]) == (500_000, 1_500_000)
    assert leaving["unlock_at"] == leaving["time"] + 2
    found = joule("balance", *at, "--json").json
    assert (found["bond"], found["unbonding"], found["unlock_at"]) == (500_000, 1_500_000, leaving["unlock_at"])
    told = joule("balance", *at).out
    assert "$0.50 is at stake\n" in told
    assert "joule unbond" in told
    assert "less than" in joule("unstake", "0.6", *at).err
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "node.cli.accounts.stakes.print_json", interrupted
        )  # at the last moment: it is taken, and nobody was told
        assert joule("stake", "0.1", *at, "--json").status != 0
    again = joule("stake", "0.1", *at, "--json").json
    assert (again["bond"], again["earlier"]) == (600_000, True)
    assert joule("unstake", "0.1", *at, "--json").json["earlier"] is False
    leaving = joule("balance", *at, "--json").json

    freed = joule("unbond", *at, "--json")
    while freed.status:  # the wait is two seconds of the ledger's clock
        assert freed.json["code"] == "early"
        freed = joule("unbond", *at, "--json")
    assert (freed.json["free"], freed.json["unbonding"], freed.json["unlock_at"]) == (4_499_995, 0, None)
    assert freed.json["time"] >= leaving["unlock_at"]
    verified = joule("ledger", "verify", str(ledger.folder / "ledger" / "ledger.sqlite3"), "--json").json
    assert (verified["sound"], verified["held"], verified["burned"]) == (True, 5_000_000, 0)


def test_an_operator_that_signs_two_histories_loses_its_stake(
    joule: Joule, ledger: LedgerProcess, tmp_path: Path
) -> None:
    at = ("--ledger", ledger.url)
    for who in ("operator", "default"):
        assert joule("faucet", "4", *at, "--key", who).status == 0
    assert joule("stake", "2", *at, "--key", "operator").status == 0
    log_key = read_log_key(ledger.folder / "ledger" / "log.key")
    operator = Keystore(ledger.folder / "keys").find("operator").unlock(PASSPHRASE)

    def signed(root: int, *, by_operator: bool = True) -> bytes:
        checkpoint = Checkpoint(log_key.verifier.name, 7, bytes([root]) * 32)
        found = parse_note(sign_checkpoint(checkpoint, log_key))
        line = operator_line(ledger_domain(ledger.verifier_key), checkpoint, operator)
        return bytes(Note(found.text, (*found.signatures, line) if by_operator else found.signatures))

    def kept(one: bytes, two: bytes) -> str:
        proof = ForkProof(verifier_key=ledger.verifier_key, older=one, newer=two, root=b"\x02" * 32, consistency=())
        (tmp_path / "x.fork.json").write_text(dump_fork(proof))
        return str(tmp_path / "x.fork.json")

    unsigned = joule("ledger", "accuse", kept(signed(1), signed(2, by_operator=False)), *at)
    assert (unsigned.status, unsigned.out) == (1, "")
    assert "no stake answers for them" in unsigned.err
    found = joule("ledger", "accuse", kept(signed(1), signed(2)), *at, "--json")
    assert found.status == 0, found
    assert (found.json["reward"], found.json["burned"]) == (1_000_000, 1_000_000)
    assert joule("balance", *at, "--json").json["free"] == 4_999_999
    again = joule("ledger", "accuse", kept(signed(1), signed(2)), *at, "--json")
    assert (again.status, again.json["code"]) == (1, "nothing-staked")
    verified = joule("ledger", "verify", ledger.url, "--json").json
    assert (verified["sound"], verified["burned"], verified["held"]) == (True, 1_000_000, 7_000_000)


def test_a_leg_that_signs_twice_loses_its_stake(joule: Joule, ledger: LedgerProcess, tmp_path: Path) -> None:
    at, session = ("--ledger", ledger.url), make_session(expiry=int(time.time()) + 3600)
    domain = ledger_domain(ledger.verifier_key)
    first, second = receipt_of(domain, session), receipt_of(domain, session, rows=14)

    async def begin() -> None:
        async with LedgerClient(ledger.url) as client:
            for key in (CLIENT, PROVIDERS[0]):
                await client.faucet(key.address, 4 * MILLION)
            await client.submit(stake(2 * MILLION + 1), PROVIDERS[0])
            await client.submit(open_session(session), CLIENT)

    def kept(venue: str, one: SignedReceipt = second) -> str:
        path = tmp_path / "x.double.json"
        path.write_text(dump_double(DoubleReceipt(venue=venue, session=session, first=first, second=one)))
        return str(path)

    assert joule("faucet", "1", *at).status == 0
    unknown = joule("ledger", "accuse", kept(ledger.verifier_key), *at, "--json")
    assert (unknown.status, unknown.json["code"]) == (1, "unknown-session")
    asyncio.run(begin())
    assert "counts in another venue" in joule("ledger", "accuse", kept("evm:1:0x" + "11" * 20), *at).err
    assert "prove nothing" in joule("ledger", "accuse", kept(ledger.verifier_key, first), *at).err
    found = joule("ledger", "accuse", kept(ledger.verifier_key), *at, "--json")
    assert found.status == 0, found
    assert found.json["accused"] == checksum_address(PROVIDERS[0].address)
    assert (found.json["reward"], found.json["burned"]) == (MILLION, MILLION + 1)


def test_an_operator_announces_other_rules(joule: Joule, ledger: LedgerProcess) -> None:
    at = ("--ledger", ledger.url)
    assert joule("ledger", "notice", "--fee", "0.001", *at).status == 1  # not the operator's key
    nothing = joule("ledger", "notice", "--key", "operator", *at, "--json")
    assert (nothing.status, nothing.json["message"]) == (1, "nothing is to change")
    wrong = joule("ledger", "notice", "--key", "operator", "--fee", "0", *at)
    assert (wrong.status, wrong.out) == (1, "")
    assert "--fee: " in wrong.err
    found = joule("ledger", "notice", "--key", "operator", "--fee", "0.001", "--days", "8", *at, "--json").json
    assert (found["entry"], found["fee"], found["faucet_limit"], found["bond_multiple"]) == (1, 1_000, 10_000_000, 0)
    said = joule("ledger", "notice", "--key", "operator", "--bond-multiple", "3", *at).out
    assert said.startswith("announced; it holds from ")
    assert said.endswith(" on (ledger entry 2)\n")
    assert joule("ledger", "verify", ledger.url).status == 0


def test_a_ledger_that_was_tampered_with_is_found_out(joule: Joule, ledger: LedgerProcess) -> None:
    assert joule("faucet", "5", "--ledger", ledger.url).status == 0
    ledger.process.send_signal(signal.SIGINT)
    _, err = ledger.process.communicate(timeout=START_S)
    assert (ledger.process.returncode, err) == (0, "")

    file = ledger.folder / "ledger" / "ledger.sqlite3"
    assert joule("ledger", "verify", str(file)).status == 0
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE accounts SET free = free + 1 WHERE free = 5000000")
    outcome = joule("ledger", "verify", str(file))
    assert (outcome.status, outcome.err) == (1, "")
    assert "NOT SOUND: entry 1: account " in outcome.out
    assert joule("ledger", "verify", str(file), "--json").json["fault"]["entry"] == 1


def test_what_goes_wrong_is_told_in_one_message(
    joule: Joule, ledger: LedgerProcess, forked: Path, tmp_path: Path
) -> None:
    second = start(forked, ledger.folder, "--key", "operator", "--port", "0")
    out, err = second.communicate(timeout=START_S)
    assert second.returncode == 1
    assert "another process is writing this ledger" in json.loads(out)["message"]
    assert err == ""

    assert joule("key", "new", "--light", "--data-dir", str(tmp_path / "other")).status == 0
    port = ledger.url.rpartition(":")[2]
    third = start(forked, tmp_path / "other", "--port", port)
    out, err = third.communicate(timeout=START_S)
    assert third.returncode == 1
    assert json.loads(out)["code"] == "listen"
    assert err == ""

    ledger.process.send_signal(signal.SIGTERM)
    out, err = ledger.process.communicate(timeout=START_S)
    assert (ledger.process.returncode, err) == (0, "")
    gone = joule("balance", "--ledger", ledger.url)
    assert (gone.status, gone.out) == (1, "")
    assert "does not answer" in gone.err
    assert "joule ledger run" in gone.err


def test_a_ledger_needs_its_operators_passphrase(joule: Joule, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joule("key", "new", "--light")
    monkeypatch.setenv("JOULE_PASSPHRASE", "battery staple")
    outcome = joule("ledger", "run", "--port", "0", "--json")
    assert (outcome.status, outcome.json["code"]) == (1, "passphrase")
    assert not (home / "ledger").exists()
