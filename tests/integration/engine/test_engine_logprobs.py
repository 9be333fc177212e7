"""Log probabilities by a real model: those of transformers, however tokens were computed, and held by an auditor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from engine_ring import Ring, ok

from node.engine.audit import Window, replay
from node.engine.engine import Engine
from node.ports import StepInput
from protocol.identity.ids import BlockSpan
from protocol.models.activations import FORMATS, ActivationType
from protocol.receipts.audit import Observation, Verdict, judge
from protocol.session.logprobs import pack_said, unpack_said
from protocol.session.shaping import Shaping, TokenBias
from protocol.session.terms import Assignment, SamplingTerms

PROMPT = [5, 9, 200, 31, 9, 77]
COUNT = 20
TOLERANCE = FORMATS[ActivationType.FP32].tolerance
SHAPING = Shaping(biases=(TokenBias(token=12, lift=104_000),))
SAMPLING = SamplingTerms(temperature_milli=900, seed=3, top_k=40, shaping=SHAPING, logprobs=4)


@cache
def served(directory: Path) -> tuple[list[int], list[bytes]]:
    """Beside another session that asks for none."""
    ring, tokens, said = Ring(directory, (0, 2, 4)), list(PROMPT), []
    for name, how in ((b"s", SAMPLING), (b"t", SamplingTerms(temperature_milli=500, seed=1))):
        for engine in ring.engines:
            engine.open(name, max_tokens=64, sampling=how)
    position = 0
    while len(said) < COUNT:
        data = {b"s": tokens[position:], b"t": tokens[position:]}
        for engine in ring.engines:
            draws = int(engine is ring.engines[-1])
            items = [
                StepInput(session=name, position=position, length=len(rows), data=rows, draws=draws)
                for name, rows in data.items()
            ]
            outputs = [ok(each) for each in engine.forward(items)]
            data = {each.session: each.hidden for each in outputs}
        assert outputs[1].said == ()
        position = len(tokens)
        tokens += outputs[0].tokens
        said += outputs[0].said
    return tokens, said


def by_transformers(directory: Path, tokens: list[int]) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([tokens])).logits[0].double(), dim=-1)


def test_they_are_those_of_transformers_and_an_auditor_finds_them_so(checkpoint) -> None:
    directory: Path = checkpoint("llama")
    tokens, said = served(directory)
    expected = by_transformers(directory, tokens)
    for at, each in enumerate(said, len(PROMPT)):
        drawn, *likeliest = unpack_said(each)
        row = expected[at - 1]
        assert drawn.token == tokens[at]
        assert [entry.token for entry in likeliest] == row.topk(4).indices.tolist()
        assert max(abs(entry.logarithm - float(row[entry.token])) for entry in (drawn, *likeliest)) < 2e-5
    assert verdict(directory, tokens, said, SAMPLING) is Verdict.MATCH
    engine = Engine.load(directory, 0, 4, kv_tokens=64)  # in one pass, as drafts are verified
    engine.open(b"s", max_tokens=64, sampling=SAMPLING)
    item = StepInput(session=b"s", position=0, length=len(tokens) - 1, data=tokens[:-1], draws=COUNT)
    at_once = ok(engine.forward([item])[0])
    assert at_once.tokens == tuple(tokens[len(PROMPT) :])
    assert _apart(at_once.said, said) <= 20


def _apart(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    pairs = zip(unpack_said(b"".join(one)), unpack_said(b"".join(other)), strict=True)
    return max(abs(left.millionths - right.millionths) for left, right in pairs)


def verdict(directory: Path, tokens: list[int], said: list[bytes], sampling: SamplingTerms) -> Verdict:
    """Of the whole model as one leg whose rows are the model's."""
    start = len(PROMPT) - 1
    windows = [Window(0, start, bytes(32)), Window(start, len(tokens) - 1, bytes(32))]
    again = replay(directory, [4], tokens, windows, sampling=sampling, prompt=len(PROMPT), said=said)
    seat = Assignment(leg=0, span=BlockSpan(start=0, end=4))
    rows = [[Observation(seat, 0, max(each.off for each in one.drawn))] for (one,) in again]
    return judge(rows, TOLERANCE).verdict


@pytest.mark.parametrize("lie", ["a number", "another token", "one that is left out"])
def test_a_leg_that_lies_is_convicted(checkpoint, lie: str) -> None:
    directory: Path = checkpoint("llama")
    tokens, said = served(directory)
    drawn, first, second, third, _ = unpack_said(said[7])
    lies = {
        "a number": second._replace(millionths=second.millionths + 3000),
        "another token": second._replace(token=third.token),
        "one that is left out": third,
    }
    told = [each[:24] for each in said]  # as if two had been asked for
    assert verdict(directory, tokens, told, SAMPLING.replace(logprobs=2)) is Verdict.MATCH
    told[7] = pack_said((drawn, first, lies[lie]))
    assert verdict(directory, tokens, told, SAMPLING.replace(logprobs=2)) is Verdict.MISMATCH
