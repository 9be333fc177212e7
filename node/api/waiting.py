"""The same client for programs without asyncio: each call waits. It runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from node.api.client import Answer, Client, Messages
from node.app.buying.report import JobReport
from protocol.market.offer import Offer

__all__ = ["WaitingAnswer", "WaitingClient"]

T = TypeVar("T")
_OVER = object()


class WaitingClient:
    """As `Client`, used with ``with``. It may be called from any thread.

    Args:
        options: those of `Client`.
    """

    def __init__(self, **options: Any) -> None:
        self._client = Client(**options)
        self._loop: asyncio.AbstractEventLoop | None = None
        """Runs while the client is entered."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="joulemesh", daemon=True)
        self._thread.start()
        try:
            self._do(self._client.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._do(self._client.__aexit__(kind, error, trace))
        finally:
            self._end()

    @property
    def address(self) -> bytes:
        """Of the key: who pays."""
        return self._client.address

    def run(self, prompt: str | Messages, **options: Any) -> WaitingAnswer:
        """As `Client.run`."""
        return WaitingAnswer(self._client.run(prompt, **options), self._do)

    def ask(self, prompt: str | Messages, **options: Any) -> str:
        """As `Client.ask`."""
        return self._do(self._client.ask(prompt, **options))

    def offers(self, wait_s: float = 5.0) -> list[Offer]:
        """As `Client.offers`."""
        return self._do(self._client.offers(wait_s))

    def balance(self) -> int:
        """As `Client.balance`."""
        return self._do(self._client.balance())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise RuntimeError("enter the client first: with WaitingClient(...) as client")
        done = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return done.result()
        except KeyboardInterrupt:
            done.cancel()
            raise

    def _end(self) -> None:
        if (loop := self._loop) is not None:
            self._loop = None
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()


class WaitingAnswer:
    """As `Answer`, read with ``for``."""

    def __init__(self, answer: Answer, do: Any) -> None:
        self._answer = answer
        self._do = do

    def __iter__(self) -> Iterator[str]:
        pieces = aiter(self._answer)
        try:
            while (piece := self._do(_next(pieces))) is not _OVER:
                yield piece
        finally:
            self.close()

    @property
    def text(self) -> str:
        """What came so far."""
        return self._answer.text

    @property
    def report(self) -> JobReport:
        """As `Answer.report`."""
        return self._answer.report

    @property
    def receipt(self) -> Path:
        """As `Answer.receipt`."""
        return self._answer.receipt

    def close(self) -> None:
        """Stop here: what came is paid for."""
        self._do(self._answer.close())


async def _next(pieces: Any) -> Any:
    return await anext(pieces, _OVER)
