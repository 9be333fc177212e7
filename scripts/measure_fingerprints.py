"""How far apart fingerprints of honest legs and of cheats are, on a model: the figures in docs/spec/audit.md.

    python scripts/measure_fingerprints.py [MODEL_DIRECTORY] [--prompts FILE] [--seeds N] [--random]

Prompts are separated by empty lines; a model without a tokenizer gets random ones. --random measures a model of random
weights that is made on the spot. It takes some minutes: distances first, then how often a change escapes, then gains.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from measure_gain import Differentiable, measure
from tokenizers import Tokenizer

from node.engine.engine import Engine
from node.engine.loader import load_span
from node.engine.span import Span
from node.model_directory import model_facts
from node.ports import Activations, StepInput, StepOutput
from protocol.models.activations import FORMATS, ActivationType
from protocol.session.fingerprint import distance_ppm, sketch

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
SEEDS_A_WINDOW = 3
TOLERANCE = FORMATS[ActivationType.FP32].tolerance.distance_ppm

Rows = dict[bytes, Activations]
Sequences = dict[bytes, tuple[int, ...]]


def run(engine: Engine, sequences: Sequences, answer_tokens: int) -> tuple[Rows, dict[bytes, list[int]]]:
    """Run prompts together, then decode greedily together: each session's rows, and its tokens."""
    tokens = {session: list(ids) for session, ids in sequences.items()}
    rows: dict[bytes, list[Activations]] = {session: [] for session in sequences}
    for session, ids in sequences.items():
        engine.open(session, max_tokens=len(ids) + answer_tokens)
    fed = dict(sequences)
    for step in range(answer_tokens + 1):
        items = [
            StepInput(session=s, position=len(tokens[s]) - len(ids), length=len(ids), data=ids, draws=1)
            for s, ids in fed.items()
        ]
        for out in engine.forward(items):
            if not isinstance(out, StepOutput):
                raise out
            rows[out.session].append(out.hidden)
            if out.tokens and step < answer_tokens:
                tokens[out.session].extend(out.tokens)
                fed[out.session] = out.tokens
    for session in sequences:
        engine.close(session)
    return {session: np.concatenate(pieces) for session, pieces in rows.items()}, tokens


def skip_a_layer(span: Span) -> None:
    """Leave the second layer out by making it add nothing."""
    layer = span.layers[1]
    for matrix in (layer.out, layer.down):
        matrix.weight = torch.zeros_like(matrix.weight)


def noise(share: float) -> Callable[[Span], None]:
    """Change each weight by about this share of itself."""

    def change(span: Span) -> None:
        generator = torch.Generator().manual_seed(1)
        for layer in span.layers:
            for each in (*layer.matrices, *layer.norms):
                each.weight = each.weight * (1 + share * torch.randn(each.weight.shape, generator=generator))

    return change


def quantize_to_int8(span: Span) -> None:
    """Round each matrix to int8 with a scale per output channel."""
    for layer in span.layers:
        for matrix in layer.matrices:
            scale = matrix.weight.abs().amax(1, keepdim=True) / 127
            matrix.weight = (matrix.weight / scale).round() * scale


def unchanged(_: Span) -> None:
    """Keep the weights."""


def altered(ids: Sequence[int]) -> tuple[int, ...]:
    """Another second token."""
    return (ids[0], ids[1] + 1, *ids[2:])


def windows_of(rows: Rows) -> Iterator[tuple[bytes, slice, bytes]]:
    """Session, rows and seed: every window of all sizes, under a few seeds each."""
    random = np.random.default_rng(1)
    for session, each in rows.items():
        for size in WINDOWS:
            for at in range(0, len(each) - size + 1, size):
                for _ in range(SEEDS_A_WINDOW):
                    yield session, slice(at, at + size), random.bytes(32)


def distances(here: Rows, there: Rows) -> list[int]:
    """Of all windows."""
    return [
        distance_ppm(sketch(here[session][some], seed), sketch(there[session][some], seed))
        for session, some, seed in windows_of(here)
    ]


def report(name: str, found: list[int]) -> None:
    """One row of the table."""
    above = sum(distance > TOLERANCE for distance in found) / len(found)
    print(f"| {name} | {min(found):,} | {int(median(found)):,} | {max(found):,} | {above:.0%} |", flush=True)


def noise_in_every_entry(rows: Activations) -> Activations:
    """A change that spreads over the window."""
    return np.random.default_rng(2).standard_normal(rows.shape)


def one_dimension_of_two_rows(rows: Activations) -> Activations:
    """The least number of entries that can cancel each other."""
    change = np.zeros(rows.shape)
    change[[2, 9], 3] = 1.0
    return change


def two_dimensions_of_two_rows(rows: Activations) -> Activations:
    """Four entries whose signs are products of the same four."""
    change = np.zeros(rows.shape)
    change[np.ix_([2, 9], [3, 40])] = 1.0
    return change


