"""`joule completion` in a real shell, which asks `joule` as a person's does when Tab is pressed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Joule = Callable[..., Any]

ASK = """
source "$1" || exit 1
complete -p joule > /dev/null || exit 2
shift
COMP_WORDS=(joule "$@"); COMP_CWORD=$#; COMPREPLY=()
function_of=$(complete -p joule | sed -E 's/.* -F ([^ ]+) .*/\\1/')
"$function_of" joule "${COMP_WORDS[COMP_CWORD]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def tab(joule: Joule, tmp_path: Path) -> Callable[..., list[str]]:
    """What bash offers after some words, the last of which is begun."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    found = joule("completion", "bash")
    assert found.status == 0
    script, bin_folder = tmp_path / "joule.bash", tmp_path / "bin"
    script.write_text(found.out)
    bin_folder.mkdir()
    command = bin_folder / "joule"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m node "$@"\n')
    command.chmod(0o755)

    def press(*words: str) -> list[str]:
        done = subprocess.run(
            [bash, "-c", ASK, "ask", str(script), *words],
            env={**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout.split()

    return press


def test_bash_completes_commands_options_and_words(tab: Callable[..., list[str]]) -> None:
    assert tab("rec") == ["receipt", "reclaim"]
    assert tab("gateway", "key", "") == ["list", "new", "revoke"]
    assert "--max-price-out" in tab("run", "--max-p")
    assert tab("zzz") == []


@pytest.mark.parametrize(("shell", "has"), [("zsh", "#compdef joule"), ("fish", "--command joule")])
def test_other_shells_have_their_own(joule: Joule, shell: str, has: str) -> None:
    found = joule("completion", shell, "--json")
    assert (found.status, found.json["shell"]) == (0, shell)
    assert has in found.json["script"]


def test_a_shell_that_nobody_knows_is_refused(joule: Joule) -> None:
    assert joule("completion", "tcsh").status == 2
