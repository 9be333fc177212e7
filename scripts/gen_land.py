"""Write node/page/assets/land.svg: the outline of all land, for the map of the live page.

Give it `land-110m.json` of the npm package world-atlas 2.0.2 (`npm pack world-atlas@2.0.2`): Natural Earth 4.1.0, which
is in the public domain, as TopoJSON. Points are rounded to half a degree: a map as wide as a page shows no more.

    python scripts/gen_land.py land-110m.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parents[1] / "node" / "page" / "assets" / "land.svg"
GRAIN = 2
"""Steps in a degree."""
Point = tuple[int, int]


def arcs(topology: Any) -> list[list[Point]]:
    """Each arc's points, in steps from the left and the top of a map."""
    (scale_x, scale_y), (left, bottom) = topology["transform"]["scale"], topology["transform"]["translate"]
    found = []
    for arc in topology["arcs"]:
        xs, ys = (accumulate(each) for each in zip(*arc, strict=True))
        found.append(
            [
                (round((x * scale_x + left + 180) * GRAIN), round((90 - (y * scale_y + bottom)) * GRAIN))
                for x, y in zip(xs, ys, strict=True)
            ]
        )
    return found


def rings(topology: Any) -> Iterator[list[Point]]:
    """The outlines of all polygons, without points that say nothing, and cut where they go around the map's back."""
    lines = arcs(topology)
    for polygon in (each for shape in topology["objects"]["land"]["geometries"] for each in shape["arcs"]):
        for ring in polygon:
            points = [point for index in ring for point in (lines[index] if index >= 0 else lines[~index][::-1])]
            kept = [point for point, before in zip(points, [None, *points], strict=False) if point != before]
            yield from (piece for piece in pieces(kept) if len(piece) > 3)


def pieces(ring: list[Point]) -> Iterator[list[Point]]:
    """A ring, or its parts on either side of the 180th meridian."""
    jumps = [at for at in range(1, len(ring)) if abs(ring[at][0] - ring[at - 1][0]) > 180 * GRAIN]
    if not jumps:
        yield ring
        return
    for start, end in pairwise(jumps):
        yield ring[start:end]
    yield ring[jumps[-1] :] + ring[: jumps[0]]


def main() -> None:
    topology = json.loads(Path(sys.argv[1]).read_text())
    path = "".join("M" + "L".join(f"{x} {y}" for x, y in ring) + "Z" for ring in rings(topology))
    size = f"0 0 {360 * GRAIN} {180 * GRAIN}"
    OUT.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}"><path fill="#d5dade" d="{path}"/></svg>\n'
    )
    print(f"wrote {OUT.name}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
