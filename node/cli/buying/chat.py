"""`joule chat`: a conversation on a terminal, or over a pipe, a line for each question."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.app.models.prompt import MAX_PROMPT_BYTES, ChatMessage, load_messages
from node.cli.terminal.options import configured, examples, json_option, passphrase_option, unlocked
from node.cli.terminal.output import tell
from node.config import ClientConfig
from node.durable import replace_file
from protocol.errors import ConfigurationError, LocalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.events import Events
    from protocol.identity.signing import SigningKey

__all__ = ["chat"]


@click.command(
    epilog=examples(
        "joule chat",
        'joule chat --system "Answer in one sentence." --history talk.json',
        "printf 'Who has the drum?\\nWhere is it?\\n' | joule chat --json",
    )
)
@configured(ClientConfig)
@click.option("--model", metavar="NAME|ROOT", help="The model to use; needed where several are on offer.")
@click.option("--system", metavar="TEXT", help="Tell the model how to answer.")
@click.option(
    "--history",
    "history_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Go on from the conversation in FILE, where there is one, and keep this one there: a JSON list as "
    "`joule run --messages` takes it.",
)
@click.option("--verbose", "-v", is_flag=True, help="Tell each step on stderr: --log-level info.")
@passphrase_option
@json_option
def chat(
    config: ClientConfig,
    model: str | None,
    system: str | None,
    history_file: Path | None,
    verbose: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> int:
    """Talk with a model: several questions, each with its own route, price and receipt.

    Each line is a question. A question goes on from the one before: providers that still hold the conversation compute
    and are paid only what is new, at their rate for held tokens for the rest. /help lists what can be said besides.
    Answers go to stdout, all else to stderr; with --json there is only a report for each question, a line each, on
    stdout. The exit status is 1 where a question was not answered in full.
    """
    turns = _history(history_file)
    key = unlocked(config, passphrase_file)
    events = tell(dataclasses.replace(config, log_level="info") if verbose else config, as_json=as_json, err=True)
    return _talk(config, key, events, model, system, turns, history_file, as_json=as_json)


def _talk(
    config: ClientConfig,
    key: SigningKey,
    events: Events,
    model: str | None,
    system: str | None,
    turns: Sequence[ChatMessage],
    history: Path | None,
    *,
    as_json: bool,
) -> int:
    import asyncio

    from node.app.buying.chatting import Chat
    from node.app.buying.client import open_client
    from node.cli.buying.talk import Talk

    def keep(said: Sequence[ChatMessage]) -> None:
        if history is not None:
            _keep(history, said)

    async def run() -> int:
        async with open_client(config, key, events) as client:
            receipts = config.data_dir / "receipts"
            begun = await Chat.begin(client, receipts=receipts, model=model, turns=turns, system=system)
            return await Talk(begun, keep, as_json=as_json).run()

    return asyncio.run(run())


def _history(file: Path | None) -> tuple[ChatMessage, ...]:
    """The turns in a file; none where it does not exist yet. Raises ConfigurationError."""
    if file is None or not file.exists():
        return ()
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_PROMPT_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}", code="prompt") from None
    return load_messages(content)


def _keep(file: Path, turns: Sequence[ChatMessage]) -> None:
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        replace_file(file, json.dumps(messages, ensure_ascii=False, indent=1).encode() + os.linesep.encode())
    except OSError as error:
        raise LocalError(f"cannot write {file}: {error.strerror}", hint="give --history another place") from None
