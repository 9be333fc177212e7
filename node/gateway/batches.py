"""Batches: files of requests, answered while nobody waits. What is answered is on disk before the next is asked.

A batch survives the process: the next start goes on with what is not answered. Its requests are its key's: they count
against its budget and rate, wait where others are refused, and are of the class ``batch`` unless they say otherwise.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

from node.gateway.answers import Answers
from node.gateway.entrance import Caller, Entrance
from node.gateway.keys import Keys
from node.gateway.limits import Limits
from node.gateway.reading import Parameters, parse_body
from node.gateway.refusals import ApiError, invalid, missing, refusal_of
from node.gateway.shelf import Shelf, StoredFile, unknown
from node.gateway.wanted import Wanted, read_chat, read_completion
from node.ports import Clock
from node.tasks import Tasks
from protocol.errors import JoulemeshError

__all__ = ["Batches", "batch_lines"]

AT_ONCE = 4
"""Requests of one batch that are answered together."""
MOST_LINES = 50_000
TRIES = 5
"""For a request that could be answered later."""
LONGEST_WAIT_S = 60
DAY_S = 86_400
ENDPOINTS: Mapping[str, Callable[[bytes, Mapping[str, str]], Wanted]] = {
    "/v1/chat/completions": read_chat,
    "/v1/completions": read_completion,
}
MOST_NAME = 512
MOST_METADATA = 16
MOST_METADATA_CHARACTERS = 512
_OPEN = ("in_progress", "cancelling")
_FROM_BATCH = Limits(latency_class="batch")
_EXPIRED = {"code": "batch_expired", "message": "the batch expired before this request was answered"}
_NO_LINE = "invalid_batch_line"
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Run:
    """A batch that is being answered."""

    note: dict[str, Any]
    caller: Caller
    output: StoredFile
    errors: StoredFile
    done: set[str] = field(default_factory=set)
    """Names of the requests that were answered since this began."""
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Batches:
    """Belongs to one event loop.

    Args:
        tasks: own the answering.
    """

    def __init__(
        self, shelf: Shelf, answers: Answers, entrance: Entrance, keys: Keys, *, tasks: Tasks, clock: Clock
    ) -> None:
        self._shelf = shelf
        self._answers = answers
        self._entrance = entrance
        self._keys = keys
        self._tasks = tasks
        self._clock = clock
        self._running: dict[str, asyncio.Task[None]] = {}

    async def begin(self) -> None:
        """Go on with what an earlier process left."""
        for note in await asyncio.to_thread(self._shelf.all, "batch"):
            if note["status"] in _OPEN:
                self._start(note)

    async def make(self, body: bytes, caller: Caller) -> dict[str, Any]:
        """A new batch, as a request asks for it. Raises ApiError."""
        given = Parameters(parse_body(body))
        source, endpoint = given.text("input_file_id", most=64), given.text("endpoint", most=64)
        if endpoint is None or endpoint not in ENDPOINTS:
            raise invalid("endpoint", f"endpoint is one of {', '.join(ENDPOINTS)}")
        given.refuse("completion_window", "24h")
        metadata = _metadata(given.take("metadata"))
        given.require_all_taken()
        if source is None:
            raise missing("input_file_id", "say which file has the requests; POST /v1/files takes one")
        file = await asyncio.to_thread(self._shelf.file, source, caller.owner)
        now, faults, total = self._clock(), [], 0
        try:
            lines = await asyncio.to_thread(batch_lines, self._shelf.content(file.id), endpoint)
            total = len(lines)
        except ApiError as error:
            faults = [_fault(error)]
        note = {
            "id": f"batch-{secrets.token_hex(12)}",
            "owner": caller.owner,
            "endpoint": endpoint,
            "input_file_id": file.id,
            "metadata": metadata,
            "created_at": now,
            "status": "failed" if faults else "in_progress",
            "failed_at" if faults else "in_progress_at": now,
            "errors": {"object": "list", "data": faults} if faults else None,
            "total": total,
            "completed": 0,
            "failed": 0,
        }
        if not faults:
            for name in ("output", "error"):
                kept = await asyncio.to_thread(
                    self._shelf.put, b"", owner=caller.owner, name=f"{note['id']}_{name}.jsonl",
                    purpose="batch_output", now=now,
                )  # fmt: skip
                note[f"{name}_file_id"] = kept.id
        await asyncio.to_thread(self._shelf.note, str(note["id"]), note)
        if not faults:
            self._start(note)
        return _shown(note)

    async def get(self, identity: str, caller: Caller) -> dict[str, Any]:
        """One, as it stands. Raises ApiError."""
        return _shown(await self._own(identity, caller))

    async def all(self, caller: Caller) -> list[dict[str, Any]]:
        """All of a caller's, newest first."""
        notes = [each for each in await asyncio.to_thread(self._shelf.all, "batch") if each["owner"] == caller.owner]
        return [_shown(each) for each in sorted(notes, key=lambda note: (-note["created_at"], note["id"]))]

    async def cancel(self, identity: str, caller: Caller) -> dict[str, Any]:
        """End one: what is answered stays. Raises ApiError."""
        note = await self._own(identity, caller)
        if note["status"] not in _OPEN:
            raise invalid("id", f"the batch is {note['status']} already", code="batch_is_over")
        if (task := self._running.get(identity)) is not None:
            task.cancel()
            await asyncio.wait([task])
        note = await self._own(identity, caller)
        if note["status"] in _OPEN:
            note |= {"status": "cancelled", "cancelled_at": self._clock()}
            await asyncio.to_thread(self._shelf.note, identity, note)
        return _shown(note)

    async def end(self) -> None:
        """Stop answering; the next start goes on."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _own(self, identity: str, caller: Caller) -> dict[str, Any]:
        note = await asyncio.to_thread(self._shelf.noted, identity) if identity.startswith("batch-") else None
        if note is None or note["owner"] != caller.owner:
            raise unknown("batch", identity)
        return note

    # Answering

    def _start(self, note: dict[str, Any]) -> None:
        identity = str(note["id"])
        self._running[identity] = task = self._tasks.spawn(self._run(note), identity)
        task.add_done_callback(lambda _: self._running.pop(identity, None))

    async def _run(self, note: dict[str, Any]) -> None:
        owner, shelf = note["owner"], self._shelf
        try:
            run = _Run(
                note=note,
                caller=Caller(await self._keys.good(owner) if owner else None),
                output=await asyncio.to_thread(shelf.file, note["output_file_id"], owner),
                errors=await asyncio.to_thread(shelf.file, note["error_file_id"], owner),
            )
            lines = await asyncio.to_thread(batch_lines, shelf.content(note["input_file_id"]), note["endpoint"])
            done = await asyncio.to_thread(_answered, shelf.content(run.output.id), shelf.content(run.errors.id))
        except (ApiError, FileNotFoundError) as error:
            fault = {"code": "lost", "message": "a file of the batch is gone", "param": None, "line": None}
            faults = [_fault(error) if isinstance(error, ApiError) else fault]
            note |= {"status": "failed", "failed_at": self._clock(), "errors": {"object": "list", "data": faults}}
            await asyncio.to_thread(shelf.note, note["id"], note)
            return
        note |= {"completed": sum(done.values()), "failed": len(done) - sum(done.values())}
        try:
            await self._answer_all(run, [line for line in lines if line["custom_id"] not in done])
            await asyncio.to_thread(shelf.note, note["id"], note)
        except* OSError as errors:  # a full disk, say: others' answers do not suffer from it
            _log.error("%s stops until the next start: %s", note["id"], errors.exceptions[0])

    async def _answer_all(self, run: _Run, lines: list[dict[str, Any]]) -> None:
        """Until each has its answer, or the batch expires. Raises OSError, in a group, where none can be kept."""
        left, time_s = iter(lines), run.note["created_at"] + DAY_S - self._clock()
        try:
            if time_s <= 0:
                raise TimeoutError
            async with asyncio.timeout(time_s), asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(self._work(run, left))
        except TimeoutError:
            run.note |= {"status": "expired", "expired_at": self._clock()}
            for line in lines:
                if line["custom_id"] not in run.done:
                    await self._keep(run, line, None, _EXPIRED)
        else:
            run.note |= {"status": "completed", "completed_at": self._clock()}

    async def _work(self, run: _Run, left: Iterator[dict[str, Any]]) -> None:
        for line in left:  # shared by all: each takes the next
            status, body = await self._answer(run, line)
            response = {"status_code": status, "request_id": secrets.token_hex(12), "body": body}
            keeping = asyncio.ensure_future(self._keep(run, line, response, None))
            try:
                await asyncio.shield(keeping)
            except asyncio.CancelledError:
                await keeping  # so that nothing is written after the note that says how the batch ended
                raise

    async def _keep(self, run: _Run, line: Mapping[str, Any], response: object, error: object) -> None:
        said = {
            "id": f"batch_req_{secrets.token_hex(12)}",
            "custom_id": line["custom_id"],
            "response": response,
            "error": error,
        }
        async with run.writing:
            await asyncio.to_thread(self._write, run, said)

    def _write(self, run: _Run, said: Mapping[str, Any]) -> None:
        """First the answer, then that there is one more: a crash between the two counts it at the next start."""
        is_good = said["error"] is None and said["response"]["status_code"] == 200
        file = run.output if is_good else run.errors
        _append(self._shelf.content(file.id), json.dumps(said, ensure_ascii=False).encode() + b"\n")
        run.done.add(said["custom_id"])
        run.note["completed" if is_good else "failed"] += 1
        self._shelf.grown(file)
        self._shelf.note(run.note["id"], run.note)

    async def _answer(self, run: _Run, line: Mapping[str, Any]) -> tuple[int, object]:
        for last in (*[False] * (TRIES - 1), True):
            try:
                return 200, await self._ask(run, line)
            except ApiError as error:
                if error.retry_s is None or last:
                    return error.status, error.to_json()
                await asyncio.sleep(min(error.retry_s, LONGEST_WAIT_S))
        raise AssertionError("the last try returns")

    async def _ask(self, run: _Run, line: Mapping[str, Any]) -> dict[str, object]:
        wanted = ENDPOINTS[run.note["endpoint"]](json.dumps(line["body"]).encode(), {})
        if wanted.stream:
            raise invalid("stream", "a batch is not streamed")
        if wanted.limits.latency_class is None:
            wanted = changed(wanted, limits=wanted.limits.narrowed(_FROM_BATCH))
        async with self._turn(run.caller, wanted.choices):
            running = await self._answers.begin(wanted, run.caller)
            try:
                choices = await self._answers.whole_choices(running)
                return self._answers.reply(wanted, running, choices)
            except JoulemeshError as error:
                raise refusal_of(error) from None
            finally:
                for each in running:
                    self._answers.settle(each)

    @asynccontextmanager
    async def _turn(self, caller: Caller, answers: int) -> AsyncIterator[None]:
        """When the key may ask once more, for as long as it is answered. Raises ApiError where it never may."""
        await _patiently(lambda: self._entrance.count(caller))
        with ExitStack() as stack:
            await _patiently(lambda: stack.enter_context(self._entrance.running(caller, answers)))
            yield


async def _patiently(ask: Callable[[], object]) -> None:
    """Until it is not refused for now. Raises ApiError where it is for good."""
    while True:
        try:
            ask()
            return
        except ApiError as error:
            if error.retry_s is None:
                raise
            await asyncio.sleep(error.retry_s)


def batch_lines(file: Path, endpoint: str) -> list[dict[str, Any]]:
    """The requests of a file. Raises ApiError for the first line that is none."""
    found, names = [], set[str]()
    with file.open("rb") as opened:
        for number, line in enumerate(opened, 1):
            if not line.strip():
                continue
            try:
                found.append(_request(line, endpoint, names))
            except ApiError as error:
                raise _LineError(number, error.message, error.code) from None
            if len(found) > MOST_LINES:
                raise _LineError(number, f"a batch has at most {MOST_LINES} requests")
    if not found:
        raise _LineError(1, "the file has no request")
    return found


def _request(line: bytes, endpoint: str, names: set[str]) -> dict[str, Any]:
    """One line of a file, whose name is another than those before."""
    match parse_body(line):
        case {"custom_id": str(name), "method": "POST", "url": str(url), "body": dict()} as value:
            pass
        case _:
            raise invalid(None, "it is no object with custom_id, method POST, url and body", code=_NO_LINE)
    if url != endpoint:
        raise invalid(None, f"its url is not {endpoint}", code=_NO_LINE)
    if name in names or not 0 < len(name) <= MOST_NAME:
        raise invalid(None, f"its custom_id was used before, or has not 1 to {MOST_NAME} characters", code=_NO_LINE)
    names.add(name)
    return value


def _answered(output: Path, errors: Path) -> dict[str, bool]:
    """By name, which requests were answered before, and whether well. A line that a crash cut off does not count."""
    found = {}
    for file, is_good in ((errors, False), (output, True)):
        for line in file.read_bytes().split(b"\n")[:-1]:
            found[json.loads(line)["custom_id"]] = is_good
    return found


def _append(file: Path, line: bytes) -> None:
    """On disk when this returns; in the place of a line that a crash cut off."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _LineError(ApiError):
    """A line of a file that is no request."""

    def __init__(self, line: int, message: str, code: str = _NO_LINE) -> None:
        super().__init__(400, f"line {line}: {message}", kind="invalid_request_error", code=code, param="input_file_id")
        self.line = line


