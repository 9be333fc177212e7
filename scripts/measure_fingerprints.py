"""How far apart fingerprints of honest legs and of cheats are, on a model: the table in docs/spec/audit.md.

    python scripts/measure_fingerprints.py [MODEL_DIRECTORY] [--prompts FILE]

Prompts are separated by empty lines. It takes seconds on the demo model.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from tokenizers import Tokenizer

from node.engine.engine import Engine
from node.engine.span import Span
from node.model_directory import model_facts
from node.ports import Activations, StepInput, StepOutput
from protocol.fingerprint import FP32_TOLERANCE_PPM, UNSEEDED, distance_ppm, sketch

DEMO_MODEL = Path("node/demo/model")
PROMPTS = """Write a story about Mia and a red kite in the park.

Write a story about Tom and a drum.

Anna has a red ball. Tom went to the kitchen. Where is Tom?

17 + 25 =

Copy "stone":

Write a story about Leo and a black hat in the forest.

Emma found a key in the attic. Emma gave the key to Ben. Who has the key?

Write a story about Nora and a golden bell.

Write a story about Max and a white boat in the cave."""
WINDOWS = (8, 16, 32, 64)
ANSWER_TOKENS = 96

Rows = dict[bytes, Activations]


def run(
    engine: Engine, sequences: dict[bytes, tuple[int, ...]], answer_tokens: int
) -> tuple[Rows, dict[bytes, list[int]]]:
    """Run prompts together, then decode greedily together: each session's rows, and its tokens."""
    tokens = {session: list(ids) for session, ids in sequences.items()}
    rows: dict[bytes, list[Activations]] = {session: [] for session in sequences}
    for session, ids in sequences.items():
        engine.open(session, max_tokens=len(ids) + answer_tokens, temperature_milli=0, seed=0)
    fed = dict(sequences)
    for step in range(answer_tokens + 1):
        items = [
            StepInput(session=s, position=len(tokens[s]) - len(ids), length=len(ids), data=ids, sample=True)
            for s, ids in fed.items()
        ]
        for out in engine.forward(items):
            if not isinstance(out, StepOutput):
                raise out
            rows[out.session].append(out.hidden)
            if out.token is not None and step < answer_tokens:
                tokens[out.session].append(out.token)
                fed[out.session] = (out.token,)
    for session in sequences:
        engine.close(session)
    return {session: np.concatenate(pieces) for session, pieces in rows.items()}, tokens


def skip_a_layer(span: Span) -> None:
    """Leave the second layer out by making it add nothing."""
    layer = span._layers[1]
    for weight in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight):
        weight.data = torch.zeros_like(weight)


def noise(share: float) -> Callable[[Span], None]:
    """Change each weight by about this share of itself."""

    def change(span: Span) -> None:
        generator = torch.Generator().manual_seed(1)
        for layer in span._layers:
            for weight in layer.parameters():
                weight.data = weight * (1 + share * torch.randn(weight.shape, generator=generator))

    return change


def quantize_to_int8(span: Span) -> None:
    """Round each matrix to int8 with a scale per output channel."""
    for layer in span._layers:
        for weight in (weight for weight in layer.parameters() if weight.ndim == 2):
            scale = weight.abs().amax(1, keepdim=True) / 127
            weight.data = (weight / scale).round() * scale


def unchanged(_: Span) -> None:
    """Keep the weights."""


def altered(ids: Sequence[int]) -> tuple[int, ...]:
    """Another second token."""
    return (ids[0], ids[1] + 1, *ids[2:])


def distances(here: Rows, there: Rows) -> list[int]:
    """Of all windows of all sizes."""
    return [
        distance_ppm(sketch(rows[at : at + size], UNSEEDED), sketch(there[session][at : at + size], UNSEEDED))
        for session, rows in here.items()
        for size in WINDOWS
        for at in range(0, len(rows) - size + 1, size)
    ]


def report(name: str, found: list[int]) -> None:
    """One row of the table."""
    above = sum(distance > FP32_TOLERANCE_PPM for distance in found) / len(found)
    print(f"| {name} | {min(found):,} | {int(median(found)):,} | {max(found):,} | {above:.0%} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=DEMO_MODEL)
    parser.add_argument("--prompts", type=Path)
    given = parser.parse_args()
    text = given.prompts.read_text() if given.prompts else PROMPTS
    tokenizer = Tokenizer.from_file(str(given.model / "tokenizer.json"))
    prompts = {bytes([i]): tuple(tokenizer.encode(part).ids[:64]) for i, part in enumerate(text.split("\n\n"))}

    whole = Engine.load(given.model, 0, model_facts(given.model).blocks, kv_tokens=8192)
    decoded, answers = run(whole, prompts, ANSWER_TOKENS)
    sequences = {session: tuple(tokens) for session, tokens in answers.items()}
    for end in (whole.facts.blocks // 2, whole.facts.blocks):
        print(f"\noutput of block {end} of {whole.facts.blocks}\n\n| | least | median | most | above tolerance |")
        print("|---|---|---|---|---|")
        honest = _prefills(given.model, end, sequences)
        if end == whole.facts.blocks:
            report("honest: decoded in a batch, against one prefill alone", distances(decoded, honest))
        report("honest: prefilled in a batch, against alone", distances(_packed(given.model, end, sequences), honest))
        for name, change, dtype in (
            ("weights with 0.1 % noise", noise(0.001), "fp32"),
            ("weights with 1 % noise", noise(0.01), "fp32"),
            ("int8 weights, per channel", quantize_to_int8, "fp32"),
            ("bf16 throughout", unchanged, "bf16"),
            ("one layer skipped", skip_a_layer, "fp32"),
        ):
            report(name, distances(_prefills(given.model, end, sequences, change, dtype), honest))
        other = {session: altered(ids) for session, ids in sequences.items()}
        report("one prompt token altered", distances(_prefills(given.model, end, other), honest))


def _prefills(
    model: Path,
    end: int,
    sequences: dict[bytes, tuple[int, ...]],
    change: Callable[[Span], None] = unchanged,
    dtype: str = "fp32",
) -> Rows:
    engine = Engine.load(model, 0, end, kv_tokens=1024, dtype=dtype)
    change(engine.span)
    return {session: run(engine, {session: ids}, 0)[0][session] for session, ids in sequences.items()}


def _packed(model: Path, end: int, sequences: dict[bytes, tuple[int, ...]]) -> Rows:
    return run(Engine.load(model, 0, end, kv_tokens=8192), sequences, 0)[0]


if __name__ == "__main__":
    main()
