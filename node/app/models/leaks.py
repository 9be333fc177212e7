"""What the rows between legs tell of a text, by model: measured (`joule model leaks`), kept, and found again by root.

The bundled model's figures come with it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.app.models.held_out import encoder_of, held_out, sample_of
from node.app.models.survey import survey
from node.durable import replace_file
from node.engine.leaked import Attacked, CutLeak
from node.importing import importing
from node.json_values import plain
from node.model_directory import HashMemory, model_facts
from protocol.errors import ConfigurationError, LocalError

__all__ = ["ModelLeaks", "keep_leaks", "known_leaks", "measure_leaks"]

BUNDLED = Path(__file__).parents[2] / "demo" / "model" / "leaks.json"
LEAST_TOLD = 32
"""Tokens that are attacked, at least: of fewer no share could be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLeaks:
    """How many of a text's token ids attacks told from the rows at each cut of a model."""

    name: str
    """Of the model, for people."""
    roots: dict[str, bytes]
    """What offers name the model by, for each precision that it can be served in."""
    blocks: int
    """In the whole model."""
    precision: str
    """That it was computed in."""
    known_tokens: int
    """Of the text that the attacker knew."""
    told_tokens: int
    """Of another text, which it was to tell."""
    chance_ppm: int
    """Share of these that is right where always the commonest token of the known text is said, in millionths."""
    cuts: tuple[CutLeak, ...]
    """From the embedding on; of a deep model some."""

    def at(self, cut: int) -> CutLeak:
        """At a cut, or the last one before it that was looked at: what comes later has gone through more."""
        return max((each for each in self.cuts if each.cut <= cut), key=lambda each: each.cut)


def measure_leaks(directory: Path, sample: Path | None, hashes: HashMemory) -> ModelLeaks:
    """Attack a model with each of our attacks, on this machine.

    Args:
        directory: the model, whole.
        sample: a text such as the model will be asked with, to be told; None for one that comes with joulemesh.

    Raises:
        ModelError: the model is not all there, or has no tokenizer.
        ConfigurationError: the text cannot be read, or is too short.
    """
    facts, encode = model_facts(directory), encoder_of(directory)
    questions, text = held_out()
    known = encode("\n".join(each.ask + each.choices[0] for each in questions), True)
    told = encode(text if sample is None else sample_of(sample), True)
    if len(told) < LEAST_TOLD:
        raise ConfigurationError(f"{len(told)} tokens tell nothing", hint="give some pages of text")
    with importing():
        from node.engine.engine import Engine
        from node.engine.leaks import MOST_KNOWN, MOST_TOLD, cuts_of, leaks_of, room_for

        cuts, precision = cuts_of(facts.blocks), facts.precisions[0]
        engine = Engine.load(directory, 0, facts.blocks, kv_tokens=room_for(cuts), dtype=precision)
    known, told = known[:MOST_KNOWN], told[:MOST_TOLD]
    return ModelLeaks(
        name=facts.name,
        roots=survey(directory, hashes).roots,
        blocks=facts.blocks,
        precision=precision,
        known_tokens=len(known),
        told_tokens=len(told),
        chance_ppm=_chance(known, told),
        cuts=tuple(leaks_of(engine, known, told, cuts)),
    )


def _chance(known: Sequence[int], told: Sequence[int]) -> int:
    (commonest, _), *_ = Counter(known).most_common(1)
    return round(told.count(commonest) * 1_000_000 / len(told))


def keep_leaks(found: ModelLeaks, data_dir: Path) -> None:
    """Keep what was measured, for `known_leaks`. Raises LocalError."""
    text = json.dumps(plain(found), indent=1)
    try:
        folder = data_dir / "leaks"
        folder.mkdir(parents=True, exist_ok=True)
        for root in found.roots.values():
            replace_file(folder / f"{root.hex()}.json", text.encode())
    except OSError as error:
        raise LocalError(f"what was measured cannot be kept in {data_dir}: {error.strerror}") from None


def known_leaks(root: bytes, data_dir: Path) -> ModelLeaks | None:
    """What was measured here of a model, or comes with it; None where nobody has, or a file cannot be read."""
    for file in (data_dir / "leaks" / f"{root.hex()}.json", BUNDLED):
        try:
            found = _loaded(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue
        if root in found.roots.values():
            return found
    return None


def _loaded(said: Any) -> ModelLeaks:
    cuts = (
        CutLeak(cut=each["cut"], attacks=tuple(Attacked(**one) for one in each["attacks"])) for each in said["cuts"]
    )
    roots = {precision: bytes.fromhex(root) for precision, root in said["roots"].items()}
    return ModelLeaks(**{**said, "roots": roots, "cuts": tuple(cuts)})
