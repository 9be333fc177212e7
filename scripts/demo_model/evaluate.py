"""Held-out accuracy of a checkpoint: greedy answers, exact match per task, with Wilson's 95 % interval.

`write` has no single right answer: a story counts if the independent reader finds in it what was wished for and if the
question that closes it is answered as the story says (`reader.is_sound_story`). All other tasks count a completion that
equals the right one.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scripts.demo_model.corpus import TASKS, Example, held_out
from scripts.demo_model.reader import is_sound_story

LONGEST_ANSWER = 160
"""Tokens after which a story without an end counts as wrong; other answers are far shorter."""


@dataclass(frozen=True, slots=True)
class Score:
    """How many of a task's held-out prompts were answered rightly."""

    right: int
    total: int

    @property
    def accuracy(self) -> float:
        return self.right / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval at 95 %."""
        z, n, p = 1.96, self.total, self.accuracy
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    def as_record(self) -> dict[str, Any]:
        low, high = self.interval
        shares = {"accuracy": self.accuracy, "low": low, "high": high}
        return {"right": self.right, "total": self.total, **{name: round(share, 4) for name, share in shares.items()}}


def load(directory: Path) -> tuple[Any, Any]:
    """The checkpoint's model in float32, and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(directory)


def complete(model: Any, tokenizer: Any, prompts: list[str], longest: int = LONGEST_ANSWER) -> list[str | None]:
    """The greedy completion of each prompt, None where it did not end within `longest` tokens."""
    tokenizer.padding_side = "left"
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    with torch.inference_mode():
        output = model.generate(**inputs, max_new_tokens=longest, do_sample=False)
    new = output[:, inputs["input_ids"].shape[1] :]
    ended = (new == tokenizer.eos_token_id).any(dim=1).tolist()
    texts: list[str] = tokenizer.batch_decode(new, skip_special_tokens=True)
    return [text if end else None for text, end in zip(texts, ended, strict=True)]


def is_right(example: Example, completion: str | None) -> bool:
    if completion is None:
        return False
    if example.task == "write":
        return is_sound_story(example.first.prompt, completion)
    return completion == example.first.completion


def evaluate(model: Any, tokenizer: Any, size: int, seed: int, show: int = 0) -> dict[str, Score]:
    """Score `size` held-out prompts of each task; print the first `show` wrong answers of each."""
    scores = {}
    for task in TASKS:
        examples = held_out(task, size, seed)
        answers: list[str | None] = []
        for start in range(0, size, 50):
            prompts = [example.first.prompt for example in examples[start : start + 50]]
            answers += complete(model, tokenizer, prompts, LONGEST_ANSWER if task == "write" else 24)
        wrong = [(e, a) for e, a in zip(examples, answers, strict=True) if not is_right(e, a)]
        scores[task] = Score(size - len(wrong), size)
        for example, answer in wrong[:show]:
            print(f"[{task}] {example.first.prompt}\n  right: {example.first.completion}\n  given: {answer}")
    scores["overall"] = Score(sum(s.right for s in scores.values()), sum(s.total for s in scores.values()))
    return scores


def as_table(scores: dict[str, Score]) -> str:
    """The scores as a Markdown table."""
    lines = ["| task | right | of | accuracy | 95 % interval |", "|---|---:|---:|---:|---|"]
    for task, score in scores.items():
        low, high = score.interval
        lines.append(f"| {task} | {score.right} | {score.total} | {score.accuracy:.1%} | {low:.1%} to {high:.1%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="directory of the checkpoint")
    parser.add_argument("--size", type=int, default=250, help="held-out prompts per task (default 250)")
    parser.add_argument("--seed", type=int, default=1, help="which held-out prompts (default 1)")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the first N wrong answers per task")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    scores = evaluate(*load(options.model), options.size, options.seed, options.show)
    if options.json:
        tasks = {task: score.as_record() for task, score in scores.items()}
        print(json.dumps({"size": options.size, "seed": options.seed, "scores": tasks}, indent=2))
    else:
        print(as_table(scores))


if __name__ == "__main__":
    main()
