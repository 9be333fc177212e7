"""Many prompts from a file, one answer each into another: resumable, so that nothing is paid for twice.

Each prompt is a line of JSON, and so is each answer, which is on disk before the next prompt is asked. While an answer
comes, what a later run needs to go on from there is kept beside it; a process that dies loses the last moments of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.app.buying.asking import Asked, Question
from node.app.buying.client import Client
from node.app.buying.receipts import new_receipt_file
from node.app.buying.request import Request
from node.app.buying.unfinished import keep_unfinished, load_unfinished
from node.app.models.prompt import MAX_PROMPT_BYTES, Prompt, load_messages
from node.durable import replace_file
from protocol.encoding.strict_json import require_shallow
from protocol.errors import ConfigurationError, JoulemeshError, LocalError, MalformedError, ModelError
from protocol.identity.ids import ModelManifest

__all__ = ["Answer", "Batch", "Item", "answers_in", "load_items"]

MOST_ITEMS = 1_000_000
MOST_LINE = 2 * MAX_PROMPT_BYTES
MOST_DEPTH = 8
"""Brackets that are open at once in a line."""
SNAPSHOT_S = 0.25
"""Between two times that an answer is kept as far as it came."""
FIELDS = {"id", "prompt", "messages", "system", "raw", "max_tokens"}
_EXAMPLE = 'each line is an object such as {"prompt": "What is 17 + 25?", "id": "sum"}'


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt of a file."""

    number: int
    """Of its line, from 1."""
    name: str
    """What the file calls it; empty where it has no ``id``."""
    prompt: Prompt
    most: int | None
    """Generated tokens at most; as the settings say where None."""
    digest: str
    """SHA-256 of the line: an answer names it, so that it is not taken for that of another question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one prompt: a line of the file of answers."""

    number: int
    """Of the prompt's line, from 1."""
    id: str
    """What the file of prompts calls it; empty where it has no ``id``."""
    question_sha256: str
    """Of the prompt's line, in hex."""
    answer: str
    """As far as it came."""
    tokens_in: int
    """Prompt tokens."""
    tokens_out: int
    """Generated tokens, of this run where an earlier one was cut off."""
    price_in_micro: int
    """Micro-units per million prompt tokens, over all legs."""
    price_out_micro: int
    """Micro-units per million generated tokens, over all legs."""
    paid_micro: int | None
    """Micro-units to providers, as this run paid; null where the process ended before it could say."""
    fees_micro: int | None
    """Micro-units to the ledger, likewise."""
    receipt: str | None
    """File of the last session's receipt."""
    error: dict[str, str] | None
    """Why it is not whole; null where it is. Such a prompt is asked again by a later run."""


def load_items(file: Path) -> list[Item]:
    """The prompts of a file, one a line; empty lines are passed over. Raises ConfigurationError."""
    items: list[Item] = []
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(MOST_LINE + 1), b""), 1):
                if number > MOST_ITEMS or len(line) > MOST_LINE:
                    raise _wrong(f"line {number} of {file} is too long, or one too many")
                if line.strip():
                    items.append(_item(number, line))
    except OSError as error:
        raise _wrong(f"cannot read {file}: {error.strerror}") from None
    if not items:
        raise _wrong(f"{file} has no prompt")
    return items


def _item(number: int, line: bytes) -> Item:
    try:
        require_shallow(line, MOST_DEPTH)
        value = json.loads(line.decode())
    except (ValueError, MalformedError):
        raise _wrong(f"line {number} is not JSON") from None
    if not isinstance(value, dict) or not set(value) <= FIELDS or ("prompt" in value) is ("messages" in value):
        raise _wrong(f"line {number} is not a prompt or messages, with no more than {', '.join(sorted(FIELDS))}")
    most, name = value.get("max_tokens"), value.get("id", "")
    if not (most is None or (type(most) is int and 0 < most <= 1_000_000)) or not isinstance(name, str):
        raise _wrong(f"line {number}: max_tokens is a number from 1 to 1000000, and id is text")
    try:
        prompt = _prompt(value)
    except ConfigurationError as error:
        raise _wrong(f"line {number}: {error.message}") from None
    return Item(number, name, prompt, most, hashlib.sha256(line.strip()).hexdigest())


def _prompt(value: dict[str, Any]) -> Prompt:
    if "messages" in value:
        return Prompt(messages=load_messages(json.dumps(value["messages"]).encode()))
    text, system = value["prompt"], value.get("system")
    if not isinstance(text, str) or not isinstance(system, str | None) or type(value.get("raw", False)) is not bool:
        raise _wrong("prompt and system are text, and raw is true or false")
    return Prompt(raw=text) if value.get("raw", False) else Prompt.question(text, system=system)


def _wrong(message: str) -> ConfigurationError:
    return ConfigurationError(message, code="batch", hint=_EXAMPLE)


def answers_in(file: Path, items: Sequence[Item]) -> dict[int, Answer]:
    """Answers that an earlier run wrote, by line; the last of each counts. A line that was cut off by a crash is passed
    over. Raises ConfigurationError where they are of other prompts.
    """
    wanted = {item.number: item.digest for item in items}
    found: dict[int, Answer] = {}
    for answer in _answers(file):
        if wanted.get(answer.number) != answer.question_sha256:
            raise ConfigurationError(
                f"{file} has an answer to line {answer.number} that was another prompt then",
                code="batch",
                hint="choose another --output: answers are never overwritten",
            )
        found[answer.number] = answer
    return found


