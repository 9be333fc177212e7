"""Every family keeps what an engine promises, and its logits are transformers'; an engine that lies is found out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_ring import ok

from node.engine.conformance import ROOM, Conformance
from node.engine.engine import Engine
from node.model_directory import ARCHITECTURES, model_facts
from node.ports import StepInput, StepOutput
from protocol.identity.ids import BlockSpan
from protocol.session.logprobs import pack_said, unpack_said

FAMILIES = {
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "gpt_oss": "gpt-oss",
    "llama": "llama",
    "mistral": "mistral-window",
    "mixtral": "mixtral",
    "olmo2": "olmo2",
    "phi3": "phi3",
    "qwen2": "qwen2-window",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3-moe",
}
"""A variant of each that has most of what the family can have."""
LENGTH = 48


def test_every_family_is_tried() -> None:
    assert set(FAMILIES) == set(ARCHITECTURES)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_keeps_its_promises_and_gives_the_logits_of_transformers(checkpoint: Any, family: str) -> None:
    from transformers import AutoModelForCausalLM

    directory: Path = checkpoint(FAMILIES[family])
    facts = model_facts(directory)
    engine = Engine.load(directory, 0, facts.blocks, kv_tokens=ROOM)
    claims = list(Conformance(engine, facts, BlockSpan(start=0, end=facts.blocks), precision="fp32").run())
    assert len(claims) == 9
    assert [each for each in claims if not each.holds] == []
    assert engine.kv_free == engine.kv_capacity
    ids = [(7 * at + 3) % facts.vocabulary for at in range(LENGTH)]
    engine.open(b"x", max_tokens=LENGTH)
    out = ok(engine.forward([StepInput(session=b"x", position=0, length=LENGTH, data=ids, draws=0)])[0])
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(engine.span.logits(out.hidden), expected, rtol=2e-3, atol=5e-4)


@pytest.mark.parametrize(("span", "precision"), [((1, 3), "fp32"), ((2, 4), "bf16"), ((0, 1), "bf16")])
def test_some_blocks_keep_them_too(checkpoint: Any, span: tuple[int, int], precision: str) -> None:
    directory: Path = checkpoint("qwen2")
    engine = Engine.load(directory, *span, kv_tokens=ROOM, dtype=precision)
    held = BlockSpan(start=span[0], end=span[1])
    claims = list(Conformance(engine, model_facts(directory), held, precision=precision).run())
    assert [each for each in claims if not each.holds] == []


class Forgetful(Engine):
    """Rolls back in name alone: what was there is seen still."""

    def rollback(self, session: bytes, length: int) -> None:
        super().rollback(session, length)
        if length:
            self.forward([StepInput(session=session, position=length - 1, length=1, data=[9], draws=0)])


class Careless(Engine):
    """Gives one session's rows to another one that shares its pass."""

    def forward(self, items: Sequence[StepInput]) -> list[StepOutput | Exception]:
        outputs = super().forward(items)
        first = outputs[0] if outputs else None
        if len(outputs) > 1 and isinstance(first, StepOutput):
            return [
                replace(each, hidden=np.repeat(first.hidden[:1], each.length, 0))
                if isinstance(each, StepOutput)
                else each
                for each in outputs
            ]
        return outputs


class Coarse(Engine):
    """Computes coarser than it sells."""

    def forward(self, items: Sequence[StepInput]) -> list[StepOutput | Exception]:
        return [
            replace(each, hidden=each.hidden * np.float32(1 + 1e-3 * (each.length > 1)))
            if isinstance(each, StepOutput)
            else each
            for each in super().forward(items)
        ]


class Gambler(Engine):
    """Draws by the size of its batch."""

    def forward(self, items: Sequence[StepInput]) -> list[StepOutput | Exception]:
        return [
            replace(each, tokens=tuple((token + len(items)) % 320 for token in each.tokens))
            if isinstance(each, StepOutput)
            else each
            for each in super().forward(items)
        ]


class Boaster(Engine):
    """Says that tokens are likelier where many are drawn at once."""

    def forward(self, items: Sequence[StepInput]) -> list[StepOutput | Exception]:
        def surer(said: bytes, count: int) -> bytes:
            entries = unpack_said(said)
            return pack_said(each._replace(millionths=each.millionths + 5000 // count) for each in entries)

        return [
            replace(each, said=tuple(surer(said, len(each.said)) for said in each.said))
            if isinstance(each, StepOutput)
            else each
            for each in super().forward(items)
        ]


class Trusting(Engine):
    """Computes for whoever asks."""

    def forward(self, items: Sequence[StepInput]) -> list[StepOutput | Exception]:
        for item in items:
            if item.session not in self._sampling:
                self.open(item.session, max_tokens=64)
        return super().forward(items)


class Hoarder(Engine):
    """Gives no room back."""

    def close(self, session: bytes) -> None:
        """Keeps it."""


@pytest.mark.parametrize(
    ("liar", "broken"),
    [
        (Forgetful, "rolled back"),
        (Careless, "sessions beside"),
        (Coarse, "in pieces"),
        (Gambler, "draws depend"),
        (Boaster, "draws depend"),
        (Trusting, "refused"),
        (Hoarder, "room"),
    ],
)
def test_an_engine_that_lies_is_found_out(checkpoint: Any, liar: type[Engine], broken: str) -> None:
    directory: Path = checkpoint("llama")
    engine = liar.load(directory, 0, 4, kv_tokens=8 * ROOM)
    claims = Conformance(engine, model_facts(directory), BlockSpan(start=0, end=4), precision="fp32").run()
    assert any(broken in each.name and not each.holds for each in claims)
