"""Guesses from a small model (`node.ports.Drafter`): a checkpoint with the same tokenizer, or some layers of the same.

It draws as the model will: with the session's temperature, and with the same noise at the same position. So where both
find the same few tokens likely, both draw the same one of them, at any temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from node.engine.engine import Engine
from node.engine.loader import load_layers
from node.model_directory import ModelFacts, model_facts
from node.model_directory.hashes import HashMemory
from node.ports import GREEDY, DraftAsk, StepInput, StepOutput
from protocol.errors import ModelError, RefusedError
from protocol.session.shaping import LookBack, Shaping, look_back
from protocol.session.terms import SamplingTerms

__all__ = ["ModelDrafter", "load_layers_drafter", "load_model_drafter"]

TOKENIZER = "tokenizer.json"


@dataclass(slots=True)
class _Sequence:
    """What stands, and what is in the small model's KV."""

    room: int
    """Positions that it may hold."""
    prompt: int
    """So many of the first tokens are not the answer's."""
    shaping: Shaping | None
    told: LookBack | None = None
    """What a draw looks back on of the prompt."""
    tokens: list[int] = field(default_factory=list)
    """Those that stand."""
    fed: list[int] = field(default_factory=list)
    """Those in the KV, guesses included."""
    same: int = 0
    """So many of the fed ones are known to be those that stand."""

    def before(self, rest: Sequence[int]) -> LookBack | None:
        """What a draw after these, which come next, looks back on."""
        if self.shaping is None:
            return None
        tokens = [*self.fed, *rest]
        if self.told is None:
            self.told = look_back(self.shaping, tokens[: self.prompt])
        return self.told.with_more(tokens[self.prompt :])

    def settle(self, guesses: Sequence[int]) -> tuple[int, list[int]]:
        """Up to where the KV fits the tokens and the guesses after them, and which have to be fed from there."""
        tokens, fed = self.tokens, self.fed
        while self.same < min(len(tokens), len(fed)) and fed[self.same] == tokens[self.same]:
            self.same += 1
        fits = self.same
        if fits == len(tokens):
            while fits < len(fed) and fits - len(tokens) < len(guesses) and fed[fits] == guesses[fits - len(tokens)]:
                fits += 1
        fits = min(fits, len(tokens) + len(guesses) - 1)  # the last one is fed again where nothing else is: it draws
        self.same = min(self.same, fits)
        rest = tokens[fits:] + list(guesses[max(0, fits - len(tokens)) :])
        return fits, rest


@dataclass(slots=True)
class _Turn:
    """One ask while it is worked on."""

    place: int
    session: bytes
    sequence: _Sequence
    rest: list[int]
    """To be fed next."""
    count: int
    found: list[int] = field(default_factory=list)


