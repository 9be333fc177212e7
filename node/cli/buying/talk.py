"""What is typed into a conversation: questions, and words of command with a slash; and what a signal means in it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from node.app.buying.chatting import Chat
from node.app.buying.report import JobReport
from node.app.models.prompt import ChatMessage
from node.cli.terminal.boundary import FAILED, Interrupted, report
from node.cli.terminal.lines import Lines
from node.cli.terminal.output import money
from node.config import ClientConfig
from node.json_values import plain
from node.screen import json_text, screen_line, screen_text
from node.settings import Setting, declared
from protocol.errors import ConfigurationError, InvalidError, JoulemeshError

__all__ = ["Talk"]

TABLES = ("policy", "job")
"""Of the settings that may change in a conversation."""


class Talk:
    """One conversation. Each of its commands is a method whose name begins with ``on_``.

    Args:
        keep: told of all turns after each.
    """

    def __init__(self, chat: Chat, keep: Callable[[Sequence[ChatMessage]], None], *, as_json: bool) -> None:
        self._chat = chat
        self._keep = keep
        self._as_json = as_json
        self._asks = sys.stdin.isatty() and sys.stderr.isatty()
        self._failed = False
        self._last: JobReport | None = None
        self._over = asyncio.Event()
        self._status: int | None = None
        self._turn: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Until the lines end, or somebody ends it; the exit status. Raises Interrupted for a signal."""
        lines = Lines()
        self._watch_signals()
        self._say(f"{screen_line(self._chat.manifest.name)}: /help lists what can be said besides questions")
        while not self._over.is_set() and (line := await self._next(lines)) is not None:
            self._turn = asyncio.create_task(self._take(line.strip()), name="turn")
            with contextlib.suppress(asyncio.CancelledError):
                await self._turn
            self._turn = None
        if self._status is not None:
            raise Interrupted(self._status)
        return FAILED if self._failed else 0

    async def _next(self, lines: Lines) -> str | None:
        if self._asks:
            click.echo("\n> ", nl=False, err=True)
        line = asyncio.create_task(lines.next(), name="line")
        over = asyncio.create_task(self._over.wait(), name="over")
        await asyncio.wait((line, over), return_when=asyncio.FIRST_COMPLETED)
        for task in (line, over):
            task.cancel()
        return None if self._over.is_set() else line.result()

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        loop.add_signal_handler(signal.SIGTERM, self._end, 128 + signal.SIGTERM)

    def _interrupt(self) -> None:
        """During an answer it ends the answer, which is paid for as far as it came; at other times, or again, all."""
        if self._turn is not None and not self._turn.cancelling():
            self._turn.cancel()
        elif self._turn is None:
            self._end(128 + signal.SIGINT)
        else:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)  # a third one does not wait
            self._end(128 + signal.SIGINT)

    def _end(self, status: int) -> None:
        self._status = status
        self._over.set()
        if self._turn is not None:
            self._turn.cancel()

    # What is typed

    async def _take(self, line: str) -> None:
        if not line:
            return
        try:
            if line.startswith("/"):
                await self._command(line[1:])
            else:
                await self._ask(line)
        except InvalidError:
            raise  # a defect of ours
        except JoulemeshError as error:
            self._failed = True
            report(error, as_json=self._as_json, crash_folder=Path())

    async def _ask(self, question: str) -> None:
        made = await self._chat.ask(question, self._ignore if self._as_json else self._write)
        self._last = made
        self._failed = self._failed or made.error is not None or made.settle_error is not None
        if self._as_json:
            click.echo(json_text(plain(made)))
        else:
            click.echo()
            self._say(_summary(made))
            for error in (made.error, made.settle_error):
                if error is not None:
                    self._say(f"{error['message']}. {error['hint']}")
        self._keep(self._chat.dialogue.turns)

    async def _command(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        known = {name.removeprefix("on_"): name for name in dir(self) if name.startswith("on_")}
        if word not in known:
            raise ConfigurationError(f"/{word} means nothing here", hint="/help lists what can be said")
        await getattr(self, known[word])(rest.strip())

    async def on_help(self, _: str) -> None:
        """/help: this list."""
        for name in sorted(name for name in dir(self) if name.startswith("on_")):
            self._say((getattr(self, name).__doc__ or "").strip())
        self._say("Ctrl-C ends an answer, which is paid for as far as it came; at the prompt it ends the conversation.")

    async def on_policy(self, said: str) -> None:
        """/policy: what holds for the questions that follow; /policy NAME VALUE changes it, - for no limit."""
        settings = {each.name: each for each in declared(ClientConfig) if each.table in TABLES}
        name, _, value = said.partition(" ")
        if name and name not in settings:
            raise ConfigurationError(f"there is no setting {name!r}", hint="/policy lists them")
        if value.strip():
            self._set(settings[name], value.strip())
        for each in [settings[name]] if name else settings.values():
            held = getattr(self._chat.client.config, each.field)
            self._say(f"{each.name} = {'-' if held in (None, ()) else screen_line(each.kind.show(held))}")

    def _set(self, setting: Setting, value: str) -> None:
        client = self._chat.client
        try:
            parsed = setting.default if value == "-" else setting.kind.parse(value)
        except ValueError as error:
            what = f"{setting.name}: {error}"
            raise ConfigurationError(what, hint=f"it takes {setting.kind.describe()}") from None
        client.config = dataclasses.replace(client.config, **{setting.field: parsed})

    async def on_cost(self, _: str) -> None:
        """/cost: what the conversation has cost so far, and what is left."""
        costs = self._chat.costs
        free = (await self._chat.client.balance()).free
        self._say(
            f"{costs.turns} questions: {costs.tokens_in} tokens in ({costs.tokens_held} of them held), "
            f"{costs.tokens_out} out, ${money(costs.paid_micro)} to providers, ${money(costs.fees_micro)} in ledger "
            f"fees; ${money(free)} is free"
        )

    async def on_receipt(self, _: str) -> None:
        """/receipt: where the receipts of this conversation are, the last one last."""
        for file in self._chat.receipts:
            self._say(screen_line(str(file)))
        if self._last is not None:
            self._say(f"the last one verified offline: {'yes' if self._last.verified else 'no'}")

    async def on_reset(self, _: str) -> None:
        """/reset: forget what was said; the next question begins anew."""
        self._chat.reset()
        self._keep(self._chat.dialogue.turns)

    async def on_quit(self, _: str) -> None:
        """/quit: end, as the end of the input does."""
        self._over.set()

    # What is shown

    def _say(self, text: str) -> None:
        click.echo(click.style(text, dim=True), err=True)

    def _write(self, piece: str) -> None:
        click.echo(screen_text(piece), nl=False)

    def _ignore(self, _piece: str) -> None:
        pass


def _summary(made: JobReport) -> str:
    held = f" ({made.tokens_held} held)" if made.tokens_held else ""
    first = made.seconds_to_first_token
    waited = "" if first is None else f", the first after {first:.2f} s"
    again = "" if made.sessions < 2 else f", in {made.sessions} sessions"
    cost = f"${money(made.paid_micro)} and ${money(made.fees_micro)} in fees"
    return f"{made.tokens_in} tokens in{held}, {made.tokens_out} out{waited}{again}; {cost}"
