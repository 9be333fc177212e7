"""Every way in which a command can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from node.cli.entry import CommandTree
from protocol.errors import FundsError, InvalidError, LostPeerError, MalformedError

Joule = Callable[..., Any]
TIMEOUT_S = 60


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make every command raise."""

    def make(error: BaseException) -> None:
        @click.command()
        @click.option("--json", "as_json", is_flag=True)
        @click.argument("rest", nargs=-1)
        def command(as_json: bool, rest: tuple[str, ...]) -> None:
            raise error

        monkeypatch.setattr(CommandTree, "get_command", lambda *_: command)

    return make


def test_a_known_error_is_a_message_and_a_hint(joule: Joule, failing: Callable[[BaseException], None]) -> None:
    failing(FundsError("2.00 is missing", hint="deposit it"))
    assert joule("x") == (1, "", "error: 2.00 is missing\nhint: deposit it\n")
    outcome = joule("x", "--json")
    assert (outcome.status, outcome.err) == (1, "")
    assert outcome.json == {"code": "funds", "message": "2.00 is missing", "hint": "deposit it"}


def test_an_error_without_a_hint_has_no_hint_line(joule: Joule, failing: Callable[[BaseException], None]) -> None:
    failing(LostPeerError("the peer went away"))
    assert joule("x").err == "error: the peer went away\n"


def test_json_after_two_dashes_is_not_an_option(joule: Joule, failing: Callable[[BaseException], None]) -> None:
    failing(FundsError("m"))
    assert joule("x", "--", "--json").out == ""


def test_of_a_group_of_known_errors_the_first_is_told(joule: Joule, failing: Callable[[BaseException], None]) -> None:
    failing(ExceptionGroup("tasks", [ExceptionGroup("inner", [MalformedError("first")]), FundsError("second")]))
    assert joule("x") == (1, "", "error: first\n")


def test_a_defect_writes_a_crash_report_and_one_line(
    joule: Joule, failing: Callable[[BaseException], None], home: Path
) -> None:
    failing(ZeroDivisionError("secret detail"))
    outcome = joule("x")
    assert (outcome.status, outcome.out) == (70, "")
    (report,) = home.glob("crash-*.log")
    assert outcome.err == f"error: a defect in Joulemesh (ZeroDivisionError); details are in {report}\n"
    assert "secret detail" in report.read_text()
    assert report.stat().st_mode & 0o077 == 0
    assert joule("x", "--json").json["code"] == "defect"


def test_a_defect_among_known_errors_is_still_a_defect(joule: Joule, failing: Callable[[BaseException], None]) -> None:
    failing(ExceptionGroup("tasks", [FundsError("known"), KeyError("x"), ValueError("y")]))
    assert joule("x").status == 70


def test_a_wrong_value_of_our_own_is_a_defect(joule: Joule, failing: Callable[[BaseException], None]) -> None:
    failing(InvalidError("Leg.cap: -1 is outside 0..2^63-1"))
    outcome = joule("x")
    assert outcome.status == 70
    assert outcome.err.startswith("error: a defect in Joulemesh (InvalidError); details are in ")
    failing(ExceptionGroup("tasks", [FundsError("known"), InvalidError("ours")]))
    assert joule("x").status == 70


def test_a_wrong_value_that_a_user_wrote_is_told_to_the_user(joule: Joule) -> None:
    assert joule("balance", "0x12") == (
        1,
        "",
        "error: '0x12' is not an address\nhint: an address is 0x and 40 hex digits\n",
    )
    for reference in ("x" * 97, "a\x1b[31m", "a\u202eb"):
        outcome = joule("withdraw", "1", "--reference", reference)
        assert outcome.status == 1
        assert outcome.err.startswith("error: --reference: text ")


def test_a_missing_extra_names_what_to_install(joule: Joule, failing: Callable[[BaseException], None]) -> None:
    failing(ModuleNotFoundError("No module named 'torch'", name="torch.nn"))
    outcome = joule("x")
    assert outcome.status == 1
    assert outcome.err == (
        "error: this needs torch, which is not installed\n"
        "hint: in the folder of Joulemesh's source: pip install '.[engine]'\n"
    )


def test_another_missing_module_is_a_defect(joule: Joule, failing: Callable[[BaseException], None]) -> None:
    failing(ModuleNotFoundError("No module named 'nosuch'", name="nosuch"))
    assert joule("x").status == 70


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_quiet(joule: Joule, failing: Callable[[BaseException], None], error: BaseException) -> None:
    failing(error)
    status, out, err = joule("x")
    assert (status, out, err.strip()) == (130, "", "")


