"""A conversation of several questions: each goes on from the session before it, and has a receipt of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from node.app.buying.asking import Asked, Question
from node.app.buying.client import Client
from node.app.buying.continuing import Earlier
from node.app.buying.receipts import new_receipt_file
from node.app.buying.report import JobReport
from node.app.buying.request import Request
from node.app.models.dialogue import Dialogue
from node.app.models.obtaining import Text
from node.app.models.prompt import ChatMessage
from protocol.identity.ids import ModelManifest

__all__ = ["Chat", "Costs"]


@dataclass(slots=True)
class Costs:
    """Of all turns so far."""

    turns: int = 0
    tokens_in: int = 0
    """Prompt tokens."""
    tokens_held: int = 0
    """Of them, those that legs still held."""
    tokens_out: int = 0
    """Generated tokens."""
    paid_micro: int = 0
    """Micro-units that providers were paid."""
    fees_micro: int = 0
    """Micro-units that the ledger took."""

    def add(self, report: JobReport) -> None:
        """One more turn."""
        self.turns += 1
        self.tokens_in += report.tokens_in
        self.tokens_held += report.tokens_held
        self.tokens_out += report.tokens_out
        self.paid_micro += report.paid_micro + report.paid_before_micro
        self.fees_micro += report.fees_micro


class Chat:
    """Made by `begin`; `ask` is called for one question after the other."""

    def __init__(self, client: Client, manifest: ModelManifest, text: Text, dialogue: Dialogue, receipts: Path) -> None:
        self.client = client
        self.manifest = manifest
        self.dialogue = dialogue
        self.costs = Costs()
        self.receipts: list[Path] = []
        """Of the turns so far, in order."""
        self._text = text
        self._folder = receipts
        self._earlier: Earlier | None = None

    @classmethod
    async def begin(
        cls,
        client: Client,
        *,
        receipts: Path,
        model: str | None = None,
        turns: Sequence[ChatMessage] = (),
        system: str | None = None,
    ) -> Self:
        """A conversation with one model.

        Args:
            receipts: the folder that each turn's receipt goes to.
            model: a name, or the beginning of a root; None for the only one that can be served.
            turns, system: as for `Dialogue`.

        Raises as `Question.plan`, but for what a question itself can be wrong in.
        """
        await client.require_ready()
        manifest = await client.model(model)
        text = await client.text(manifest)
        return cls(client, manifest, text, Dialogue(text, manifest.stop_tokens, turns=turns, system=system), receipts)

    def reset(self) -> None:
        """Forget what was said: the next question begins anew."""
        self.dialogue.reset()
        self._earlier = None

    async def ask(self, question: str, write: Callable[[str], None]) -> JobReport:
        """Ask, hand the answer to `write` as it comes, and pay for it. What came is a turn, also where it broke off.

        A caller that is cancelled once money was reserved has its report all the same: what came is paid for.

        Raises as `Question.plan` and `Question.answer`: nothing has changed then.
        """
        prompt, ids = await asyncio.to_thread(self.dialogue.ask, question)
        request = Request(prompt=tuple(ids), model=self.manifest.root.hex(), earlier=self._earlier)
        asked = Asked(shown=prompt.shown, request=request)
        file = new_receipt_file(self._folder)
        job = await Question.of(self.client, asked, self._text.again(), receipt_file=file)
        try:
            await job.answer(write)
        except asyncio.CancelledError:
            if not job.paid_for:
                raise
        self._earlier = job.earlier or self._earlier
        self.dialogue.answered(ids, job.tokens)
        report, _ = await job.report()
        self.costs.add(report)
        if report.receipt_file is not None:
            self.receipts.append(Path(report.receipt_file))
        return report
