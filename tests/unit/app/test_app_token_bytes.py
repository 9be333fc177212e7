"""Bytes of tokens: together they are the text, whatever the tokenizer writes them as."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from node.app.models.obtaining import Text
from node.app.models.token_bytes import TokenBytes

DEMO = Path(__file__).parents[3] / "node" / "demo" / "model" / "tokenizer.json"
TEXT = "Mia's red kite, 17 + 25: naïve 🪁 tabs\tand\nlines"


def byte_level() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({each: at for at, each in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def with_byte_fallback() -> Tokenizer:
    """As Llama 2 and Mistral have it: known characters, and bytes for all others."""
    known = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *"abcdefghijklmnopqrstuvwxyzM',17+25:"]
    model = models.BPE({each: at for at, each in enumerate(known)}, [], unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


@pytest.mark.parametrize("tokenizer", [byte_level(), with_byte_fallback(), Tokenizer.from_file(str(DEMO))])
def test_the_bytes_of_all_tokens_are_those_of_the_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
    found = TokenBytes(tokenizer)
    assert b"".join(map(found.of, ids)).decode() == tokenizer.decode(ids)
    assert len(ids) > 10


def test_a_part_of_a_character_has_bytes_and_a_special_token_its_name() -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    found = TokenBytes(tokenizer)
    ids = tokenizer.encode("🪁", add_special_tokens=False).ids
    assert [found.of(each) for each in ids] == [bytes([each]) for each in "🪁".encode()]
    assert found.of(tokenizer.token_to_id("<|end|>")) == b"<|end|>"
    assert found.of(99_999) == b""
    text = Text(tokenizer.to_str().encode())
    assert text.bytes_of(ids[0]) == text.again().bytes_of(ids[0]) == b"\xf0"
