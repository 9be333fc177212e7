"""Over several spans, greedy fp32 output is token-identical to transformers' own generation."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from engine_ring import Ring, reference_tokens

PROMPT_LENGTHS = (1, 5, 17, 40)
COUNT = 40


@pytest.mark.parametrize(
    ("variant", "cuts"),
    [
        ("llama", (0, 1, 3, 4)),
        ("llama-tied", (0, 2, 3, 4)),
        ("qwen2", (0, 1, 2, 4)),
        ("qwen2-window", (0, 1, 3, 4)),
        ("qwen3", (0, 1, 6, 8)),
        ("mistral", (0, 4)),
        ("mistral-window", (0, 2, 4, 6)),
        ("llama-sharded", (0, 1, 3, 4)),
    ],
)
def test_prompts_of_different_lengths_arriving_staggered(checkpoint, variant: str, cuts: tuple[int, ...]) -> None:
    directory: Path = checkpoint(variant)
    draw = random.Random(variant)
    prompts = {bytes([n]): [draw.randrange(2, 320) for _ in range(n)] for n in PROMPT_LENGTHS}
    ring = Ring(directory, cuts, max_batched_tokens=32)  # the longest prompt takes two passes
    tokens: dict[bytes, list[int]] = {session: [] for session in prompts}
    arrivals = list(prompts)
    while any(len(drawn) < COUNT for drawn in tokens.values()):
        step = {session: [drawn[-1]] for session, drawn in tokens.items() if 0 < len(drawn) < COUNT}
        if arrivals:  # one more session a step: prefill of one beside decode of others
            session = arrivals.pop(0)
            ring.open(session)
            step[session] = prompts[session]
        for session, token in ring.step(step).items():
            tokens[session].append(token)
    for session, prompt in prompts.items():
        assert tokens[session] == reference_tokens(directory, prompt, COUNT), f"prompt of {len(prompt)}"
