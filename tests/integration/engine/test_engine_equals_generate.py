"""Over several spans, greedy fp32 output is token-identical to transformers' own generation."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from engine_ring import Ring, ok, reference_tokens

from node.engine.engine import Engine
from node.ports import StepInput
from protocol.errors import RefusedError
from protocol.identity.ids import BlockSpan

PROMPT_LENGTHS = (1, 17, 40)
COUNT = 26


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
        ("phi3", (0, 1, 4)),
        ("phi3-window", (0, 2, 4)),
        ("olmo2", (0, 1, 4)),
        ("gemma3", (0, 2, 3, 5)),
        ("gemma2", (0, 1, 4)),
        ("gpt-oss", (0, 1, 2, 4)),
        ("mixtral", (0, 2, 4)),
        ("mixtral-window", (0, 3, 4)),
        ("qwen3-moe", (0, 1, 2, 4)),
    ],
)
def test_prompts_of_different_lengths_arriving_staggered(checkpoint, variant: str, cuts: tuple[int, ...]) -> None:
    directory: Path = checkpoint(variant)
    draw = random.Random(variant)
    prompts = {bytes([n]): [draw.randrange(2, 320) for _ in range(n)] for n in PROMPT_LENGTHS}
    ring = Ring(directory, cuts)
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


def test_sessions_may_go_through_some_of_a_node_s_blocks(checkpoint) -> None:
    """Two engines that overlap, 0:3 and 1:4 of four blocks, serve every way to share the blocks between them."""
    directory: Path = checkpoint("llama")
    prompt = [5, 9, 200, 31]
    engines = [Engine.load(directory, 0, 3, kv_tokens=2048), Engine.load(directory, 1, 4, kv_tokens=2048)]
    sessions = {bytes([cut]): cut for cut in (1, 2, 3)}
    for session, cut in sessions.items():
        for engine, blocks in zip(engines, (BlockSpan(start=0, end=cut), BlockSpan(start=cut, end=4)), strict=True):
            engine.open(session, max_tokens=64, blocks=blocks)
    tokens = {session: list(prompt) for session in sessions}
    fed = 0
    while fed < len(prompt) + COUNT - 1:
        count = len(prompt) if not fed else 1
        items = [
            StepInput(session=each, position=fed, length=count, data=tokens[each][fed : fed + count], draws=1)
            for each in sessions
        ]
        middle = [ok(output) for output in engines[0].forward(items)]
        assert all(output.tokens == () for output in middle)
        passed = [
            StepInput(session=out.session, position=fed, length=count, data=out.hidden, draws=1) for out in middle
        ]
        for output in map(ok, engines[1].forward(passed)):
            tokens[output.session].extend(output.tokens)
        fed += count
    expected = reference_tokens(directory, prompt, COUNT)
    assert all(answer[len(prompt) :] == expected for answer in tokens.values())


def test_blocks_that_an_engine_does_not_hold_are_refused(checkpoint) -> None:
    engine = Engine.load(checkpoint("llama"), 1, 3, kv_tokens=256)
    for start, end in ((0, 2), (2, 4)):
        with pytest.raises(RefusedError, match="not all held"):
            engine.open(b"x", max_tokens=8, blocks=BlockSpan(start=start, end=end))
