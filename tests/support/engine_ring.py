"""Spans joined in memory as the pipeline joins them over links: activations pass on, the drawn token goes round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from node.engine.engine import Engine
from node.ports import GREEDY, StepInput, StepOutput
from protocol.session.terms import SamplingTerms


def reference_tokens(directory: Path, prompt: Sequence[int], count: int) -> list[int]:
    """What transformers' own `generate` says, greedily, never stopping."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    ids = torch.tensor([list(prompt)])
    model.generation_config.eos_token_id = None
    settings = {"do_sample": False, "max_new_tokens": count, "pad_token_id": 0}
    out = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    return [int(i) for i in out[0, len(prompt) :]]


class Ring:
    """A model cut into spans, and the sessions that run through all of them."""

    def __init__(self, directory: Path, cuts: Sequence[int], **settings: object) -> None:
        defaults: dict[str, object] = {"kv_tokens": 4096}
        self.engines = [Engine.load(directory, start, end, **(defaults | settings)) for start, end in pairwise(cuts)]
        self.position: dict[bytes, int] = {}
        self.rows: dict[bytes, list[list[np.ndarray]]] = {}

    def open(self, session: bytes, *, sampling: SamplingTerms = GREEDY, max_tokens: int = 256) -> None:
        for engine in self.engines:
            engine.open(session, max_tokens=max_tokens, sampling=sampling)
        self.position[session] = 0
        self.rows[session] = [[] for _ in self.engines]

    def close(self, session: bytes) -> None:
        for engine in self.engines:
            engine.close(session)

    def step(self, ids: Mapping[bytes, Sequence[int]], *, silent: Sequence[bytes] = ()) -> dict[bytes, int]:
        """One pass round the ring with token ids of some sessions; the tokens drawn, but for the silent ones."""
        data: dict[bytes, object] = dict(ids)
        outputs: list[StepOutput] = []
        for leg, engine in enumerate(self.engines):
            items = [
                StepInput(
                    session=session,
                    position=self.position[session],
                    length=len(ids[session]),
                    data=rows,
                    draws=int(session not in silent and leg == len(self.engines) - 1),
                )
                for session, rows in data.items()
            ]
            outputs = [ok(result) for result in engine.forward(items)]
            data = {out.session: out.hidden for out in outputs}
            for out in outputs:
                self.rows[out.session][leg].append(out.hidden)
        for out in outputs:
            self.position[out.session] += out.length
        return {out.session: out.tokens[0] for out in outputs if out.tokens}

    def generate(self, session: bytes, prompt: Sequence[int], count: int) -> list[int]:
        """One session alone: its prompt in one pass, then a token a pass."""
        token = self.step({session: prompt})[session]
        tokens = [token]
        while len(tokens) < count:
            token = self.step({session: [token]})[session]
            tokens.append(token)
        return tokens


def ok(result: StepOutput | Exception) -> StepOutput:
    """The output, where there is one."""
    if isinstance(result, Exception):
        raise result
    return result
