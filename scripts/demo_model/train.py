"""Train the demo model from a seed and write it in Hugging Face format.

The number of steps is fixed, so that the learning-rate schedule, and with it the result, does not depend on the
machine's speed; on one core the run takes less than 20 minutes of CPU time. Needs a C++ compiler for `torch.compile`;
`--no-compile` runs without one, about 1.5 times longer.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from scripts.demo_model.corpus import known_words, training
from scripts.demo_model.packing import Batch, batches
from scripts.demo_model.tokens import END, END_ID, build_tokenizer

CONTEXT = 512
SAVE_EVERY = 500
"""Steps between two saved checkpoints; the later replaces the earlier."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that the result depends on besides the library versions."""

    seed: int = 7
    steps: int = 5000
    rows: int = 8
    length: int = 192
    hidden: int = 192
    blocks: int = 6
    heads: int = 6
    kv_heads: int = 3
    intermediate: int = 512
    matrix_rate: float = 0.006
    """Peak learning rate of the blocks' matrices (Muon)."""
    vector_rate: float = 0.003
    """Peak learning rate of the embedding and the norms (AdamW)."""
    weight_decay: float = 0.1
    """Of the matrices."""
    warm_up: int = 100
    """Steps of linear rise; after them the rate falls linearly to nothing."""


def cpu_seconds() -> float:
    """CPU time of this process and its children so far: a compiler's time counts."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def build_model(recipe: Recipe, vocabulary: int, end: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.blocks,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=end,
    )
    return LlamaForCausalLM(config)


def start(model: LlamaForCausalLM) -> None:
    """Set the first weights so that attention begins by finding tokens like the one at hand, and by copying them.

    Mimetic initialization (Trockman and Kolter, 2023, https://arxiv.org/abs/2305.09828): queries resemble keys and each
    output matrix undoes its values. From the usual start the lookup of a fact by a name, which takes two blocks in
    concert, did not form in 1,000 s of CPU time; from this one it forms in 100 s."""
    config = model.config
    shared = config.num_attention_heads // config.num_key_value_heads
    words = model.model.embed_tokens.weight
    torch.nn.init.normal_(words, std=1.0)
    words.data += torch.normal(0.0, 0.5, (1, config.hidden_size))  # what all have in common: lets distance alone count
    model.lm_head.weight.data = 0.05 * words.data
    for index, block in enumerate(model.model.layers):
        attention = block.self_attn
        queries, keys, values = (p.weight for p in (attention.q_proj, attention.k_proj, attention.v_proj))
        torch.nn.init.normal_(queries, std=0.06)
        torch.nn.init.normal_(keys, std=0.06)
        torch.nn.init.orthogonal_(values)
        alike = 0.9 * per_query_head(keys, config.head_dim, shared) + 0.44 * queries.data
        queries.data = alike if index else 0.3 * alike  # the first block looks about evenly, to see what stands near
        attention.o_proj.weight.data = per_query_head(values, config.head_dim, shared).T.contiguous()
        torch.nn.init.zeros_(block.mlp.down_proj.weight)


def per_query_head(matrix: torch.Tensor, head_dim: int, shared: int) -> torch.Tensor:
    """The rows of a key or value projection, repeated for each of the `shared` query heads that use them."""
    return matrix.data.unflatten(0, (-1, head_dim)).repeat_interleave(shared, 0).flatten(0, 1)


def build_optimizers(model: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers." in name]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=recipe.matrix_rate, weight_decay=recipe.weight_decay, momentum=0.95, ns_steps=4),
        torch.optim.AdamW(others, lr=recipe.vector_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate_factor(step: int, recipe: Recipe) -> float:
    """The learning rate at `step` as a share of its peak."""
    return min((step + 1) / recipe.warm_up, (recipe.steps - step) / (recipe.steps - recipe.warm_up))


def loss_of(model: Any, batch: Batch) -> torch.Tensor:
    """Weighted mean cross-entropy, in nats."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(
            input_ids=batch.tokens, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        ).logits
    losses = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch.targets.flatten(), reduction="none")
    weights = batch.weights.flatten()
    return (losses * weights).sum() / weights.sum()


@dataclass(slots=True)
class Progress:
    """What has been trained on so far."""

    examples: int = 0
    tokens: int = 0

    def count(self, batch: Batch) -> None:
        begun = int((batch.positions == 0).sum())
        self.examples += begun
        self.tokens += int((batch.weights > 0).sum()) + begun


def train(model: LlamaForCausalLM, stream: Iterator[Batch], recipe: Recipe, out: Path, *, compiled: bool) -> None:
    """Run all steps, printing the loss and the CPU time, and saving to `out` now and then."""
    forward = torch.compile(model) if compiled else model
    optimizers = build_optimizers(model, recipe)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    total = torch.zeros(())
    progress = Progress()
    for step in range(recipe.steps):
        for optimizer, rates in zip(optimizers, peaks, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * rate_factor(step, recipe)
        batch = next(stream)
        progress.count(batch)
        loss = loss_of(forward, batch)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        total += loss.detach()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} loss {total.item() / 50:.4f} cpu {cpu_seconds():.0f} s", flush=True)
            total.zero_()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.steps:
            save(model, recipe, progress, out)


def save(model: LlamaForCausalLM, recipe: Recipe, progress: Progress, out: Path) -> None:
    """Write the model in bfloat16, its tokenizer, and the recipe with the CPU time so far."""
    out.mkdir(parents=True, exist_ok=True)
    rounded = build_model(recipe, model.config.vocab_size, model.config.eos_token_id).to(torch.bfloat16)
    rounded.load_state_dict(model.state_dict())
    rounded.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=model.config.eos_token_id, pad_token_id=model.config.eos_token_id
    )
    rounded.save_pretrained(out)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(known_words()),
        eos_token=END,
        pad_token=END,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(out)
    record = {
        "recipe": asdict(recipe),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **asdict(progress),
        "cpu_seconds": round(cpu_seconds()),
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, tokenizers)},
    }
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="directory to write the checkpoint to")
    parser.add_argument("--no-compile", action="store_true", help="do without torch.compile and a C++ compiler")
    for field in fields(Recipe):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=type(field.default), help=f"default {field.default}"
        )
    options = {k: v for k, v in vars(parser.parse_args()).items() if v is not None}
    out, eager = options.pop("out"), options.pop("no_compile")
    recipe = Recipe(**options)
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    tokenizer = build_tokenizer(known_words())
    model = build_model(recipe, tokenizer.get_vocab_size(), END_ID)
    start(model)
    stream = batches(tokenizer, training(recipe.seed), recipe.rows, recipe.length)
    train(model, stream, recipe, out, compiled=not eager)
    print(f"done: {cpu_seconds():.0f} s of CPU time")


if __name__ == "__main__":
    main()
