"""How events and libraries' logs are printed, and which are left out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from node.cli.terminal.logs import follow_logs
from node.cli.terminal.output import EventPrinter, money
from node.events import JobFailed, Level, OfferRefused, Stopped

REFUSED = OfferRefused(code="malformed", reason="\x1b[31mno\x1b[0m \x9b2J\u202e")
FAILED = JobFailed(
    client=bytes(20),
    session=b"\x22" * 32,
    leg=1,
    tokens_in=3,
    tokens_out=9,
    paid_micro=123_456,
    code="idle",
    reason="nothing was heard",
)


def test_people_read_a_line_with_time_level_and_money(capsys: pytest.CaptureFixture[str]) -> None:
    EventPrinter(Level.INFO)(FAILED)
    out, err = capsys.readouterr()
    clock, level, sentence = out.rstrip("\n").split(maxsplit=2)
    assert len(clock) == len("12:00:00")
    assert (level, err) == ("warning", "")
    assert "$0.123456" in sentence
    assert sentence.endswith("(222222222222)")


def test_programs_read_an_object_with_everything(capsys: pytest.CaptureFixture[str]) -> None:
    EventPrinter(Level.INFO, as_json=True, err=True)(FAILED)
    out, err = capsys.readouterr()
    told = json.loads(err)
    assert out == ""
    assert isinstance(told.pop("time"), int)
    assert told == {"event": "job failed", "level": "warning", **FAILED.to_json()}


def test_events_below_the_level_are_left_out_until_it_changes(capsys: pytest.CaptureFixture[str]) -> None:
    printer = EventPrinter(Level.WARNING)
    printer(Stopped())
    assert capsys.readouterr().out == ""
    printer.level = Level.INFO
    printer(Stopped())
    assert "stopped" in capsys.readouterr().out


@pytest.mark.parametrize("as_json", [False, True])
def test_text_from_peers_is_only_shown(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    EventPrinter(Level.DEBUG, as_json=as_json)(REFUSED)
    out = capsys.readouterr().out.removesuffix("\n")
    assert out.isprintable()
    if as_json:
        assert json.loads(out)["reason"] == REFUSED.reason


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    found = logging.getLogger()
    handlers, level = list(found.handlers), found.level
    yield found
    found.handlers[:], found.level = handlers, level


def test_libraries_are_heard_from_warnings_on(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    follow_logs(Level.INFO)
    log = logging.getLogger("some.library")
    log.info("nothing to see")
    log.warning("odd: %s", "\x1b[2J")
    assert capsys.readouterr().err.partition("  ")[2] == "warning  some.library: odd: ␛[2J\n"
    follow_logs(Level.ERROR)
    log.warning("odd again")
    assert capsys.readouterr().err == ""
    follow_logs(Level.DEBUG)
    log.debug("details")
    assert "some.library: details" in capsys.readouterr().err


def test_libraries_speak_to_programs_in_json(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    follow_logs(Level.INFO, as_json=True)
    logging.getLogger("a.library").warning("odd: %s", "\x1b[2J\nnext")
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["event"], said["name"], said["message"]) == ("library", "a.library", "odd: \x1b[2J")
    assert "\x1b" not in line


def test_the_same_message_is_shown_once_in_a_while(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    follow_logs(Level.INFO)
    log = logging.getLogger("some.other.library")
    for number in range(100):
        log.error("peer %d is odd", number)
    log.error("another")
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("micro", [0, 1, 20_000, -1, 10**12 + 1])
def test_money_is_exact(micro: int) -> None:
    assert round(float(money(micro)) * 1_000_000) == micro
