"""Log probabilities of an answer's tokens: handed out with the text that they begin, and spelled as OpenAI does."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["Likelihood", "Piece", "Said", "Tokens", "chat_logprobs", "completion_logprobs"]


class Likelihood(NamedTuple):
    """How likely one token was."""

    token: bytes
    """What it stands for: text, or a part of a character."""
    logarithm: float
    """Of its probability."""

    @property
    def text(self) -> str:
        """For people; bytes that are no whole text are spelled out."""
        try:
            return self.token.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in self.token)


class Said(NamedTuple):
    """What is said of one token of an answer."""

    drawn: Likelihood
    likeliest: tuple[Likelihood, ...]
    at: int = 0
    """Where its text begins in the answer, in characters."""


class Piece(NamedTuple):
    """A piece of an answer."""

    text: str
    """Empty while a character is not whole."""
    said: tuple[Said, ...] = ()
    """Of the tokens whose text begins in it, where that was asked for."""


class Tokens:
    """Says of each token when its text has begun to be handed out: what a stop cuts off has none."""

    def __init__(self) -> None:
        self._came = 0
        self._handed = 0
        self._waiting: deque[Said] = deque()

    def take(self, piece: Piece) -> None:
        """A token came."""
        self._waiting.extend(each._replace(at=self._came) for each in piece.said)
        self._came += len(piece.text)

    def hand(self, text: str) -> Piece:
        """This text is handed out, and what was said of its tokens."""
        self._handed += len(text)
        said = []
        while self._waiting and self._waiting[0].at < self._handed:
            said.append(self._waiting.popleft())
        return Piece(text, tuple(said))


def chat_logprobs(said: Sequence[Said]) -> dict[str, Any]:
    """As `/v1/chat/completions` spells them."""
    content = [{**_chat(each.drawn), "top_logprobs": [_chat(likely) for likely in each.likeliest]} for each in said]
    return {"content": content, "refusal": None}


def _chat(likelihood: Likelihood) -> dict[str, Any]:
    return {"token": likelihood.text, "logprob": likelihood.logarithm, "bytes": list(likelihood.token)}


def completion_logprobs(said: Sequence[Said]) -> dict[str, Any]:
    """As `/v1/completions` spells them: the token that was drawn is always among the likeliest."""
    return {
        "tokens": [each.drawn.text for each in said],
        "token_logprobs": [each.drawn.logarithm for each in said],
        "top_logprobs": [{likely.text: likely.logarithm for likely in (*each.likeliest, each.drawn)} for each in said],
        "text_offset": [each.at for each in said],
    }
