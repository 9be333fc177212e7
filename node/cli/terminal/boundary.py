"""Where every error ends: one message, one exit status, never a traceback.

Exit statuses: 0 done; 1 an error that Joulemesh knows; 2 wrong usage; 70 a defect, written to a crash report;
130 and 143 stopped by SIGINT and SIGTERM.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from node.json_values import plain
from node.screen import json_text, screen_line
from protocol.errors import ConfigurationError, InvalidError, JoulemeshError, RoutingError

__all__ = ["EXTRAS", "FAILED", "Failure", "Interrupted", "extra_for", "install_hint", "report", "wants_json"]

FAILED = 1
USAGE = 2
DEFECT = 70

EXTRAS = {
    "asyncpg": "postgres",
    "matplotlib": "sim",
    "pyarrow": "sim",
    "safetensors": "engine",
    "torch": "engine",
    "zeus": "energy",
}
"""The extra of our distribution that brings an optional package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotUsable:
    """An offer that a route cannot use."""

    provider: bytes
    """Its address."""
    jurisdiction: str
    """Where it says that it stands."""
    blocks: str
    """``START:END``, the end not included."""
    code: str
    """Why, for programs."""
    reason: str
    """Why, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a command did not do what it should."""

    code: str
    """Stable, for programs: ``usage`` for wrong usage, ``defect`` for a defect of ours."""
    message: str
    """For people."""
    hint: str
    """What to do; may be empty."""
    reasons: tuple[NotUsable, ...] = ()
    """Where there is no route: why each offer cannot be used."""


class Interrupted(Exception):
    """The command was stopped by a signal, and has cleaned up."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether ``--json`` is among the options, as far as that can be told before they are parsed."""
    options = list(arguments)
    if "--" in options:
        options = options[: options.index("--")]
    return "--json" in options


def report(error: BaseException, *, as_json: bool, crash_folder: Path) -> int:
    """Tell a person (stderr) or a program (stdout) about an error; returns the exit status."""
    match _cause(error):
        case Interrupted(status=status):
            return status
        case KeyboardInterrupt() | click.Abort():
            return 130
        case BrokenPipeError():
            _stop_writing()
            return FAILED
        case click.ClickException() as usage:
            return _usage(usage, as_json)
        case InvalidError() as defect:  # read from nobody: a value that we made ourselves
            return _defect(defect, as_json, crash_folder)
        case JoulemeshError() as known:
            _tell(known, as_json)
            return FAILED
        case ModuleNotFoundError() as missing if (extra := extra_for(missing)) is not None:
            _tell(extra, as_json)
            return FAILED
        case defect:
            return _defect(defect, as_json, crash_folder)


def extra_for(missing: ModuleNotFoundError) -> JoulemeshError | None:
    """The error for an optional package that is not installed; None when it is not an optional one."""
    package = (missing.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    hint = install_hint(EXTRAS[package])
    return ConfigurationError(f"this needs {package}, which is not installed", code="missing-extra", hint=hint)


def install_hint(extra: str) -> str:
    """The command that installs an extra. There is no published package: it comes from the checkout."""
    return f"in the folder of Joulemesh's source: pip install '.[{extra}]'"


def _cause(error: BaseException) -> BaseException:
    """The one error behind a group of them, where all in the group are errors that Joulemesh knows."""
    while isinstance(error, BaseExceptionGroup):
        unknown = error.split(_is_known)[1]
        if unknown is not None and len(unknown.exceptions) > 1:
            return error
        error = (unknown or error).exceptions[0]
    return error


def _is_known(error: BaseException) -> bool:
    return isinstance(error, JoulemeshError) and not isinstance(error, InvalidError)


def _tell(error: JoulemeshError, as_json: bool) -> None:
    if as_json:
        _print_json(Failure(code=error.code, message=error.message, hint=error.hint, reasons=_reasons(error)))
        return
    click.echo(f"error: {screen_line(error.message)}", err=True)
    for each in _reasons(error):
        line = f"{plain(each.provider)} ({each.jurisdiction}, blocks {each.blocks}): {each.reason}"
        click.echo(f"  {screen_line(line)}", err=True)
    if error.hint:
        click.echo(f"hint: {screen_line(error.hint)}", err=True)


def _reasons(error: JoulemeshError) -> tuple[NotUsable, ...]:
    """Why each offer cannot be used, where there is no route."""
    if not isinstance(error, RoutingError):
        return ()
    from protocol.identity.signing import address_of_public_key
    from protocol.routing.routes import NoRouteError

    explanations = error.explanations if isinstance(error, NoRouteError) else ()
    return tuple(
        NotUsable(
            provider=address_of_public_key(offer.public_key),
            jurisdiction=offer.jurisdiction,
            blocks=str(offer.span),
            code=str(reason.code),
            reason=reason.sentence,
        )
        for offer, reason in explanations
    )


def _usage(error: click.ClickException, as_json: bool) -> int:
    if as_json:
        _print_json(Failure(code="usage", message=error.format_message(), hint="see --help"))
    else:
        error.show()
    return error.exit_code


def _defect(error: BaseException, as_json: bool, folder: Path) -> int:
    details = "".join(traceback.format_exception(error))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"crash-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.log"
        path.touch(mode=0o600)
        path.write_text(details, encoding="utf-8", errors="backslashreplace")
        where = f"details are in {path}"
    except OSError:
        sys.stderr.write(details)
        where = "details are above"
    message = f"a defect in Joulemesh ({type(error).__name__}); {where}"
    if as_json:
        _print_json(Failure(code="defect", message=message, hint="please report it"))
    else:
        click.echo(f"error: {message}", err=True)
    return DEFECT


def _print_json(failure: Failure) -> None:
    facts = plain(failure)
    if not failure.reasons:
        del facts["reasons"]
    click.echo(json_text(facts))


def _stop_writing() -> None:
    """Whoever read our output has gone: keep the interpreter from complaining when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
