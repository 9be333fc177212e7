"""The client of the market for programs that use asyncio."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from node.app.buying.asking import Question
from node.app.buying.client import Client as MarketClient
from node.app.buying.client import open_client
from node.app.buying.grammars import grammar_text, of_schema
from node.app.buying.receipts import new_receipt_file
from node.app.buying.report import JobReport
from node.app.models.prompt import Prompt, load_messages
from node.config import ClientConfig
from node.events import Events, unheard
from node.keystore import Keystore
from node.settings import declared, load
from protocol.errors import ConfigurationError, JoulemeshError, KeystoreError
from protocol.identity.signing import SigningKey
from protocol.market.offer import Offer

__all__ = ["Answer", "Client"]

Messages = Sequence[Mapping[str, str]]
"""A conversation: each turn has a ``role`` (system, user, assistant) and its ``content``."""


class Client:
    """Buys answers with one key. Use it with ``async with``; it joins the network when it first needs it.

    Args:
        passphrase: of the key; None to take it from ``JOULE_PASSPHRASE``.
        key: the name of one in the keystore, or the key itself.
        config: a settings file, as `joule run --config` takes it.
        events: told what happens meanwhile.
        settings: of `joule run` by name, such as ``ledger``, ``allow``, ``max_tokens``, ``max_price_out``.

    Raises ConfigurationError for settings that make no sense, KeystoreError for a key that cannot be opened.
    """

    def __init__(
        self,
        *,
        passphrase: str | None = None,
        key: SigningKey | str | None = None,
        config: Path | str | None = None,
        events: Events = unheard,
        **settings: object,
    ) -> None:
        file = None if config is None else Path(config)
        if unknown := settings.keys() - {each.name for each in declared(ClientConfig)}:
            raise ConfigurationError(
                f"there is no setting {min(unknown)!r}", hint="`joule run --help` has all of them, with _ for -"
            )
        named = {"key": key} if isinstance(key, str) else {}
        given = {name: _text(value) for name, value in {**settings, **named}.items() if value is not None}
        self.config = load(ClientConfig, file=file, environment=os.environ, flags=given)
        self._key = key if isinstance(key, SigningKey) else _opened(self.config, passphrase)
        self._events = events
        self._stack = AsyncExitStack()
        self._market: MarketClient | None = None

    async def __aenter__(self) -> Self:
        self._market = await self._stack.enter_async_context(open_client(self.config, self._key, self._events))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._market = None
        await self._stack.aclose()

    @property
    def address(self) -> bytes:
        """Of the key: who pays."""
        return self._key.address

    def run(
        self,
        prompt: str | Messages,
        *,
        model: str | None = None,
        system: str | None = None,
        max_tokens: int | None = None,
        raw: bool = False,
        logprobs: int | None = None,
        json_schema: Mapping[str, object] | None = None,
        grammar: str | None = None,
        receipt: Path | str | None = None,
    ) -> Answer:
        """Ask, and pay for what comes; nothing happens until the answer is read.

        Args:
            prompt: a question, or a conversation.
            model: a name, or the beginning of a root; needed where several are on offer.
            system: how a chat model is to answer a question.
            max_tokens: generated at most; None for what the settings say.
            raw: send the text as it is, without the model's chat template.
            logprobs: from 0 to 20: `Answer.report` has each token's log probability, and so many of the likeliest in
                its place; None for nothing of that.
            json_schema: the answer is JSON that keeps to it, or is cut off.
            grammar: the answer keeps to it: Lark's notation, as llguidance reads it.
            receipt: a new file for the receipt; None for one among those in the data directory.
        """
        if max_tokens is not None and max_tokens < 1:
            raise ConfigurationError("max_tokens is a whole number above 0")
        file = Path(receipt) if receipt is not None else new_receipt_file(self.config.data_dir / "receipts")
        held = _held(json_schema, grammar)
        return Answer(self._open(), _prompt(prompt, system, raw), model, max_tokens, logprobs, held, file)

    async def ask(
        self,
        prompt: str | Messages,
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        json_schema: Mapping[str, object] | None = None,
    ) -> str:
        """The whole text of an answer. Raises JoulemeshError where it breaks off."""
        answer = self.run(prompt, model=model, max_tokens=max_tokens, json_schema=json_schema)
        async for _ in answer:
            pass
        error = answer.report.error
        if error is not None:
            raise JoulemeshError(error["message"], code=error["code"], hint=error["hint"])
        return answer.text

    async def offers(self, wait_s: float = 5.0) -> list[Offer]:
        """What is on offer, as far as it is heard in this time."""
        return await self._open().offers(wait_s)

    async def balance(self) -> int:
        """Free micro-units on the ledger."""
        return (await self._open().balance()).free

    def _open(self) -> MarketClient:
        if self._market is None:
            raise RuntimeError("enter the client first: async with Client(...) as client")
        return self._market


class Answer:
    """One answer, to be read once with ``async for``: its text, piece by piece. Who stops reading pays for what came.

    Iterating raises ConfigurationError, RoutingError, FundsError, UnreachableError and the like where the question
    cannot be asked. An answer that breaks off ends early, and `report` has the error.
    """

    def __init__(
        self,
        client: MarketClient,
        prompt: Prompt,
        model: str | None,
        max_tokens: int | None,
        logprobs: int | None,
        grammar: bytes,
        file: Path,
    ) -> None:
        self._client = client
        self._prompt = prompt
        self._model = model
        self._most = max_tokens
        self._logprobs = logprobs
        self._grammar = grammar
        self._report: JobReport | None = None
        self._pieces: list[str] = []
        self._stream = self._read()
        self.receipt = file
        """Where the receipt is, once the answer is over; there is none of a job that nobody served."""

    def __aiter__(self) -> AsyncIterator[str]:
        return self._stream

    @property
    def text(self) -> str:
        """What came so far."""
        return "".join(self._pieces)

    @property
    def report(self) -> JobReport:
        """Who served it, what it cost, what was proven. Raises RuntimeError before the answer is over."""
        if self._report is None:
            raise RuntimeError("the answer is not over: read it to its end, or close it")
        return self._report

    async def close(self) -> None:
        """Stop here: what came is paid for."""
        await self._stream.aclose()

    async def _read(self) -> AsyncGenerator[str]:
        question = await Question.plan(
            self._client,
            self._prompt,
            model=self._model,
            most=self._most,
            logprobs=self._logprobs,
            grammar=self._grammar,
            receipt_file=self.receipt,
        )
        try:
            async for piece in question.pieces():
                self._pieces.append(piece)
                yield piece
        finally:
            if question.paid_for:
                self._report, _ = await question.report()


def _opened(config: ClientConfig, passphrase: str | None) -> SigningKey:
    key = Keystore(config.data_dir / "keys").find(config.key)
    said = os.environ.get("JOULE_PASSPHRASE") if passphrase is None else passphrase
    if said is None:
        hint = "give passphrase=..., or set JOULE_PASSPHRASE"
        raise KeystoreError("a passphrase is needed", code="passphrase", hint=hint)
    return key.unlock(said)


def _text(value: object) -> object:
    """As a flag would have it: paths and numbers are text there."""
    return [str(each) for each in value] if isinstance(value, (list, tuple)) else str(value)


def _held(json_schema: Mapping[str, object] | None, grammar: str | None) -> bytes:
    """What an answer is held to; empty for nothing. Raises ConfigurationError."""
    if json_schema is not None and grammar is not None:
        raise ConfigurationError("json_schema and grammar exclude each other", code="grammar")
    if json_schema is not None:
        return of_schema(dict(json_schema))
    return b"" if grammar is None else grammar_text(grammar.encode(errors="surrogatepass"))


def _prompt(prompt: str | Messages, system: str | None, raw: bool) -> Prompt:
    if not isinstance(prompt, str):
        return Prompt(messages=load_messages(json.dumps([dict(each) for each in prompt]).encode()))
    return Prompt(raw=prompt) if raw else Prompt.question(prompt, system=system)
