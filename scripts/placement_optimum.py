"""The best placements of 25 small markets by integer programming (HiGHS), for tests to hold the plan against.

    pip install scipy
    python scripts/placement_optimum.py tests/vectors/placement.json

Each market has 16 blocks and 10 nodes that hold 2 to 8 of them; what is maximised is what the scarcest block is served
with. Takes minutes. The package itself does not need scipy.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

CASES, BLOCKS, NODES = 25, 16, 10
LIMIT_S = 300
"""For one market; what is not proven by then is said to be so."""


def market(seed: int) -> list[dict[str, Any]]:
    """Nodes with as many blocks as they hold, and what they serve through them, in thousandths of a token a second."""
    draw = random.Random(seed)
    nodes = []
    for number in range(NODES):
        length, block_tokens = draw.randint(2, 8), draw.randint(1_000, 10_000)
        nodes.append(
            {"node": f"{seed:02x}{number:02x}{'00' * 31}", "length": length, "rate": 1000 * block_tokens // length}
        )
    return nodes


def optimum(nodes: list[dict[str, Any]]) -> tuple[int, bool]:
    """The most that the scarcest block can have, and whether that is proven."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    windows = [(at, start) for at, node in enumerate(nodes) for start in range(BLOCKS - node["length"] + 1)]
    chosen, covered = np.zeros((NODES, len(windows) + 1)), np.zeros((BLOCKS, len(windows) + 1))
    for column, (at, start) in enumerate(windows):
        chosen[at, column] = 1
        covered[start : start + nodes[at]["length"], column] = nodes[at]["rate"]
    covered[:, -1] = -1
    least = np.zeros(len(windows) + 1)
    least[-1] = -1
    found = milp(
        least,
        constraints=[LinearConstraint(chosen, 1, 1), LinearConstraint(covered, 0, np.inf)],
        integrality=[1] * len(windows) + [0],
        bounds=Bounds(0, [1] * len(windows) + [np.inf]),
        options={"time_limit": LIMIT_S, "mip_rel_gap": 0},
    )
    return round(-found.fun), found.status == 0


def main() -> None:
    cases = []
    for seed in range(CASES):
        nodes = market(seed)
        best, proven = optimum(nodes)
        print(f"{seed}: {best}{'' if proven else ' (not proven)'}", file=sys.stderr)
        cases.append({"nodes": nodes, "optimum": best, "proven": proven})
    Path(sys.argv[1]).write_text(json.dumps({"blocks": BLOCKS, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
