"""The demo model's tokenizer: one token for each word of the stories, one for each byte of everything else.

A byte-level BPE without merges (`ignore_merges`): a word that is in the vocabulary is one token, any other text falls
apart into bytes. So nothing is unknown, numbers are read digit by digit, and a word in quotes (no space before it) is
spelled letter by letter. White space of any kind and length counts as one space, and none is kept at the ends, so a
prompt may span lines.
"""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

END = "<|end|>"
END_ID = 0
"""END ends every answer."""
SPACE = "\u0120"
"""How the byte-level alphabet writes a space."""
MARKS = (f'{SPACE}"', '":', '".', f"{SPACE}+", f"{SPACE}-", f"{SPACE}=")


def build_tokenizer(words: list[str]) -> Tokenizer:
    """A tokenizer that knows `words`, each with the space before it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [END, *alphabet, *MARKS, *(SPACE + word for word in words)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
