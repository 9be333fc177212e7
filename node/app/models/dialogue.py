"""The turns of one conversation, and the token ids that they are to the model.

A session is continued as far as the new prompt begins with the very ids of the old sequence. Text that is encoded anew
need not give the ids that a model drew; so what stands is kept as ids, and only what is new is encoded.
"""

from __future__ import annotations

from collections.abc import Sequence

from node.app.models.obtaining import Text
from node.app.models.prompt import ChatMessage, Prompt
from protocol.errors import ModelError

__all__ = ["Dialogue", "plain_turns"]


class Dialogue:
    """A conversation with one model.

    Args:
        text: the model's tokenizer and template.
        stop_tokens: ids that end an answer.
        turns: what was said before.
        system: how to answer; it takes the place of a system's word in `turns`.
    """

    def __init__(
        self, text: Text, stop_tokens: Sequence[int], *, turns: Sequence[ChatMessage] = (), system: str | None = None
    ) -> None:
        self._text = text
        self._stop_tokens = frozenset(stop_tokens)
        self._system = ChatMessage("system", system) if system is not None else None
        self.turns = self._begun(turns)
        """What was said, the system's word first."""
        self._ids: list[int] = []
        """The sequence as far as it was asked and answered, without a stop token at its end."""
        self._written = ""
        """The text that it stands for."""
        self._asked: tuple[tuple[ChatMessage, ...], str] = (), ""
        """The turns with the question asked last, and the text that they are."""

    def reset(self) -> None:
        """Forget what was said, but for the system's word."""
        self.turns = self._begun([turn for turn in self.turns if turn.role == "system"])
        self._ids, self._written = [], ""

    def ask(self, question: str) -> tuple[Prompt, list[int]]:
        """What the user asks next, and the whole sequence with it. It takes a tenth of a second and more.

        Nothing has changed until it is `answered`.

        Raises:
            ConfigurationError: the question is empty, or the template refuses the turns.
            ModelError: the template does not work; or there is none, and the turns need one.
        """
        turns = (*self.turns, ChatMessage("user", question))
        prompt = Prompt(messages=turns)
        template = self._text.template()
        written = plain_turns(turns) if template is None else template.render(turns)
        self._asked = turns, written
        if self._ids and written.startswith(self._written):
            return prompt, [*self._ids, *self._text.encode_on(written[len(self._written) :])]
        return prompt, self._text.encode(written) if template is None else self._text.encode_on(written)

    def answered(self, ids: Sequence[int], tokens: Sequence[int]) -> str:
        """What came of the question asked last: the answer, which is the assistant's turn from now on.

        Args:
            ids: as `ask` gave them.
            tokens: that were generated; where they say nothing, the question is as if it was never asked.
        """
        kept = list(tokens)
        while kept and kept[-1] in self._stop_tokens:
            kept.pop()
        answer = self._text.decode(kept)
        if answer.strip():
            turns, written = self._asked
            self.turns = [*turns, ChatMessage("assistant", answer)]
            self._ids, self._written = [*ids, *kept], written + answer
        return answer

    def _begun(self, turns: Sequence[ChatMessage]) -> list[ChatMessage]:
        if self._system is None:
            return list(turns)
        return [self._system, *(turn for turn in turns if turn.role != "system")]


def plain_turns(turns: Sequence[ChatMessage]) -> str:
    """The turns as text that a model goes on from which has no template. Raises ModelError for a system's word."""
    written = ""
    for turn in turns:
        if turn.role == "system":
            raise ModelError("the model has no chat template", hint="do without --system")
        written += turn.content if turn.role == "assistant" or not written else f"\n{turn.content}"
    return written
