"""The ledger's side of its witnesses: it submits each new checkpoint to them, and shows what they have cosigned.

One checkpoint goes to all of them at a time, so that their lines meet on one note; a witness that is slow or away holds
nobody up. One that signs with several keys is asked once: its answer has all their lines. What is shown may so be a
moment older than the newest checkpoint, which answers go on to stand under unless they are asked otherwise
(docs/spec/ledger.md, clauses C13 and C14).
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from node.events import Events, WitnessBack, WitnessLost, unheard
from node.ledger.published import Head, Published
from protocol.encoding.strict_json import int_text
from protocol.errors import ConfigurationError, JoulemeshError, MalformedError, PeerError, RefusedError
from protocol.log.cosignature import MAX_WITNESSES, AddCheckpoint, CosignerKey
from protocol.log.note import NoteSignature, lines_of, parse_note
from protocol.log.post_quantum import PostQuantumKey

__all__ = ["Cosigning", "Pace", "Wanted", "WitnessServer", "wanted_of"]

MAX_NAME = 64
"""Characters of a witness's name, so that evidence holds a note with all of them."""
_KEPT = 16
"""Checkpoints of late, with what was cosigned of them."""
_WAITERS = 256
"""Answers that wait for cosignatures at once; a stranger can ask for them, too."""
_MAX_ANSWER_BYTES = 64 * 1024
"""Sixteen lines of ML-DSA, which all keys of a ledger's witnesses may be."""
_SHORT_LINE = 72
"""Bytes of an Ed25519 cosignature."""
_KEY_ID = re.compile("[0-9a-f]{8}")


Key = CosignerKey | PostQuantumKey


@dataclass(frozen=True, slots=True)
class WitnessServer:
    """A key of a witness of this ledger, and where it is asked."""

    key: Key
    url: str
    """C2SP's submission prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often witnesses are asked, in seconds."""

    every_s: float = 0.5
    """Between two checkpoints."""
    again_s: float = 30
    """The same checkpoint once more, so that its cosignatures stay fresh."""
    round_s: float = 2
    """So long all are waited for; who comes later is added later."""
    answer_s: float = 15
    """For one witness's answer: one that validates reads the entries first."""
    rest_s: float = 60
    """Longest rest after failures; the first is a second."""
    patience_s: float = 10
    """How long an answer waits for the cosignatures that its reader asks for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which cosignatures a reader wants its answer's checkpoint to have."""

    least: int
    by: frozenset[bytes]
    """Key ids of the witnesses that it trusts."""


def wanted_of(said: str | None, by: Sequence[str]) -> Wanted | None:
    """What ``witnesses=`` and ``by=`` say in a request; None where it says nothing. Raises MalformedError."""
    if said is None:
        return None
    least = int_text(said)
    if not 1 <= least <= MAX_WITNESSES or not 1 <= len(by) <= MAX_WITNESSES or not all(map(_KEY_ID.fullmatch, by)):
        raise MalformedError("witnesses is a small number, and by the key ids of those that are meant")
    return Wanted(least, frozenset(map(bytes.fromhex, by)))


@dataclass(slots=True)
class _Asked:
    """What is known of the witness at one address."""

    url: str
    keys: list[Key]
    """Whose lines its answers bring."""
    size: int = 0
    """Of the last checkpoint that it has cosigned, as far as it is known here."""
    task: asyncio.Task[None] | None = None
    failures: int = 0
    rest_until: float = 0
    told: str = ""
    """Why it does not cosign with all its keys, as it was told last; empty while it does."""
    was_heard: bool = False

    @property
    def name(self) -> str:
        return ", ".join(dict.fromkeys(key.name for key in self.keys))


@dataclass(slots=True)
class _Cosigned:
    """A checkpoint, and the lines that came for it."""

    head: Head
    lines: dict[bytes, NoteSignature] = field(default_factory=dict)
    """By key id of the witness."""

    def shown(self, wanted: Wanted | None = None) -> Head:
        """With all its lines; of those of ML-DSA, which are long, with those that are wanted by name."""
        lines = [
            str(line)
            for key_id, line in self.lines.items()
            if wanted is None or len(line.signature) <= _SHORT_LINE or key_id in wanted.by
        ]
        return Head(self.head.checkpoint, self.head.note + "".join(lines).encode())

    def has(self, wanted: Wanted) -> int:
        return len(self.lines.keys() & wanted.by)


