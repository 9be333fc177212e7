"""What each sold precision's honest noise is, and how far the others are from it: docs/explanation/precisions.md.

    python scripts/measure_precisions.py [MODEL_DIRECTORY]

The model is quantized on the spot. Honest means: answered in a batch with others, against one prefill alone.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measure_fingerprints import ANSWER_TOKENS, DEMO_MODEL, PROMPTS, Rows, run, windows_of
from tokenizers import Tokenizer

from node.engine.engine import Engine
from node.model_directory import model_facts, quantize_model
from protocol.models.precisions import PRECISIONS
from protocol.session.fingerprint import distance_ppm, sketch

RESAMPLED = 2_000


def alone(directory: Path, precision: str, sequences: dict[bytes, tuple[int, ...]]) -> Rows:
    """Each sequence as one prefill with nobody beside it."""
    engine = Engine.load(directory, 0, model_facts(directory).blocks, kv_tokens=4096, dtype=precision)
    return {session: run(engine, {session: ids}, 0)[0][session] for session, ids in sequences.items()}


def distances(one: Rows, other: Rows) -> np.ndarray:
    """Of all windows of both."""
    found = [
        distance_ppm(sketch(one[session][part], seed), sketch(other[session][part], seed))
        for session, part, seed in windows_of(one)
    ]
    return np.array(found)


def interval(values: np.ndarray, *, share: float) -> tuple[int, int]:
    """95 % of a quantile, by resampling windows."""
    numbers = np.random.default_rng(1).choice(values, (RESAMPLED, len(values)))
    low, high = np.quantile(np.quantile(numbers, share, axis=1), (0.025, 0.975))
    return int(low), int(high)


def rows_of_table(directory: Path, homes: dict[str, Path]) -> Iterator[str]:
    """A line of the table for each precision."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    prompts = {bytes([n]): tuple(tokenizer.encode(text).ids) for n, text in enumerate(PROMPTS.split("\n\n"))}
    served, again = {}, {}
    blocks = model_facts(directory).blocks
    for name, home in homes.items():
        engine = Engine.load(home, 0, blocks, kv_tokens=16_384, dtype=name)
        served[name], tokens = run(engine, prompts, ANSWER_TOKENS)
        again[name] = {each: tuple(ids[: len(served[name][each])]) for each, ids in tokens.items()}
    for name, home in homes.items():
        size = sum(path.stat().st_size for path in home.glob("*.safetensors"))
        honest = distances(served[name], alone(home, name, again[name]))
        low, high = interval(honest, share=0.99)
        others = [
            f"{other} {np.median(distances(served[name], alone(homes[other], other, again[name]))):,.0f}"
            for other in homes
            if other != name
        ]
        tolerance = PRECISIONS[name].tolerance
        allowed = "not measured apart from cheats: no audit" if tolerance is None else f"{tolerance.distance_ppm}"
        spread = f"{np.quantile(honest, 0.99):,.0f} ({low:,} to {high:,})"
        cells = [
            name,
            f"{size / 1e6:.1f} MB",
            f"{len(honest)}",
            f"{np.median(honest):,.0f}",
            spread,
            f"{honest.max():,}",
        ]
        yield "| " + " | ".join([*cells, ", ".join(others), allowed]) + " |"


def main() -> None:
    """Print the table."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO_MODEL
    print("| precision | weights | windows | median | 99 % (95 % interval) | most | others, median | tolerance |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        homes = {"fp32": directory, "bf16": directory}
        for bits in (8, 4):
            homes[f"int{bits}"] = Path(folder) / str(bits)
            quantize_model(directory, homes[f"int{bits}"], bits)
        for line in rows_of_table(directory, homes):
            print(line, flush=True)


if __name__ == "__main__":
    main()
