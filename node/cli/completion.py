"""`joule completion`: what a shell needs to complete commands, options and their values."""

from __future__ import annotations

from dataclasses import dataclass

import click
from click.shell_completion import get_completion_class

from node.cli.terminal.options import examples, json_option
from node.cli.terminal.output import print_json

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_JOULE_COMPLETE"
"""What the script sets when it asks `joule` for what may come next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionScript:
    """What a shell has to read."""

    shell: str
    """``bash``, ``zsh`` or ``fish``."""
    script: str
    """In that shell's language."""


@click.command(
    epilog=examples(
        'eval "$(joule completion bash)"',
        "joule completion bash > ~/.local/share/bash-completion/completions/joule",
        "joule completion fish > ~/.config/fish/completions/joule.fish",
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print what SHELL reads to complete `joule`: commands, options, words to choose from, files.

    bash has to be 4.4 or later. For zsh write it to a file named _joule in a folder of its fpath.
    """
    from node.cli.entry import joule

    found = get_completion_class(shell)
    assert found is not None, "click knows the shells named above"
    script = found(joule, {}, "joule", VARIABLE).source().strip()
    if as_json:
        print_json(CompletionScript(shell=shell, script=script))
    else:
        click.echo(script)