def _answers(file: Path) -> Iterator[Answer]:
    try:
        lines = file.read_bytes().split(b"\n") if file.exists() else []
    except OSError as error:
        raise LocalError(f"cannot read {file}: {error.strerror}", hint="choose another --output") from None
    for number, line in enumerate(lines, 1):
        try:
            if line:
                require_shallow(line, MOST_DEPTH)
                yield Answer(**json.loads(line))
        except (ValueError, TypeError, MalformedError):
            if number < len(lines):
                raise ConfigurationError(
                    f"line {number} of {file} is no answer", code="batch", hint="choose another --output"
                ) from None


@dataclass(slots=True)
class Batch:
    """Asks prompts and writes answers.

    Args:
        before: awaited before each prompt is asked; it may wait for a better time.
        told: called with each answer that was written.
    """

    client: Client
    manifest: ModelManifest
    output: Path
    before: Callable[[], Awaitable[None]]
    told: Callable[[Answer], None]
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def _kept(self) -> Path:
        """Where answers are kept that are not whole yet."""
        return self.output.with_name(f"{self.output.name}.unfinished")

    async def run(self, items: Sequence[Item], *, at_once: int) -> None:
        """Ask them all, so many at once.

        Raises what stands against all of them: RoutingError, FundsError, UnreachableError, LocalError. What was
        answered by then is written.
        """
        self._kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        left = iter(items)

        async def work() -> None:
            for item in left:  # shared by all: each takes the next
                await self._one(item)

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())
        if not any(self._kept.iterdir()):
            self._kept.rmdir()

    async def _one(self, item: Item) -> None:
        written = self._kept / f"{item.number}.answer.json"
        whole = _read(written)
        if whole is not None:  # and the process ended before it could say so
            answer = Answer(**json.loads(whole))
        else:
            await self.before()
            try:
                answer = await self._ask(item)
            except (ConfigurationError, ModelError) as error:
                answer = _failed(item, error)
        await self._write(answer)
        written.unlink(missing_ok=True)
        self.told(answer)

    async def _ask(self, item: Item) -> Answer:
        snapshot = self._kept / f"{item.number}.json"
        question = await self._question(item, snapshot)
        pieces: list[str] = []
        kept_s = 0.0

        def take(piece: str) -> None:
            nonlocal kept_s
            pieces.append(piece)
            if (now := time.monotonic()) - kept_s >= SNAPSHOT_S and (unfinished := question.unfinished()) is not None:
                keep_unfinished(unfinished, snapshot)
                kept_s = now

        await question.answer(take)
        if (unfinished := question.unfinished()) is None:
            whole = _answer(item, "".join(pieces), len(question.tokens))
            replace_file(self._kept / f"{item.number}.answer.json", json.dumps(_plain(whole)).encode())
            snapshot.unlink(missing_ok=True)
        else:
            keep_unfinished(unfinished, snapshot)
        report, _ = await question.report()
        if report.error is None:
            snapshot.unlink(missing_ok=True)
        return Answer(
            number=item.number,
            id=item.name,
            question_sha256=item.digest,
            answer=report.answer,
            tokens_in=report.tokens_in,
            tokens_out=report.tokens_out,
            price_in_micro=report.price_in_micro,
            price_out_micro=report.price_out_micro,
            paid_micro=report.paid_micro,
            fees_micro=report.fees_micro,
            receipt=report.receipt_file,
            error=report.error,
        )

    async def _question(self, item: Item, snapshot: Path) -> Question:
        client = self.client
        file = new_receipt_file(client.config.data_dir / "receipts")
        if (kept := _read(snapshot)) is not None:
            return await Question.resume(client, load_unfinished(kept), receipt_file=file)
        text = await client.text(self.manifest)
        ids = await asyncio.to_thread(text.prompt_ids, item.prompt)
        request = Request(prompt=tuple(ids), model=self.manifest.root.hex(), most=item.most)
        return await Question.of(client, Asked(shown=item.prompt.shown, request=request), text, receipt_file=file)

    async def _write(self, answer: Answer) -> None:
        """On disk when this returns. Raises LocalError."""
        line = json.dumps(_plain(answer), ensure_ascii=False).encode() + b"\n"
        async with self._writing:
            try:
                await asyncio.to_thread(_append, self.output, line)
            except OSError as error:
                raise LocalError(f"cannot write {self.output}: {error.strerror}") from None


def _read(file: Path) -> bytes | None:
    """What was kept; None where nothing was."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None


def _append(file: Path, line: bytes) -> None:
    """After a line that a crash cut off, on a line of its own."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.ftruncate(descriptor, _whole(descriptor, size))
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _whole(descriptor: int, size: int) -> int:
    """Bytes of whole lines."""
    return os.pread(descriptor, size, 0).rfind(b"\n") + 1


def _plain(answer: Answer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in Answer.__dataclass_fields__}


def _answer(item: Item, text: str, tokens: int) -> Answer:
    """What is known of an answer before its report."""
    return Answer(
        number=item.number,
        id=item.name,
        question_sha256=item.digest,
        answer=text.strip(),
        tokens_in=0,
        tokens_out=tokens,
        price_in_micro=0,
        price_out_micro=0,
        paid_micro=None,
        fees_micro=None,
        receipt=None,
        error=None,
    )


def _failed(item: Item, error: JoulemeshError) -> Answer:
    known = _answer(item, "", 0)
    why = {"code": error.code, "message": error.message, "hint": error.hint}
    return Answer(**{**_plain(known), "paid_micro": 0, "fees_micro": 0, "error": why})