class ModelDrafter:
    """Draws from a whole small model.

    Args:
        engine: it and its KV; used by nobody else.
    """

    instant = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sequences: dict[bytes, _Sequence] = {}

    def begin(self, session: bytes, *, max_tokens: int, prompt: int = 0, sampling: SamplingTerms = GREEDY) -> None:
        """See `Drafter`. Without room in the KV there will be no guesses for this sequence."""
        room = min(max_tokens, self._engine.facts.max_context)
        try:
            self._engine.open(session, max_tokens=room, sampling=sampling.replace(logprobs=None))
        except RefusedError:
            return
        self._sequences[session] = _Sequence(room, prompt, sampling.shaping)

    def extend(self, session: bytes, tokens: Sequence[int]) -> None:
        """See `Drafter`."""
        if (sequence := self._sequences.get(session)) is not None:
            sequence.tokens.extend(tokens)

    def end(self, session: bytes) -> None:
        """See `Drafter`."""
        if self._sequences.pop(session, None) is not None:
            self._engine.close(session)

    def propose(self, asks: Sequence[DraftAsk]) -> list[tuple[int, ...]]:
        """See `Drafter`. A long text is read in over several calls, which bring no guesses until it is."""
        found: list[tuple[int, ...]] = [()] * len(asks)
        turns = self._turns(asks)
        while turns:
            turns = self._pass(turns)
            for turn in turns:
                found[turn.place] = tuple(turn.found)
            turns = [turn for turn in turns if len(turn.found) < turn.count]
        return found

    def _turns(self, asks: Sequence[DraftAsk]) -> list[_Turn]:
        """The asks that can be worked on now, within the rows of one pass."""
        turns, rows = [], 0
        for place, ask in enumerate(asks):
            sequence = self._sequences.get(ask.session)
            if sequence is None or not len(sequence.tokens) + len(ask.guesses):
                continue
            count = min(ask.wanted, sequence.room - len(sequence.tokens) - len(ask.guesses))
            if count < 1:
                continue
            fits, rest = sequence.settle(ask.guesses)
            self._take_back(ask.session, sequence, fits)
            if rows + len(rest) > self._engine.max_rows:
                rest, count = rest[: self._engine.max_rows - rows], 0
            if rest:
                rows += len(rest)
                turns.append(_Turn(place, ask.session, sequence, rest, count))
        return turns

    def _take_back(self, session: bytes, sequence: _Sequence, fits: int) -> None:
        if len(sequence.fed) > fits:
            self._engine.rollback(session, fits)
            del sequence.fed[fits:]

    def _pass(self, turns: list[_Turn]) -> list[_Turn]:
        """Feed each turn what it has to be fed, and draw a token after it. Those that drew one."""
        items = [
            StepInput(
                session=turn.session,
                position=len(turn.sequence.fed),
                length=len(turn.rest),
                data=tuple(turn.rest),
                draws=1 if turn.count else 0,
                before=turn.sequence.before(turn.rest) if turn.count else None,
            )
            for turn in turns
        ]
        drew = []
        for turn, output in zip(turns, self._engine.forward(items), strict=True):
            if not isinstance(output, StepOutput):
                self.end(turn.session)  # guesses that it cannot follow are given up, not the job
                continue
            turn.sequence.fed.extend(turn.rest)
            if output.tokens:
                turn.found.append(output.tokens[0])
                turn.rest = [output.tokens[0]]
                drew.append(turn)
        return drew


def load_model_drafter(
    directory: Path, model: Path, *, kv_tokens: int, dtype: str, threads: int, hashes: HashMemory | None = None
) -> ModelDrafter:
    """A drafter out of a small checkpoint for the model in another directory.

    Raises:
        ModelError: it cannot be loaded, or reads and writes other tokens than the model.
    """
    facts, own = model_facts(model), model_facts(directory)
    _require_same_tokens(directory, own, model, facts, HashMemory() if hashes is None else hashes)
    return ModelDrafter(Engine.load(directory, 0, own.blocks, kv_tokens=kv_tokens, dtype=dtype, threads=threads))


def _require_same_tokens(directory: Path, own: ModelFacts, model: Path, facts: ModelFacts, hashes: HashMemory) -> None:
    same = "choose a smaller model of the same family, with the same tokenizer.json"
    if own.vocabulary != facts.vocabulary:
        raise ModelError(
            f"the model in {directory} has {own.vocabulary} tokens, the one that it drafts for {facts.vocabulary}",
            hint=same,
        )
    for folder in (directory, model):
        if not (folder / TOKENIZER).is_file():
            raise ModelError(f"{folder} has no {TOKENIZER}: nobody can tell whether both models' tokens are the same")
    if hashes.of(directory / TOKENIZER) != hashes.of(model / TOKENIZER):
        raise ModelError(f"the model in {directory} has another tokenizer than the one that it drafts for", hint=same)


def load_layers_drafter(model: Path, layers: Sequence[int] | None, *, kv_tokens: int, dtype: str) -> ModelDrafter:
    """A drafter out of some layers of the model itself, half of them where None. Raises ModelError."""
    chosen = half_of(model_facts(model).blocks) if layers is None else layers
    return ModelDrafter(Engine(load_layers(model, chosen, dtype=dtype), kv_tokens=kv_tokens))


def half_of(blocks: int) -> tuple[int, ...]:
    """Half of the layers, the first and the last among them and the others evenly between.

    On the demo model its best three of six: right for 72 % of the tokens, where the first three are for 57 %.
    """
    kept = max(1, blocks // 2)
    return (0,) if kept == 1 else tuple(each * (blocks - 1) // (kept - 1) for each in range(kept))
