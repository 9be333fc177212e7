"""Tries one grammar in a process of its own: ``python mask_trial.py`` reads a JSON object and writes one.

A grammar is a program from a stranger, and a few lines of it keep the library busy for minutes. What comes to an end
here, within bounds on time and memory that the operating system keeps, does so in a node, too. This process imports
nothing of Joulemesh, is told no secret, and can write no file.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

CPU_S = 2
MAX_MEMORY_BYTES = 512 * 1024 * 1024
MAX_WORDS = 300
"""Characters of a refusal."""


def _limit_this_process(cpu_s: int) -> None:
    none = (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NPROC)
    most = {resource.RLIMIT_CPU: cpu_s, resource.RLIMIT_AS: MAX_MEMORY_BYTES, **dict.fromkeys(none, 0)}
    for what, limit in most.items():
        _, hard = resource.getrlimit(what)  # whoever started us may have set a lower one
        own = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (own, own))


def _tried(asked: dict[str, Any]) -> dict[str, str]:
    try:
        made = LLTokenizer("byte")
        matcher = LLMatcher(made, asked["grammar"], log_level=0, limits=LLParserLimits(**asked["limits"]))
        if not matcher.is_error():
            matcher.compute_bitmask()
        why = matcher.get_error()
    except Exception as error:  # noqa: BLE001 - a stranger's program may fail in any way
        why = str(error) or type(error).__name__
    return {"refused": why.splitlines()[0][:MAX_WORDS]} if why else {"ok": ""}


def _main() -> None:
    asked = json.load(sys.stdin)
    _limit_this_process(CPU_S)
    json.dump(_tried(asked), sys.stdout)


if __name__ == "__main__":
    _main()
