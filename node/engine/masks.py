"""Which tokens an answer that is held to a grammar may go on with (docs/spec/audit.md, clause F13).

A function of the grammar, the model's tokenizer and the answer so far, as one version of one library computes it,
within its bounds on steps: another version makes no such masks. Compiling happens apart from the passes
(`Masks.prepare`), and nothing is compiled here that did not come to an end in a process with limits before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from node.engine.shaping import Mask
from node.model_directory import ModelFacts, read_text_file
from node.own_process import run_script
from protocol.errors import ModelError, RefusedError
from protocol.market.catalog import MAX_FILE_BYTES
from protocol.session.grammar import MASKS, Grammar
from protocol.session.shaping import LookBack

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

__all__ = ["Holder", "Masks", "find_masks", "masks_here", "try_grammar"]

TRIAL = Path(__file__).with_name("mask_trial.py")
TRIAL_S = 60.0
"""Seconds on the clock, for a machine with much else to do; the process bounds its processor time."""
HEAD = '%llguidance {"no_forcing": true}\n'
"""Any token may be drawn whose bytes fit, however a tokenizer would cut the text."""
LIMITS: dict[str, Any] = {
    "max_items_in_row": 2_000,
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_lexer_states": 250_000,
    "max_grammar_size": 500_000,
}
"""Steps, not seconds: so that an auditor on another machine comes to the same end."""
KEPT = 16
"""Compiled grammars that are kept; the one that was asked for longest ago is forgotten."""


def masks_here() -> str:
    """The masks that can be made here; empty where the library is not installed."""
    try:
        return f"llguidance/{metadata.version('llguidance')}"
    except metadata.PackageNotFoundError:
        return ""


def find_masks(directory: Path, facts: ModelFacts) -> Masks | None:
    """What makes masks for a model; None without the library in the one version, or a tokenizer and a stop token."""
    path = directory / "tokenizer.json"
    if masks_here() != MASKS or not facts.stop_tokens or not path.is_file():
        return None
    try:
        return Masks(read_text_file(path, MAX_FILE_BYTES).decode(), facts.vocabulary, facts.stop_tokens)
    except (ModelError, UnicodeDecodeError):
        return None


def try_grammar(text: bytes) -> None:
    """See whether a grammar comes to an end in a process with limits. Takes some 0.1 s. Raises RefusedError."""
    try:
        answer = run_script(TRIAL, {"grammar": _source(text), "limits": LIMITS}, seconds=TRIAL_S)
    except (TimeoutError, ValueError):
        answer = {"refused": "it takes too much time or memory"}
    match answer:
        case {"ok": _}:
            return
        case {"refused": str(why)}:
            raise _refused(why)
    raise _refused("nobody can say why")


class Masks:
    """Of one model. `prepare` may be called from any thread, and a `Holder` is used by one.

    Args:
        tokenizer: content of tokenizer.json.

    Raises ModelError: the library cannot use the tokenizer.
    """

    def __init__(self, tokenizer: str, vocabulary: int, stop_tokens: Sequence[int]) -> None:
        self.vocabulary = vocabulary
        self.stop_tokens = frozenset(stop_tokens)
        self._tokenizer = _tokenizer(tokenizer, vocabulary, stop_tokens)
        self._compiled: OrderedDict[bytes, LLMatcher] = OrderedDict()
        self._reading = Lock()
        self._compiling = Lock()

    def prepare(self, grammar: Grammar, before: LookBack) -> None:
        """Compile a grammar, and see that the beginning of the answer keeps to it.

        Raises RefusedError: it cannot be read, takes too long, or these are other masks; or the answer does not keep to
        it.
        """
        if grammar.masks != MASKS:
            raise _refused(f"its masks are {grammar.masks}, and here they are {MASKS}")
        Holder(self, grammar).allowed(before)

    def matcher(self, grammar: Grammar, text: bytes) -> LLMatcher:
        """One at the beginning of an answer. Raises RefusedError."""
        found = self._copy(grammar)
        if found is None:
            with self._compiling:  # one at a time; passes do not wait for it
                found = self._copy(grammar) or self._compile(grammar, text)
        return found

    def _copy(self, grammar: Grammar) -> LLMatcher | None:
        with self._reading:
            found = self._compiled.get(grammar.text)
            if found is None:
                return None
            self._compiled.move_to_end(grammar.text)
            return found.deep_copy()

    def _compile(self, grammar: Grammar, text: bytes) -> LLMatcher:
        from llguidance import LLMatcher, LLParserLimits

        try_grammar(text)
        made = LLMatcher(self._tokenizer, _source(text), log_level=0, limits=LLParserLimits(**LIMITS))
        if made.is_error():
            raise _refused(made.get_error())
        with self._reading:
            self._compiled[grammar.text] = made
            while len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
            return made.deep_copy()


class Holder:
    """Holds one answer to a grammar: a matcher, and the tokens that it has seen, as a cache."""

    def __init__(self, masks: Masks, grammar: Grammar) -> None:
        self._masks = masks
        self._grammar = grammar
        self._matcher: LLMatcher | None = None
        self._seen: tuple[int, ...] = ()

    def allowed(self, before: LookBack) -> Mask:
        """Tokens that may come after an answer, ``[vocabulary]``; after one that has ended, any.

        Raises RefusedError: the answer does not keep to the grammar, or no token does, or it takes too many steps.
        """
        masks, answer = self._masks, before.answer
        if not masks.stop_tokens.isdisjoint(answer):
            return np.ones(masks.vocabulary, dtype=np.bool_)
        matcher = self._at(answer, before.grammar)
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        found = np.unpackbits(bits, count=masks.vocabulary, bitorder="little").astype(np.bool_)
        if matcher.is_error() or not found.any():
            self._matcher = None
            raise _refused(matcher.get_error() or "no token may follow")
        return found

    def _at(self, answer: tuple[int, ...], text: bytes) -> LLMatcher:
        """The matcher, after this very answer."""
        matcher, seen = self._matcher, self._seen
        if matcher is None or seen != answer[: len(seen)]:
            same = next((at for at, (one, other) in enumerate(zip(seen, answer, strict=False)) if one != other), None)
            same = min(len(seen), len(answer)) if same is None else same
            if matcher is None or not matcher.rollback(len(seen) - same):
                matcher, same = self._masks.matcher(self._grammar, text), 0
            seen = answer[:same]
        rest = list(answer[len(seen) :])
        self._matcher = None
        if rest and matcher.try_consume_tokens(rest) < len(rest):
            raise _refused("the answer does not keep to it")
        self._matcher, self._seen = matcher, answer
        return matcher


def _source(text: bytes) -> str:
    try:
        return HEAD + text.decode()
    except UnicodeDecodeError:
        raise _refused("it is not UTF-8") from None


def _tokenizer(content: str, vocabulary: int, stop_tokens: Sequence[int]) -> LLTokenizer:
    from llguidance import LLTokenizer

    try:
        return LLTokenizer(content, n_vocab=vocabulary, eos_token=list(stop_tokens))
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception
        raise ModelError(f"no masks can be made for the model's tokenizer: {error}") from None


def _refused(why: str) -> RefusedError:
    first: Any = why.splitlines()[0] if why else ""
    return RefusedError(f"the answer cannot be held to the grammar: {first[:200]}", code="grammar")
