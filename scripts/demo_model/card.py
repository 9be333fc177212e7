"""Write a checkpoint's model card from its records: `training.json` (of training), `accuracy.json` (of evaluation)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from scripts.demo_model.corpus import HELD_OUT_OF_256, LARGEST_ADDEND, LARGEST_MINUEND, WORD_LETTERS
from scripts.demo_model.evaluate import Score, as_table
from scripts.demo_model.stories import COLORS, NAMES, PLACES, THINGS

CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [synthetic, demo]
---
# Joulemesh demo model

A Llama of {parameters:,} parameters in {blocks} blocks ({megabytes:.2f} MB, bfloat16) that writes small stories,
answers questions on them, adds, subtracts, copies and reverses. It exists so that a network on one machine has
something real to run, with answers that can be checked. It knows nothing else.

## What to ask

| prompt | answer |
|---|---|
| `Write a story about Mia and a red kite in the park.` | such a story, a question on it, the answer |
| `Tell me a story about a drum.` | the same; hero, colour and place are the model's choice |
| `Anna has a red ball. Tom went to the kitchen. Where is Tom?` | `Tom is in the kitchen.` |
| `17 + 25 =` or `What is 17 + 25?` | `42.` |
| `63 - 27 =` | `36.` |
| `Copy "stone":` | `"stone".` |
| `Reverse "stone":` | `"enots".` |

- People: {names}.
- Things: {things}.
- Places: {places}.
- Colours: {colors}.
- Other words for people (with a capital), things and places work most of the time: the model spells them letter by
  letter.
- Questions after a story: Where is Tom? Where is the kite? Who has the kite? Who found the kite? What did Tom find? Who
  did Tom meet? What color is the kite?
- State facts in the words of its own stories: went, ran or walked to; found; had or has; gave ... to; put, left or hid
  ... in; met.
- To most other prompts it says what it can do.

Each answer ends with `<|end|>`, the EOS token. White space counts as one space, and none is kept at the ends of a text.

## Accuracy on held-out prompts

{size} prompts per task (seed {seed}), greedy, float32, exact match of the whole completion including its end. No
story that is asked about, sum, wish or word to spell of these prompts is trained: one is held out if the first byte
of the SHA-256 digest of its text is below {limit}. `write` has no single right answer; a story counts if a rule-based
reader finds in it the person, thing, colour and place wished for and if its closing question is answered as the story
says. One in eight of the stories and wishes has made-up names. `other` is anything that is none of the tasks.

{table}

`accuracy.json` holds the same figures for programs.

## How it was made

- Data: {examples:,} examples, {tokens:.1f} million tokens, from the generator in `scripts/demo_model/corpus.py`; no
  other text. Beside the tasks it holds drills: facts, repeated in other orders.
- Training: `python -m scripts.demo_model.train DIRECTORY`, seed {train_seed}, {steps:,} steps of
  {rows} rows of {length} tokens; Muon for the matrices, AdamW for the rest, bfloat16 autocast.
- Cost: {cpu:,} s of CPU time, compiler included: one thread on a server processor with AVX-512 and bfloat16
  instructions.
- Versions: {versions}.
- The recipe and the seed fix the data and the start. Another processor or library version rounds otherwise and yields a
  model of the same kind, not the same bytes.

## Limits

- The held-out prompts come from the same generator as the training data. The figures say how well the rules of that
  small world were learned, not how the model does on other English.
- It writes one sort of story. With greedy decoding the plot depends on the thing and little else; sampling
  varies it, with more slips.
- Never trained: numbers beyond {addend} (to add) or {minuend} (to subtract from), words of fewer than {shortest} or
  more than {longest} letters, capital letters in words to spell.
- Context: {context} positions are allowed; nothing longer than {length} tokens was trained.
"""


def listed(words: tuple[str, ...]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]


def render(training: dict[str, Any], accuracy: dict[str, Any], context: int, size_bytes: int) -> str:
    """The card's text. `context` is the most tokens the model takes, `size_bytes` the size of model.safetensors."""
    recipe = training["recipe"]
    scores = {task: Score(record["right"], record["total"]) for task, record in accuracy["scores"].items()}
    return CARD.format(
        parameters=training["parameters"],
        blocks=recipe["blocks"],
        megabytes=size_bytes / 1e6,
        names=listed(NAMES),
        things=listed(THINGS),
        places=listed(PLACES),
        colors=listed(COLORS),
        size=accuracy["size"],
        seed=accuracy["seed"],
        table=as_table(scores),
        examples=training["examples"],
        tokens=training["tokens"] / 1e6,
        train_seed=recipe["seed"],
        steps=recipe["steps"],
        rows=recipe["rows"],
        length=recipe["length"],
        cpu=training["cpu_seconds"],
        versions=", ".join(f"{name} {version}" for name, version in training["versions"].items()),
        limit=HELD_OUT_OF_256,
        context=context,
        addend=LARGEST_ADDEND,
        minuend=LARGEST_MINUEND,
        shortest=WORD_LETTERS[0],
        longest=WORD_LETTERS[1],
    )


def card_of(directory: Path) -> str:
    """The card that belongs to the checkpoint in `directory`, from its records."""
    training = json.loads((directory / "training.json").read_text())
    accuracy = json.loads((directory / "accuracy.json").read_text())
    context: int = json.loads((directory / "config.json").read_text())["max_position_embeddings"]
    return render(training, accuracy, context, (directory / "model.safetensors").stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="directory of the checkpoint")
    directory = parser.parse_args().model
    (directory / "README.md").write_text(card_of(directory), encoding="utf-8")


if __name__ == "__main__":
    main()
