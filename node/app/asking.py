"""From text to text: one question, its answer piece by piece, and the report. `joule run` and the demo are this."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Self

from node.app.client import Client
from node.app.execution import Execution
from node.app.models import Text
from node.app.planning import Request
from node.app.prompt import Prompt
from node.app.receipts import require_writable
from node.app.report import JobReport, build_report
from protocol.bundle import Bundle
from protocol.errors import JoulemeshError

__all__ = ["Question"]


class Question:
    """A question that is planned. `plan` makes it, `answer` pays for the answer, `report` says what came of it."""

    def __init__(self, client: Client, prompt: Prompt, text: Text, job: Execution, file: Path | None) -> None:
        self._client = client
        self._prompt = prompt
        self._text = text
        self._job = job
        self._file = file

    @classmethod
    async def plan(
        cls, client: Client, prompt: Prompt, *, model: str | None = None, receipt_file: Path | None = None
    ) -> Self:
        """All that can be known to stand against a question comes up here, before anything is paid.

        Args:
            model: a name, or the beginning of a root; None for the only one that can be served.
            receipt_file: where the receipt goes; a new file.

        Raises:
            LocalError: the receipt cannot be written there.
            ConfigurationError, ModelError: the prompt does not suit the model, or several models are meant.
            RoutingError, FundsError, UnreachableError: as `Client.plan`.
        """
        if receipt_file is not None:
            require_writable(receipt_file)
        await client.require_ready()
        manifest = await client.model(model)
        text = await client.text(manifest)
        ids = await asyncio.to_thread(text.prompt_ids, prompt)
        plan = await client.plan(Request(prompt=tuple(ids), model=manifest.root.hex()))
        return cls(client, prompt, text, await client.execute(plan), receipt_file)

    @property
    def paid_for(self) -> bool:
        """Whether money was reserved, so that there is something to report."""
        return self._job.result is not None

    async def answer(self, write: Callable[[str], None]) -> None:
        """Hand the answer to `write` piece by piece, and pay for it.

        A caller that is cancelled has paid for what came when the cancellation reaches it, and can still `report`.
        Raises RuleError, UnreachableError: the ledger refuses or does not answer, and nothing is reserved.
        """
        begun = False
        async with self._job as tokens:
            async for token in tokens:
                piece = self._text.piece(token)
                piece = piece if begun else piece.lstrip()
                begun = begun or bool(piece)
                write(piece)

    async def report(self) -> tuple[JobReport, Bundle | None]:
        """The report, and the bundle where there is one; writes the receipt. Raises LocalError where that fails."""
        text = (self._prompt.shown, self._text.decode(self._job.tokens).strip())
        kept = await self._client.keep(self._job, text=text, file=self._file)
        report = build_report(self._job, text=text, kept=kept, balance_after_micro=await self._balance())
        return report, kept.bundle

    async def _balance(self) -> int | None:
        try:
            return (await self._client.balance()).free
        except JoulemeshError:
            return None
