"""What a bundle holds for people to read, prompt and answer: as token ids, and as text by its client's word.

docs/spec/receipt.md, clauses R7 and R11.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from protocol.encoding.codec import Message, message
from protocol.errors import DishonestError
from protocol.identity.ids import Bytes32
from protocol.identity.signing import SigningKey, open_envelope, seal
from protocol.session.logprobs import check_said, unpack_said
from protocol.session.messages import Session, session_id
from protocol.session.receipt_book import ReceiptBook
from protocol.session.shaping import bound_to
from protocol.session.terms import Terms

__all__ = ["Transcript", "check_text", "check_tokens", "seal_transcript"]


@message("transcript/1")
class Transcript(Message):
    """What a client says the token ids read as, sealed with its key."""

    session: Bytes32
    """Session id."""
    prompt: Bytes32
    """SHA-256 of the prompt's text in UTF-8."""
    answer: Bytes32
    """SHA-256 of the answer's."""


def seal_transcript(session: Session, text: tuple[str, str], key: SigningKey) -> bytes:
    """The client's word on prompt and answer."""
    prompt, answer = (hashlib.sha256(part.encode()).digest() for part in text)
    return seal(Transcript(session=session_id(session), prompt=prompt, answer=answer), key)


def check_tokens(
    tokens: Sequence[int] | None, said: Sequence[bytes], terms: Terms, book: ReceiptBook, *, vocabulary: int
) -> None:
    """R7 and N9, what holds of all tokens together.

    Args:
        tokens: prompt first; None where they are withheld.
        said: by generated token, its log probabilities.
        vocabulary: of the model, in tokens.

    Raises MalformedError, DishonestError.
    """
    plan = terms.plan
    if tokens is None:
        _require(not said, "log probabilities of tokens that are withheld")
        return
    cover = book.earned + (1 if book.earned >= plan.prompt else 0)
    _require(len(tokens) == cover, f"{len(tokens)} tokens where the receipts cover {cover}")
    _require(max(tokens, default=0) < vocabulary, "a token that the model does not have")
    _check_said(tokens[plan.prompt :], said, terms.sampling.logprobs, vocabulary)
    if len(tokens) >= plan.prompt:
        shaping = terms.sampling.shaping
        same = shaping == bound_to(shaping, tokens[: plan.prompt])
        _require(same, "the last leg was told of another prompt")


def _check_said(drawn: Sequence[int], said: Sequence[bytes], top: int | None, vocabulary: int) -> None:
    """That log probabilities are there where the terms ask for them, and can be those of the tokens."""
    count = 0 if top is None else len(drawn)
    _require(len(said) == count, f"log probabilities of {len(said)} tokens, not of {count}")
    for token, beside in zip(drawn, said, strict=False):
        check_said(beside, token=token, top=top)
        known = all(each.token < vocabulary for each in unpack_said(beside))
        _require(known, "a log probability of a token that the model does not have")


def check_text(text: tuple[str, str] | None, sealed: bytes | None, session: Session, *, withheld: bool) -> None:
    """R11.

    Args:
        text: prompt and answer.
        sealed: `Transcript`, by the client.
        withheld: whether their tokens are.

    Raises MalformedError, SignatureError, DishonestError.
    """
    if text is None and sealed is None:
        return
    if text is None or sealed is None:
        raise DishonestError("the text is there without its client's word, or the word without the text")
    _require(not withheld, "the tokens are withheld, and their text is there")
    transcript, signer = open_envelope(sealed, Transcript)
    _require(signer == session.client, "the transcript is not sealed by the session's client")
    _require(transcript.session == session_id(session), "the transcript is of another session")
    hashes = tuple(hashlib.sha256(part.encode(errors="surrogatepass")).digest() for part in text)
    _require((transcript.prompt, transcript.answer) == hashes, "the text is not the one that the client sealed")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DishonestError(otherwise)