@pytest.mark.parametrize("arguments", [("nosuch",), ("key", "new", "--nosuch"), ("run",), ("offers", "--wait", "soon")])
def test_wrong_usage_is_status_2(joule: Joule, arguments: tuple[str, ...]) -> None:
    outcome = joule(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert "Usage: joule" in outcome.err
    in_json = joule(*arguments, "--json")
    assert (in_json.status, in_json.err, in_json.json["code"]) == (2, "", "usage")


def test_a_setting_out_of_range_is_told_with_its_unit(joule: Joule) -> None:
    outcome = joule("node", "run", "--model", "m", "--energy-price", "30")
    assert outcome.err.startswith("error: --energy-price: 30 $ per kWh is outside 0 to 25\n")


@pytest.mark.parametrize("command", [("receipt", "verify"), ("receipt", "show"), ("audit",)])
def test_a_file_that_is_no_receipt(joule: Joule, tmp_path: Path, command: tuple[str, ...]) -> None:
    assert "cannot read" in joule(*command, str(tmp_path / "none.json")).err
    (tmp_path / "bad.json").write_text("{}")
    outcome = joule(*command, str(tmp_path / "bad.json"))
    assert outcome.status == 1
    assert "is no joulemesh-receipt/3 file" in outcome.err


def test_a_prompt_needs_a_key(joule: Joule) -> None:
    outcome = joule("run", "hello")
    assert outcome.status == 1
    assert "hint: make one with `joule key new`" in outcome.err


@pytest.mark.parametrize("amount", ["0", "-1", "lots", "0.0000001"])
def test_an_amount_is_a_positive_number(joule: Joule, amount: str) -> None:
    outcome = joule("withdraw", "--", amount)
    assert outcome.status == 1
    assert "hint: write an amount like 2.50" in outcome.err


def test_whoever_stops_reading_is_not_told_of_it() -> None:
    script = f"{sys.executable} -m node node init | head -1"
    outcome = subprocess.run(["bash", "-c", script], capture_output=True, timeout=TIMEOUT_S, text=True, check=False)
    assert outcome.stdout.startswith("# Settings")
    assert outcome.stderr == ""


WORK = """
import asyncio, sys
from node.cli.terminal.boundary import Interrupted, report
from node.cli.terminal.running import run_job, serve

async def work(answer):
    try:
        print("ready", flush=True)
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("cleaned up", flush=True)
        if answer:
            return "partial"
        raise

try:
    if sys.argv[1] == "serve":
        tell = lambda event: print(event.name, flush=True)
        serve(work(False), events=tell, reload=lambda: print("reloaded", flush=True))
        sys.exit(0)
    result, status = run_job(work(sys.argv[1] == "answer"))
    print(result, flush=True)
    sys.exit(status)
except Interrupted as stop:
    sys.exit(stop.status)
"""


@pytest.mark.parametrize(
    ("mode", "number", "status", "said"),
    [
        ("serve", signal.SIGINT, 0, "stopping\ncleaned up\nstopped\n"),
        ("serve", signal.SIGTERM, 0, "stopping\ncleaned up\nstopped\n"),
        ("job", signal.SIGINT, 130, "cleaned up\n"),
        ("job", signal.SIGTERM, 143, "cleaned up\n"),
        ("answer", signal.SIGINT, 130, "cleaned up\npartial\n"),
    ],
)
def test_a_signal_cancels_cleans_up_and_sets_the_status(
    mode: str, number: signal.Signals, status: int, said: str
) -> None:
    command = [sys.executable, "-c", WORK, mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err) == (status, said, "")


def test_a_hangup_makes_a_service_read_its_settings_and_never_ends_it() -> None:
    command = [sys.executable, "-c", WORK, "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(2):
            os.kill(process.pid, signal.SIGHUP)
            assert process.stdout.readline() == "reloaded\n"
        os.kill(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err) == (0, "stopping\ncleaned up\nstopped\n", "")


def test_what_others_wrote_into_an_error_is_only_shown(joule: Joule, failing: Callable[[BaseException], None]) -> None:
    failing(MalformedError("bad\x1b[2J\u202e", hint="\x9b1m"))
    assert joule("x").err == "error: bad␛[2J<U+202E>\nhint: <U+009B>1m\n"
    outcome = joule("x", "--json")
    assert (outcome.json["message"], outcome.json["hint"]) == ("bad\x1b[2J\u202e", "\x9b1m")
    assert outcome.out.removesuffix("\n").isprintable()
