"""What one engine does: tokens a second for one session and for many, a prompt, and what it costs to have it at all.

Sides take turns: many sessions in one pass against one after the other, and, where another checkout is named, both
engines. Processor time of one thread, random weights, the same model in each precision.

    python scripts/bench_engine.py
    python scripts/bench_engine.py --stored bf16        # weights as checkpoints are published: held in sixteen bits
    python scripts/bench_engine.py --against ../another-checkout --precisions fp32 --json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from measured_market import LARGE, ROOT, Ask, asked, make_model
from safetensors.torch import load_file, save_file

ENGINE = Path(__file__).resolve().parent / "measured_engine.py"
DECODED = ((1, 256), (4, 256), (8, 256), (16, 256), (32, 256), (16, 1024), (32, 1024))
"""Sessions, and positions that each has."""
PACKED = ((16, 256), (32, 256), (16, 1024), (32, 1024))
STEPS = 6
Row = dict[str, Any]


def row(name: str, ours: float, other: float | None, unit: str) -> Row:
    return {"row": name, "ours": ours, "other": other, "unit": unit, "ratio": None if other is None else ours / other}


def against(name: str, asks: list[Ask], unit: str, part: str = "rate", scale: float = 1.0, **wanted: Any) -> Row:
    """The same of each engine; the other one where there are two."""
    found = [ask(**wanted)[part] * scale for ask in asks]
    return row(name, found[0], found[1] if len(found) > 1 else None, unit)


def rows(model: Path, precision: str, checkouts: list[Path]) -> Iterator[Row]:
    with ExitStack() as stack:
        command = (sys.executable, str(ENGINE), str(model), str(LARGE.layers), precision)
        asks = [stack.enter_context(asked(each, *command)) for each in checkouts]
        for streams, context in DECODED:
            name = f"{precision}, {streams} at {context}"
            wanted = {"streams": streams, "context": context, "steps": STEPS, "together": True}
            yield against(name, asks, "tokens/s", kind="decode", **wanted)
        for streams, context in PACKED:
            both = [
                asks[0](kind="decode", streams=streams, context=context, steps=3, together=t) for t in (True, False)
            ]
            yield row(f"{precision}, packed, {streams} at {context}", both[0]["rate"], both[1]["rate"], "tokens/s")
        yield against(f"{precision}, prompt of 1,000", asks, "tokens/s", kind="prefill", tokens=1000)
        yield against(f"{precision}, imports", asks, "s", "imported_s", kind="start")
        yield against(f"{precision}, load", asks, "s", "load_s", kind="start")
        yield against(f"{precision}, memory beyond weights", asks, "MB", "beyond", 1e-6, kind="start")


def shown(each: Row) -> str:
    other = "" if each["other"] is None else f"{each['other']:>10.2f}{each['ratio']:>8.2f}"
    return f"{each['row']:<36}{each['ours']:>10.2f}{other}  {each['unit']}"


def narrow(folder: Path) -> None:
    """The model's weights in bf16."""
    for path in folder.glob("*.safetensors"):
        tensors = {name: tensor.bfloat16() for name, tensor in load_file(path).items()}
        save_file(tensors, path, {"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description="What one engine does.")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--stored", choices=["fp32", "bf16"], default="fp32", help="how the weights lie on the disk")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--json", action="store_true", help="a JSON object a row")
    arguments = parser.parse_args()
    checkouts = [ROOT, *([arguments.against.resolve()] if arguments.against else [])]
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), LARGE)
        if arguments.stored == "bf16":
            narrow(Path(folder))
        for precision in arguments.precisions.split(","):
            for each in rows(Path(folder), precision, checkouts):
                print(json.dumps(each) if arguments.json else shown(each), flush=True)


if __name__ == "__main__":
    main()
