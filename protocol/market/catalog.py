"""What peers ask one another: which offers do you know, what is this model made of; and how a question is refused."""

from __future__ import annotations

from typing import Annotated

from protocol.encoding.codec import Count, Message, Size, TextSize, Uint, message
from protocol.identity.ids import Bytes32, Name, PublicKeyBytes

__all__ = [
    "CLIENT_FILES",
    "MARK_BYTES",
    "MAX_FILE_BYTES",
    "MAX_LACKING",
    "MAX_MARKS",
    "ChunkListRequest",
    "ChunkRequest",
    "FileRequest",
    "LackingRequest",
    "ManifestRequest",
    "OfferList",
    "OffersRequest",
    "RequestRefused",
]

CLIENT_FILES = ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json")
"""The files of a model that a client needs and may ask a provider for; weights are not among them."""
MAX_FILE_BYTES = 32 * 1024 * 1024
MARK_BYTES = 16
MAX_MARKS = 1024
"""Of one question for what is lacking."""
MAX_LACKING = 256
"""Offers in the answer to it."""
MAX_CHUNKS = 1 << 30
"""Of a file, since it has below 2^50 bytes."""


@message("offers-request/2")
class OffersRequest(Message):
    """Which offers do you know?"""

    model: Bytes32 | None
    """Only for this model; None for all."""
    node: PublicKeyBytes | None
    """Only by this node; None for all. A node asks for its own, to know whether it is seen."""


@message("offer-list/1")
class OfferList(Message):
    """Sealed offers, newest first; each is checked like one from gossip."""

    sealed: Annotated[tuple[Annotated[bytes, Size(1, 8 * 1024)], ...], Count(0, 4096)]


@message("lacking-request/1")
class LackingRequest(Message):
    """Which offers of this part do you know that I lack? The answer is an `OfferList`."""

    parts: Annotated[int, Uint(16)]
    """Into which the asker has divided all offers: 1, 2, 4 and so on, 256 at most."""
    part: Annotated[int, Uint(16)]
    """Below `parts`."""
    held: Annotated[tuple[Annotated[bytes, Size(MARK_BYTES)], ...], Count(0, MAX_MARKS)]
    """A mark for each offer of this part that the asker has, in no order."""


@message("manifest-request/1")
class ManifestRequest(Message):
    """What is this model made of?"""

    model: Bytes32
    """Model root."""


@message("file-request/1")
class FileRequest(Message):
    """The content of one of a model's files; the answer is its raw bytes, held against the manifest."""

    model: Bytes32
    """Model root."""
    name: Annotated[str, TextSize(96)]
    """One of `CLIENT_FILES`."""


@message("chunk-list-request/1")
class ChunkListRequest(Message):
    """The hashes of the chunks of one of a model's files; the answer, 32 bytes each, is held against the manifest."""

    model: Bytes32
    """Model root."""
    name: Name
    """A file of the manifest."""


@message("chunk-request/1")
class ChunkRequest(Message):
    """One chunk of a model's file; the answer is its raw bytes, held against the chunk list."""

    model: Bytes32
    """Model root."""
    name: Name
    """A file of the manifest."""
    chunk: Annotated[int, Uint(32, MAX_CHUNKS)]
    """Counted from 0."""


@message("request-refused/1")
class RequestRefused(Message):
    """Why a question gets no answer; signed by nobody."""

    code: Name
    """One of `refusals.RefusalCode`."""
    reason: Annotated[str, TextSize(512)]
    """For people."""
