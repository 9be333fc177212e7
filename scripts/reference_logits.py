"""What transformers computes for a model, as `joule model check --reference` takes it.

python scripts/reference_logits.py MODEL_DIRECTORY reference.npz
joule model check MODEL_DIRECTORY --reference reference.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

LENGTH = 64


def main() -> None:
    """Write the file."""
    directory, target = map(Path, sys.argv[1:])
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    length = min(LENGTH, model.config.max_position_embeddings)
    ids = np.random.default_rng(0).integers(model.config.vocab_size, size=length)
    with torch.inference_mode():
        logits = model(torch.from_numpy(ids).unsqueeze(0)).logits[0].float().numpy()
    np.savez(target, ids=ids, logits=logits)


if __name__ == "__main__":
    main()