def escapes(rows: Activations, seeds: int) -> None:
    """Print how often a change of so many tolerances matches all the same."""
    exact = rows.astype(np.float64)
    rms = np.sqrt(np.mean(exact**2, axis=1, keepdims=True))
    norm = np.linalg.norm(exact / np.sqrt(rms))
    print(f"\n| change of a window of {len(rows)} rows | 1 tolerance | 3 | 10 | least seen of 10, in tolerances |")
    print("|---|---|---|---|---|")
    for change in (noise_in_every_entry, one_dimension_of_two_rows, two_dimensions_of_two_rows):
        direction = change(rows)
        direction *= norm / np.linalg.norm(direction)
        random, escaped, least = np.random.default_rng(3), {1: 0, 3: 0, 10: 0}, 10.0
        others = {
            times: (exact + times * TOLERANCE * 1e-6 * direction * np.sqrt(rms)).astype(np.float32) for times in escaped
        }
        for _ in range(seeds):
            seed = random.bytes(32)
            here = sketch(rows, seed)
            found = {times: distance_ppm(here, sketch(other, seed)) for times, other in others.items()}
            for times, distance in found.items():
                escaped[times] += distance <= TOLERANCE
            least = min(least, found[10] / TOLERANCE)
        shares = " | ".join(f"{count / seeds:.3%}" for count in escaped.values())
        print(f"| {change.__name__.replace('_', ' ')} | {shares} | {least:.1f} |", flush=True)


def random_model(directory: Path) -> None:
    """A Llama of random weights, larger than at the start of a training, so that each layer has its say."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 12, "vocab_size": 320}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 512}
    ends = {"bos_token_id": 0, "eos_token_id": None, "pad_token_id": None, "tie_word_embeddings": False}
    config = AutoConfig.for_model("llama", **shape, **heads, **ends, initializer_range=0.06)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)


def prompts_for(model: Path, text: str) -> Sequences:
    """Token ids by session."""
    tokenizer = model / "tokenizer.json"
    if tokenizer.exists():
        encode = Tokenizer.from_file(str(tokenizer)).encode
        return {bytes([i]): tuple(encode(part).ids[:64]) for i, part in enumerate(text.split("\n\n"))}
    random, vocabulary = np.random.default_rng(0), model_facts(model).vocabulary
    return {bytes([i]): tuple(random.integers(2, vocabulary - 1, 10 + 7 * i).tolist()) for i in range(6)}


def measure_model(model: Path, text: str, seeds: int) -> None:
    """Print all tables."""
    prompts, blocks = prompts_for(model, text), model_facts(model).blocks
    whole = Engine.load(model, 0, blocks, kv_tokens=8192)
    decoded, answers = run(whole, prompts, ANSWER_TOKENS)
    sequences = {session: tuple(tokens) for session, tokens in answers.items()}
    for end in (blocks // 3, blocks // 2, blocks):
        print(f"\noutput of block {end} of {blocks}\n\n| | least | median | most | above tolerance |")
        print("|---|---|---|---|---|")
        honest = _prefills(model, end, sequences)
        if end == blocks:
            report("honest: decoded in a batch, against one prefill alone", distances(decoded, honest))
        report("honest: prefilled in a batch, against alone", distances(_packed(model, end, sequences), honest))
        for name, change, dtype in (
            ("weights with 0.1 % noise", noise(0.001), "fp32"),
            ("weights with 1 % noise", noise(0.01), "fp32"),
            ("int8 weights, per channel", quantize_to_int8, "fp32"),
            ("bf16 throughout", unchanged, "bf16"),
            ("one layer skipped", skip_a_layer, "fp32"),
        ):
            report(name, distances(_prefills(model, end, sequences, change, dtype), honest))
        other = {session: altered(ids) for session, ids in sequences.items()}
        report("one prompt token altered", distances(_prefills(model, end, other), honest))
    escapes(decoded[b"\0"][:16], seeds)
    print("\n| blocks | gain, median | most | logit margin, median | most |\n|---|---|---|---|---|")
    span, chosen = load_span(model, 0, blocks, backend=Differentiable()), list(sequences.values())[:5]
    for leg in (range(blocks // 3, 2 * blocks // 3), range(2 * blocks // 3, blocks), range(1, blocks)):
        print(measure(span, chosen, leg), flush=True)


def _prefills(
    model: Path,
    end: int,
    sequences: Sequences,
    change: Callable[[Span], None] = unchanged,
    dtype: str = "fp32",
) -> Rows:
    engine = Engine.load(model, 0, end, kv_tokens=1024, dtype=dtype)
    change(engine.span)
    return {session: run(engine, {session: ids}, 0)[0][session] for session, ids in sequences.items()}


def _packed(model: Path, end: int, sequences: Sequences) -> Rows:
    rows: Rows = {}
    for some in (dict(list(sequences.items())[at : at + 3]) for at in range(0, len(sequences), 3)):
        rows |= run(Engine.load(model, 0, end, kv_tokens=8192), some, 0)[0]
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=DEMO_MODEL)
    parser.add_argument("--prompts", type=Path)
    parser.add_argument("--seeds", type=int, default=100_000)
    parser.add_argument("--random", action="store_true")
    given = parser.parse_args()
    text = given.prompts.read_text() if given.prompts else PROMPTS
    if not given.random:
        measure_model(given.model, text, given.seeds)
        return
    with tempfile.TemporaryDirectory() as directory:
        random_model(Path(directory))
        measure_model(Path(directory), text, given.seeds)


if __name__ == "__main__":
    main()
