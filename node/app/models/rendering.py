"""Renders one chat template, in a process of its own: ``python rendering.py`` reads a JSON object and writes one.

A template is a program from a stranger. It runs in Jinja's sandbox, with bounds on time, memory and output that the
operating system keeps, and without what this process does not need: it imports nothing of Joulemesh, is told no secret,
and can write no file.

What templates may count on is what Hugging Face's `apply_chat_template` gives them: blocks trimmed, ``break`` and
``continue``, the ``generation`` block, ``tojson`` that leaves HTML alone, ``raise_exception`` and ``strftime_now``.
"""

from __future__ import annotations

import json
import resource
import sys
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

__all__ = ["CPU_S", "MAX_MEMORY_BYTES", "MAX_TEXT_LENGTH"]

CPU_S = 2
MAX_MEMORY_BYTES = 512 * 1024 * 1024
MAX_TEXT_LENGTH = 8 * 1024 * 1024
"""Characters."""
MAX_WORDS = 1_000
"""Characters of an error, which whoever asked reads whole."""


class Refused(TemplateError):
    """The template itself says that these messages are not for it."""


class Generation(Extension):
    """``{% generation %}`` marks what a model is trained on; when a prompt is written it is a block like any other."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_written"), [], [], body).set_lineno(line)

    def _written(self, caller: Any) -> Any:
        return caller()


class PublicNamespace(Namespace):
    """``namespace()`` without names that could reach into Python's workings."""

    def __init__(*args: Any, **attributes: Any) -> None:
        own, *rest = args
        values = dict(*rest, **attributes)
        for name in values:
            _require_public(name)
        Namespace.__init__(own, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _require_public(name)
        super().__setitem__(name, value)


class Dicts:
    """``dict`` as a function, without the type behind it."""

    def __call__(self, *args: Any, **entries: Any) -> dict[Any, Any]:
        return dict(*args, **entries)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _require_public(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")


def _raise_exception(message: object) -> NoReturn:
    raise Refused(str(message))


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)  # noqa: DTZ005 - the local time is what templates are written for


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = _tojson
    made.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
    made.globals |= {"dict": Dicts(), "namespace": PublicNamespace}
    return made


def _limit_this_process() -> None:
    none = (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NPROC)
    most = {resource.RLIMIT_CPU: CPU_S, resource.RLIMIT_AS: MAX_MEMORY_BYTES, **dict.fromkeys(none, 0)}
    for what, limit in most.items():
        _, hard = resource.getrlimit(what)  # whoever started us may have set a lower one
        own = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (own, own))


def _rendered(template: str, variables: dict[str, Any]) -> dict[str, str]:
    pieces, length = [], 0
    try:
        for piece in _environment().from_string(template).generate(**variables):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_TEXT_LENGTH:
                return {"failed": f"it writes more than {MAX_TEXT_LENGTH} characters"}
    except Refused as refusal:
        return {"refused": str(refusal)[:MAX_WORDS]}
    except Exception as error:  # noqa: BLE001 - a stranger's program may fail in any way
        return {"failed": f"{type(error).__name__}: {error}"[:MAX_WORDS]}
    return {"text": "".join(pieces)}


def _main() -> None:
    asked = json.load(sys.stdin)
    _limit_this_process()
    json.dump(_rendered(asked["template"], asked["variables"]), sys.stdout)


if __name__ == "__main__":
    _main()