class Cosigning:
    """Use `run` in a task of its own. Without witnesses all is shown as it is published.

    Raises ConfigurationError: too many witnesses, or one of them twice.
    """

    def __init__(
        self, published: Published, servers: Sequence[WitnessServer], events: Events = unheard, pace: Pace | None = None
    ) -> None:
        if len(servers) > MAX_WITNESSES or any(len(each.key.name) > MAX_NAME for each in servers):
            raise ConfigurationError(
                f"a ledger has {MAX_WITNESSES} witnesses at most, with names of {MAX_NAME} letters"
            )
        if len({each.key.key for each in servers}) != len(servers):
            raise ConfigurationError("a witness of this ledger is named twice")
        self._published = published
        self._asked = _by_address(servers)
        self._events = events
        self._pace = pace or Pace()
        self._kept: deque[_Cosigned] = deque(maxlen=_KEPT)
        self._shown: _Cosigned | None = None
        self._changed = asyncio.Event()
        self._waiters = 0

    # What is shown

    @property
    def newest(self) -> Head:
        """The newest checkpoint that all witnesses were asked about, with what they have cosigned."""
        return self._published.head if self._shown is None else self._shown.shown()

    async def head_for(self, wanted: Wanted | None, reach: int) -> Head:
        """What an answer stands under that needs `reach` entries: the newest checkpoint, or one as a reader wants it.

        Where there is none in time it is the one that comes closest: who asks for more refuses it.
        """
        own = {key.key_id for each in self._asked for key in each.keys}
        if wanted is None or len(wanted.by & own) < wanted.least or self._waiters >= _WAITERS:
            return self._published.head
        self._waiters += 1
        try:
            async with asyncio.timeout(self._pace.patience_s):
                while True:
                    fitting = [each for each in self._kept if each.head.checkpoint.size >= reach]
                    good = [each for each in fitting if each.has(wanted) >= wanted.least]
                    if good:
                        return good[-1].shown(wanted)
                    await self._changed.wait()
        except TimeoutError:
            fitting = [each for each in self._kept if each.head.checkpoint.size >= reach]
            best = max(fitting, key=lambda each: each.has(wanted), default=None)
            return self._published.head if best is None else best.shown(wanted)
        finally:
            self._waiters -= 1

    # Asking

    async def run(self) -> None:
        """Submit checkpoints until cancelled."""
        if not self._asked:
            return
        timeout = aiohttp.ClientTimeout(total=self._pace.answer_s)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            try:
                while True:
                    head = self._published.head
                    await self._round(http, head)
                    await asyncio.sleep(self._pace.every_s)
                    await self._until_moved(head)
            finally:
                tasks = [each.task for each in self._asked if each.task is not None]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                # Who goes on as the writer asks for others.
                self._shown = None
                self._kept.clear()

    async def _until_moved(self, head: Head) -> None:
        """Or until the same has to be submitted again: to keep it fresh, or to one who failed."""
        now = asyncio.get_running_loop().time()
        rests = [max(0.0, each.rest_until - now) for each in self._asked if each.failures]
        if self._published.head is head:
            try:
                async with asyncio.timeout(min([self._pace.again_s, *rests])):
                    await self._published.moved_on()
            except TimeoutError:
                return

    async def _round(self, http: aiohttp.ClientSession, head: Head) -> None:
        """Ask everybody who is free about a checkpoint."""
        now = asyncio.get_running_loop().time()
        cosigned = self._entry(head)
        tasks = []
        for asked in self._asked:
            if (asked.task is None or asked.task.done()) and now >= asked.rest_until:
                asked.task = asyncio.create_task(self._ask(http, asked, cosigned), name="witness")
                tasks.append(asked.task)
        if tasks:
            await asyncio.wait(tasks, timeout=self._pace.round_s)
        self._shown = cosigned

    def _entry(self, head: Head) -> _Cosigned:
        for each in self._kept:
            if each.head is head:
                return each
        self._kept.append(_Cosigned(head))
        return self._kept[-1]

    async def _ask(self, http: aiohttp.ClientSession, asked: _Asked, cosigned: _Cosigned) -> None:
        try:
            lines, lacking = await self._submit(http, asked, cosigned.head)
        except (JoulemeshError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            asked.failures += 1
            rest = min(self._pace.rest_s, 2.0 ** min(asked.failures - 1, 10))
            asked.rest_until = asyncio.get_running_loop().time() + rest
            self._tell(asked, str(error) or type(error).__name__, cosigned)
            return
        asked.failures, asked.size = 0, cosigned.head.checkpoint.size
        self._tell(asked, lacking, cosigned)
        cosigned.lines.update(lines)
        self._changed.set()
        self._changed = asyncio.Event()

    def _tell(self, asked: _Asked, lacking: str, cosigned: _Cosigned) -> None:
        """Say what is new of a witness: that it cosigns, or why it does not."""
        if lacking and lacking != asked.told:
            self._events(WitnessLost(witness=asked.name, reason=lacking))
        if not lacking and (asked.told or not asked.was_heard):
            self._events(WitnessBack(witness=asked.name, size=cosigned.head.checkpoint.size))
            asked.was_heard = True
        asked.told = lacking

    async def _submit(
        self, http: aiohttp.ClientSession, asked: _Asked, head: Head
    ) -> tuple[dict[bytes, NoteSignature], str]:
        """A witness's lines for a checkpoint, and what is wrong with those that lack. Raises PeerError where all do."""
        old, new = asked.size, head.checkpoint.size
        for _ in range(2):
            proof = await self._published.prove_continues(old, head) if 0 < old < new else ()
            body = bytes(AddCheckpoint(old, proof, head.note))
            async with http.post(f"{asked.url}/add-checkpoint", data=body, allow_redirects=False) as response:
                answer = await _read(response)
                kind = response.content_type
                if response.status == 200:
                    return _own_lines(answer, asked.keys, head)
            if response.status != 409 or kind != "text/x.tlog.size":
                raise RefusedError(f"it answers with status {response.status}: {_cleaned(answer)}")
            old = _size_of(answer)
            if old > new:
                raise RefusedError(f"it has cosigned {old} entries, and this log has {new}: was it set back?")
        raise RefusedError(f"it has cosigned another history of this log, of {old} entries")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """All that it says, in however many pieces it comes. Raises MalformedError for more than fits."""
    answer = b""
    async for piece in response.content.iter_any():
        answer += piece
        if len(answer) > _MAX_ANSWER_BYTES:
            response.close()
            raise MalformedError(f"its answer is longer than {_MAX_ANSWER_BYTES} bytes")
    return answer


def _by_address(servers: Sequence[WitnessServer]) -> list[_Asked]:
    found: dict[str, _Asked] = {}
    for each in servers:
        url = each.url.rstrip("/")
        found.setdefault(url, _Asked(url, [])).keys.append(each.key)
    return list(found.values())


def _own_lines(answer: bytes, keys: Sequence[Key], head: Head) -> tuple[dict[bytes, NoteSignature], str]:
    """Lines by the witness's keys, by key id, of those that it sent; and what is wrong with the others."""
    text, sent = parse_note(head.note).text, lines_of(answer)
    found: dict[bytes, NoteSignature] = {}
    faults: list[PeerError] = []
    for key in keys:
        line = next((each for each in sent if (each.name, each.key_id) == (key.name, key.key_id)), None)
        try:
            if line is None:
                raise MalformedError(f"its answer has no {key.what} by {key.name}")
            key.verify(text, line.signature)
            found[key.key_id] = line
        except PeerError as error:
            faults.append(error)
    if faults and not found:
        raise faults[0]
    return found, "; ".join(fault.message for fault in faults)


def _size_of(answer: bytes) -> int:
    text = answer.decode("ascii", errors="replace").removesuffix("\n")
    if not (text.isascii() and text.isdecimal()) or len(text) > 19:
        raise MalformedError("it does not say what it has cosigned")
    return int(text)


def _cleaned(answer: bytes) -> str:
    return answer[:200].decode(errors="replace").strip()
