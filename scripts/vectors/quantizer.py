"""Write tests/vectors/quantizer.json: weights, and what the quantizer makes of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from protocol.models.quantizer import from_int4, from_int8, to_int4, to_int8

FILE = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "quantizer.json"


def main() -> None:
    """Write the file."""
    steps = np.arange(64, dtype=np.float32).reshape(2, 32)
    cases = {
        "steps": (steps - 31) / np.float32(8),
        "zeros": np.zeros((1, 32), np.float32),
        "ties": np.array([[127.0, *([0.5, 1.5, -0.5, -2.5, 3.5] * 6), 0.0]], np.float32),
        "opposite extremes": np.array([[-4.0, 4.0, *([1.0, -3.0, 2.5] * 10)]], np.float32),
        "two groups": np.concatenate((steps[:1] / 7, -steps[1:] / 3), axis=1).astype(np.float32),
        "wide": np.array([[np.float32(10) ** (n - 20) * (-1) ** n for n in range(32)]], np.float32),
    }
    vectors = []
    for name, weight in cases.items():
        found: dict[str, object] = {
            "name": name,
            "inputs": weight.shape[1],
            "weight": weight.astype("<f4").tobytes().hex(),
        }
        for bits, make, back in (("int8", to_int8, from_int8), ("int4", to_int4, from_int4)):
            whole, scales = make(weight)
            digest = hashlib.sha256(back(whole, scales).astype("<f4").tobytes()).hexdigest()
            found[bits] = {
                "numbers": whole.tobytes().hex(),
                "scales": scales.astype("<f4").tobytes().hex(),
                "weight_sha256": digest,
            }
        vectors.append(found)
    FILE.write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
