"""Small random models as Hugging Face directories: the real classes and files, a few hundred kilobytes each."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from string import ascii_lowercase

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

BOS, EOS = 0, 1
SPECIAL = ("<s>", "</s>")


def make_checkpoint(
    directory: Path,
    architecture: str,
    *,
    layers: int = 4,
    hidden: int = 64,
    seed: int = 0,
    tied: bool = False,
    sliding_window: int | None = None,
    vocab: int = 320,
    shard_size: str = "50GB",
    context: int = 512,
    endless: bool = False,
) -> None:
    """Write a model with random weights and a tokenizer of `vocab` tokens (258 to 934).

    An `endless` model has no stop token: its answers are as long as one asks for.
    `architecture` is a `model_type`, one of `node.model_directory.ARCHITECTURES`.
    Weights are larger than at the start of a training, so that every layer has its say in which token comes next.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings: dict[str, object] = {
        "hidden_size": hidden,
        "intermediate_size": hidden * 2,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": hidden // 4,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
        "bos_token_id": BOS,
        "eos_token_id": None if endless else EOS,
        "pad_token_id": None,
        "initializer_range": 0.2,
    }
    if architecture in ("mixtral", "qwen3_moe"):
        settings |= {"num_experts_per_tok": 2, "moe_intermediate_size": hidden, "norm_topk_prob": True}
        settings["num_local_experts" if architecture == "mixtral" else "num_experts"] = 6
        settings |= {"mlp_only_layers": [1]} if architecture == "qwen3_moe" else {}
    if architecture == "gpt_oss":
        settings |= {"num_experts_per_tok": 2, "num_local_experts": 6, "sliding_window": sliding_window or 24}
        settings |= {"swiglu_limit": 1.5}  # low enough to be met
    if architecture == "gemma2":
        # Low enough to bend what small random models give.
        settings |= {
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 4.0,
            "query_pre_attn_scalar": hidden // 8,
        }
        settings |= {"sliding_window": sliding_window or 24, "head_dim": hidden // 2}
    elif architecture == "gemma3_text":
        kinds = ["full_attention" if layer % 3 == 2 else "sliding_attention" for layer in range(layers)]
        settings |= {"layer_types": kinds, "sliding_window": sliding_window or 24, "query_pre_attn_scalar": hidden}
    elif architecture in ("mistral", "mixtral", "phi3"):
        settings["sliding_window"] = sliding_window
    elif sliding_window is not None and architecture.startswith("qwen"):
        # Qwen's layers below max_window_layers see everything, those from there on the window: both kinds in a model.
        settings |= {"use_sliding_window": True, "sliding_window": sliding_window, "max_window_layers": layers // 2}
    elif sliding_window is not None and architecture != "gpt_oss":
        raise ValueError(f"{architecture} has no sliding window")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = AutoConfig.for_model(architecture, **settings)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    # Biases and norms start at 0 and 1, where a mistake in them would not show.
    noise = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=noise) * 0.1)
    model.save_pretrained(directory, max_shard_size=shard_size)
    write_tokenizer(directory, vocab)


def write_tokenizer(directory: Path, vocab: int) -> None:
    """A byte-level tokenizer in which every id below `vocab` stands for some text."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = list(product(["Ġ", *ascii_lowercase], ascii_lowercase))[: vocab - len(symbols) - len(SPECIAL)]
    words = [*SPECIAL, *symbols, *("".join(pair) for pair in pairs)]
    if len(words) != vocab:
        raise ValueError(f"a vocabulary of {vocab} tokens cannot be made")
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[BOS], "eos_token": SPECIAL[EOS]}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