def _fault(error: ApiError) -> dict[str, Any]:
    """Why a whole batch failed."""
    line = error.line if isinstance(error, _LineError) else None
    return {"code": error.code, "message": error.message, "param": error.param, "line": line}


def _metadata(value: object) -> object:
    """What a caller notes beside a batch. Raises ApiError."""
    if value is None:
        return None
    is_good = isinstance(value, dict) and len(value) <= MOST_METADATA
    if not is_good or not all(
        isinstance(text, str) and len(name) <= 64 and len(text) <= MOST_METADATA_CHARACTERS
        for name, text in value.items()  # type: ignore[attr-defined]
    ):
        raise invalid("metadata", f"metadata is an object of at most {MOST_METADATA} short texts")
    return value


def _shown(note: Mapping[str, Any]) -> dict[str, Any]:
    """As OpenAI's API shows it."""
    names = ("failed_at", "in_progress_at", "completed_at", "cancelled_at", "expired_at")
    files = ("output_file_id", "error_file_id")
    return {
        "id": note["id"],
        "object": "batch",
        "endpoint": note["endpoint"],
        "errors": note["errors"],
        "input_file_id": note["input_file_id"],
        "completion_window": "24h",
        "status": note["status"],
        "created_at": note["created_at"],
        "expires_at": note["created_at"] + DAY_S,
        "request_counts": {name: note[name] for name in ("total", "completed", "failed")},
        "metadata": note["metadata"],
        **{name: note.get(name) for name in names + files},
    }
