"""The bytes that a token stands for: those of a whole text, or of a part of a character."""

from __future__ import annotations

import json
import re
from typing import Any

from tokenizers import Tokenizer

__all__ = ["TokenBytes"]

_WORD_BEGIN = "\u2581"
"""What SentencePiece writes in the place of a space."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class TokenBytes:
    """Of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {token: each.content for token, each in tokenizer.get_added_tokens_decoder().items()}
        decoder = tokenizer.decoder
        kinds = set() if decoder is None else _kinds(json.loads(decoder.__getstate__()))
        self._spelled = _spelled() if "ByteLevel" in kinds else {}
        """Characters that stand for a byte each."""
        self._has_spaces = bool(kinds & {"Metaspace", "Replace"})
        self._has_bytes = "ByteFallback" in kinds

    def of(self, token: int) -> bytes:
        """Of a token id; nothing for one that the tokenizer does not have."""
        added = self._added.get(token)
        if added is not None:
            return added.encode()
        written = self._tokenizer.id_to_token(token)
        if written is None:
            return b""
        if self._spelled:
            return b"".join(self._spelled.get(each) or each.encode() for each in written)
        if self._has_bytes and (byte := _BYTE.fullmatch(written)):
            return bytes([int(byte[1], 16)])
        return (written.replace(_WORD_BEGIN, " ") if self._has_spaces else written).encode()


def _kinds(state: dict[str, Any]) -> set[str]:
    """Of a decoder, and of those that it is a sequence of."""
    found = {state["type"]}
    for each in state.get("decoders", ()):
        found |= _kinds(each)
    return found


def _spelled() -> dict[str, bytes]:
    """Byte-level tokenizers write bytes that can be shown as they are, and the others as the characters from 256 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): bytes([byte]) for byte in shown} | {
        chr(256 + at): bytes([byte]) for at, byte in enumerate(others)
    }
