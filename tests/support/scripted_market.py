"""A market for the gateway's HTTP part that answers from a script, and remembers what was asked and paid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp

from node.events import Event
from node.gateway import (
    Costs,
    Likelihood,
    Limits,
    OfferedModel,
    Piece,
    Said,
    ServiceSettings,
    ToolStyle,
    Wanted,
    serving,
)  # fmt: skip
from node.gateway.keys import Keys, open_keys
from node.tasks import owned_tasks
from protocol.errors import JoulemeshError

NOW = 1_900_000_000
MODEL = OfferedModel(
    name="tales", root="ab" * 32, license="MIT", precision="fp32", places=("DE", "FR"), price_in_micro=500_000,
    price_out_micro=1_250_000, millijoules_per_token=12, heard_at=NOW, market="main",
)  # fmt: skip


def said_of(word: str, top: int) -> Said:
    """What a market says of a word: it is the likeliest one, before its capitals and what is no text."""
    drawn, others = Likelihood(word.encode(), -0.25), (word.upper().encode(), b"\xf0\x9f")
    likeliest = (drawn, *(Likelihood(each, -1.5 - at) for at, each in enumerate(others)))
    return Said(drawn, likeliest[:top])


@dataclass
class ScriptedAnswer:
    """Says its words one by one; waits before the one that is a gate."""

    market: ScriptedMarket
    id: str
    wanted: Wanted
    model: str = "tales"
    forgone: bool = False
    tokens_in: int = 3
    tokens_held: int = 0
    tokens_out: int = 0
    finished: str = "length"
    tool_style: ToolStyle | None = None
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    _stream: AsyncGenerator[Piece] | None = None

    @property
    def made(self) -> str:
        return self.market.name

    @property
    def root(self) -> str:
        return self.market.offered.root

    @property
    def reserved_micro(self) -> int:
        return self.market.price

    @property
    def expected_micro(self) -> int:
        return self.market.price

    def begun(self) -> str | None:
        """What another one goes on from, on paper."""
        return f"{self.id}+{self.tokens_out}" if self.tokens_out and self.market.tells else None

    def forgo(self) -> None:
        self.forgone = True

    def __aiter__(self) -> AsyncIterator[Piece]:
        self._stream = self._words()
        return self._stream

    async def _words(self) -> AsyncGenerator[Piece]:
        for word in self.market.by_prompt.get(_last(self.wanted), self.market.words):
            if isinstance(word, JoulemeshError):
                raise word
            if isinstance(word, asyncio.Event):
                await word.wait()
                continue
            self.tokens_out += 1
            yield Piece(word, () if self.wanted.logprobs is None else (said_of(word, self.wanted.logprobs),))

    async def close(self) -> Costs:
        if self._stream is not None:
            await self._stream.aclose()
        file = self.market.receipt(self.id)
        file.write_text('{"receipt": true}')
        self.closed.set()
        tokens = {"tokens_in": 3, "tokens_held": 0, "tokens_out": self.tokens_out}
        return Costs(**tokens, micro=10 * self.tokens_out, receipts=(file,))


@dataclass
class ScriptedMarket:
    """What `words` says, for every question: text, a gate to wait at, or an error."""

    folder: Path
    name: str = "main"
    price: int = 100
    """Micro-units that each answer can cost."""
    offered: OfferedModel = MODEL
    tells: bool = True
    """Whether others can go on from its answers."""
    begun: list[object] = field(default_factory=list)
    """What it was to go on from, of each question."""
    words: Sequence[str | asyncio.Event | JoulemeshError] = ("Once ", "upon ", "a ", "time")
    by_prompt: dict[str, Sequence[str | asyncio.Event | JoulemeshError]] = field(default_factory=dict)
    """Words for questions that end so, instead."""
    refusal: JoulemeshError | None = None
    gate: asyncio.Event | None = None
    """A plan waits for it."""
    refused_once: dict[str, JoulemeshError] = field(default_factory=dict)
    """By the end of the question."""
    asked: list[tuple[str, Wanted]] = field(default_factory=list)
    """Owners, and what they wanted."""
    answers: list[ScriptedAnswer] = field(default_factory=list)

    async def models(self) -> Sequence[OfferedModel]:
        if self.refusal is not None:
            raise self.refusal
        return (replace(self.offered, market=self.name),)

    async def plan(self, wanted: Wanted, *, owner: str, begun: object = None) -> ScriptedAnswer:
        if self.gate is not None:
            await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        if (error := self.refused_once.pop(_last(wanted), None)) is not None:
            raise error
        self.asked.append((owner, wanted))
        self.begun.append(begun)
        answer = ScriptedAnswer(self, f"{len(self.answers):032x}", wanted)
        answer.tool_style = ToolStyle.TAGGED if wanted.tools else None
        self.answers.append(answer)
        return self.answers[-1]

    def receipt(self, identity: str) -> Path:
        return self.folder / f"{identity}.json"


def _last(wanted: Wanted) -> str:
    return wanted.messages[-1].content if wanted.messages else str(wanted.raw)


@dataclass
class Gateway:
    """One that serves, and a client of it."""

    market: ScriptedMarket
    keys: Keys
    url: str
    http: aiohttp.ClientSession
    heard: list[Event]

    async def ask(self, path: str = "/chat/completions", *, key: str = "", **body: object) -> tuple[int, object]:
        """A request's status and what its JSON says."""
        given = {"model": "tales", "messages": [{"role": "user", "content": "go on"}], **body}
        if path == "/completions":
            del given["messages"]
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with self.http.post(self.url + path, json=given, headers=headers) as response:
            return response.status, await response.json()


@asynccontextmanager
async def gateway(folder: Path, **settings: object) -> AsyncIterator[Gateway]:
    """A gateway over a scripted market; `settings` are those of `ServiceSettings`, and ``bounds`` are limits."""
    market, heard = ScriptedMarket(folder), list[Event]()
    bounds = settings.pop("bounds", Limits())
    async with open_keys(folder / "keys.sqlite3", lambda: NOW) as keys, owned_tasks() as tasks:
        given = ServiceSettings(folder=folder / "files", bounds=bounds, **settings)  # type: ignore[arg-type]
        serve = serving(market, keys, given, tasks=tasks, clock=lambda: NOW, events=heard.append)
        async with serve as url, aiohttp.ClientSession() as http:
            yield Gateway(market, keys, url, http, heard)
