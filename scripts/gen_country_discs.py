"""Write protocol/geography/country_discs.py: for each country, discs that together cover its land.

Give it `countries-10m.json` of the npm package world-atlas 2.0.2 (`npm pack world-atlas@2.0.2`): Natural Earth 4.1.0,
which is in the public domain, as TopoJSON. The file is no part of this repository; its SHA-256 is held against
`SOURCE`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from protocol.geography.jurisdictions import COUNTRIES

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "protocol" / "geography" / "country_discs.py"
SOURCE = "3bc6f1d367a9bcec479841bae0e76092f512838411d0cef124e92eec4db45f79"
EARTH_KM = 6371.0088
LARGEST_KM = 1_000.0
"""A country that does not fit in a disc of this radius is covered by several."""
GRID_DEGREES = 0.5
GRID_SLACK_KM = 45
"""No point of a country is further from a point of its grid or border."""
ROUNDED_KM = 5
"""For coordinates in hundredths of a degree, and what a map of 1:10,000,000 leaves out."""

NUMBERS = """
004AF 008AL 010AQ 012DZ 016AS 020AD 024AO 028AG 031AZ 032AR 036AU 040AT 044BS 048BH 050BD 051AM 052BB 056BE 060BM 064BT
068BO 070BA 072BW 076BR 084BZ 086IO 090SB 092VG 096BN 100BG 104MM 108BI 112BY 116KH 120CM 124CA 132CV 136KY 140CF 144LK
148TD 152CL 156CN 158TW 170CO 174KM 178CG 180CD 184CK 188CR 191HR 192CU 196CY 203CZ 204BJ 208DK 212DM 214DO 218EC 222SV
226GQ 231ET 232ER 233EE 234FO 238FK 239GS 242FJ 246FI 248AX 250FR 258PF 260TF 262DJ 266GA 268GE 270GM 275PS 276DE 288GH
292GI 296KI 300GR 304GL 308GD 316GU 320GT 324GN 328GY 332HT 334HM 336VA 340HN 344HK 348HU 352IS 356IN 360ID 364IR 368IQ
372IE 376IL 380IT 384CI 388JM 392JP 398KZ 400JO 404KE 408KP 410KR 414KW 417KG 418LA 422LB 426LS 428LV 430LR 434LY 438LI
440LT 442LU 446MO 450MG 454MW 458MY 462MV 466ML 470MT 478MR 480MU 484MX 492MC 496MN 498MD 499ME 500MS 504MA 508MZ 512OM
516NA 520NR 524NP 528NL 531CW 533AW 534SX 540NC 548VU 554NZ 558NI 562NE 566NG 570NU 574NF 578NO 580MP 581UM 583FM 584MH
585PW 586PK 591PA 598PG 600PY 604PE 608PH 612PN 616PL 620PT 624GW 626TL 630PR 634QA 642RO 643RU 646RW 652BL 654SH 659KN
660AI 662LC 663MF 666PM 670VC 674SM 678ST 682SA 686SN 688RS 690SC 694SL 702SG 703SK 704VN 705SI 706SO 710ZA 716ZW 724ES
728SS 729SD 732EH 740SR 748SZ 752SE 756CH 760SY 762TJ 764TH 768TG 776TO 780TT 784AE 788TN 792TR 795TM 796TC 798TV 800UG
804UA 807MK 818EG 826GB 831GG 832JE 833IM 834TZ 840US 850VI 854BF 858UY 860UZ 862VE 876WF 882WS 887YE 894ZM
"""
"""Numeric and two-letter codes of ISO 3166-1, for what the source names by number."""
NAMED = {
    "Somaliland": "SO",
    "Kosovo": "RS",
    "N. Cyprus": "CY",
    "Cyprus U.N. Buffer Zone": "CY",
    "Dhekelia": "CY",
    "Akrotiri": "CY",
    "USNB Guantanamo Bay": "CU",
    "Baikonur": "KZ",
    "Coral Sea Is.": "AU",
}
"""What the source draws apart, and ISO 3166 does not."""
APART = {
    "BQ": ((12.18, -68.25, 40), (17.55, -63.1, 45)),
    "BV": ((-54.42, 3.36, 15),),
    "CC": ((-12.0, 96.85, 40),),
    "CX": ((-10.49, 105.63, 25),),
    "GF": ((3.95, -53.1, 260),),
    "GP": ((16.2, -61.5, 80),),
    "MQ": ((14.64, -61.0, 50),),
    "RE": ((-21.13, 55.53, 50),),
    "SJ": ((78.6, 18.0, 480), (70.98, -8.5, 50)),
    "TK": ((-9.1, -171.85, 110),),
    "YT": ((-12.83, 45.14, 40),),
    "UA": ((45.3, 34.4, 230),),
}
"""Degrees north and east, and km: what the source draws as a part of another country, by each one's own extent."""

Points = np.ndarray[Any, np.dtype[np.float64]]
Ring = Points
"""Degrees east and north, ``[corners, 2]``; the first corner is the last one, too."""


def rings_of(path: Path) -> dict[str, list[list[Ring]]]:
    """By country, its polygons: each an outline and its holes."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SOURCE:
        raise SystemExit(f"{path} is another file than {SOURCE}: {hashlib.sha256(data).hexdigest()}")
    topology = json.loads(data)
    scale, shift = (np.array(topology["transform"][name]) for name in ("scale", "translate"))
    arcs = [np.cumsum(np.array(arc), axis=0) * scale + shift for arc in topology["arcs"]]
    codes = {each[:3]: each[3:] for each in NUMBERS.split()}
    found: defaultdict[str, list[list[Ring]]] = defaultdict(list)
    for each in topology["objects"]["countries"]["geometries"]:
        code = codes.get(each.get("id", "")) or NAMED.get(each["properties"]["name"])
        if code is not None:
            polygons = [each["arcs"]] if each["type"] == "Polygon" else each["arcs"]
            found[code] += [[_ring(arcs, ring) for ring in polygon] for polygon in polygons]
    return found


def _ring(arcs: list[Points], numbers: list[int]) -> Ring:
    parts = [arcs[each] if each >= 0 else arcs[~each][::-1] for each in numbers]
    return np.concatenate([parts[0], *(part[1:] for part in parts[1:])])


def on_sphere(points: Points) -> Points:
    """Unit vectors of degrees east and north."""
    east, north = np.radians(points).T
    return np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=1)


def land(polygons: list[list[Ring]]) -> Points:
    """Points such that none of the land is further than `GRID_SLACK_KM` from one: borders, and a grid inside."""
    parts = [border for polygon in polygons for ring in polygon for border in _dense(ring)]
    parts += [inside for polygon in polygons for inside in _grid(polygon)]
    return np.concatenate(parts)


def _dense(ring: Ring) -> Iterator[Points]:
    for one, other in itertools.pairwise(ring):
        steps = max(1, int(np.abs(other - one).max() / (GRID_DEGREES / 2)))
        yield one + (other - one) * np.linspace(0, 1, steps, endpoint=False)[:, None]


def _grid(polygon: list[Ring]) -> Iterator[Points]:
    """Grid points inside, row by row: a row crosses the outline and the holes an even number of times."""
    low, high = polygon[0].min(axis=0), polygon[0].max(axis=0)
    for north in np.arange(low[1] + GRID_DEGREES / 2, high[1], GRID_DEGREES):
        crossings: list[float] = []
        for ring in polygon:
            (x0, y0), (x1, y1) = ring[:-1].T, ring[1:].T
            across = (y0 > north) != (y1 > north)
            crossings += list(x0[across] + (north - y0[across]) * (x1 - x0)[across] / (y1 - y0)[across])
        ends = np.sort(crossings)
        for begin, end in zip(ends[::2], ends[1::2], strict=False):
            east = np.arange(begin, end, GRID_DEGREES)
            yield np.stack([east, np.full_like(east, north)], axis=1)


def disc_around(vectors: Points) -> tuple[Points, float]:
    """A small disc over all of these: its centre, and its radius in km (Badoiu and Clarkson's way)."""
    centre = vectors.mean(axis=0)
    centre /= np.linalg.norm(centre)
    for turn in range(2, 400):
        far = vectors[np.argmin(vectors @ centre)]
        centre = centre + (far - centre) / turn
        centre /= np.linalg.norm(centre)
    return centre, EARTH_KM * float(np.arccos(np.clip((vectors @ centre).min(), -1, 1)))


def discs_over(vectors: Points) -> list[tuple[Points, float]]:
    """Discs of at most `LARGEST_KM`: one, or the land halved until each half fits."""
    centre, radius = disc_around(vectors)
    if radius <= LARGEST_KM:
        return [(centre, radius)]
    one = vectors[np.argmin(vectors @ centre)]
    other = vectors[np.argmin(vectors @ one)]
    for _ in range(20):
        nearer = vectors @ one >= vectors @ other
        one, other = vectors[nearer].mean(axis=0), vectors[~nearer].mean(axis=0)
        one, other = one / np.linalg.norm(one), other / np.linalg.norm(other)
    return [*discs_over(vectors[nearer]), *discs_over(vectors[~nearer])]


def cover(polygons: list[list[Ring]]) -> list[str]:
    """Discs over a country, as they stand in the table."""
    corners = on_sphere(np.concatenate([polygon[0] for polygon in polygons]))
    if disc_around(corners)[1] <= LARGEST_KM:  # a disc that covers the corners covers what is between them
        found, slack = discs_over(corners), ROUNDED_KM
    else:
        found, slack = discs_over(on_sphere(land(polygons))), ROUNDED_KM + GRID_SLACK_KM
    written = []
    for centre, radius in found:
        north, east = np.degrees(np.arcsin(centre[2])), np.degrees(np.arctan2(centre[1], centre[0]))
        written.append(f"{north:.2f},{east:.2f},{int(np.ceil(radius)) + slack}")
    return sorted(written)


HEAD = '''"""Where countries are, for whom light is timed: discs that together cover each one's land, and some sea.

Written by scripts/gen_country_discs.py out of Natural Earth 4.1.0, which is in the public domain. For each code of
ISO 3166-1 it has ``NORTH,EAST,RADIUS`` in degrees and km. A country may be smaller than its discs, never larger: they
can show that a machine is not there, not that it is.
"""

from __future__ import annotations

__all__ = ["DISCS"]

_TABLE = """
'''
TAIL = '''
"""


def _read(text: str) -> dict[str, tuple[tuple[float, float, int], ...]]:
    found = {}
    for country in text.replace("\\n", " ").split(";"):
        code, *discs = country.split()
        numbers = (disc.split(",") for disc in discs)
        found[code] = tuple((float(north), float(east), int(km)) for north, east, km in numbers)
    return found


DISCS = _read(_TABLE)
"""By country: degrees north, degrees east, and km of each disc."""
'''


def main() -> None:
    polygons = rings_of(Path(sys.argv[1]))
    table = {code: cover(found) for code, found in polygons.items()}
    for code, discs in APART.items():
        table.setdefault(code, []).extend(f"{north:.2f},{east:.2f},{km}" for north, east, km in discs)
    if table.keys() != COUNTRIES:
        raise SystemExit(f"not a table of all countries: {sorted(table.keys() ^ COUNTRIES)}")
    text = "; ".join(f"{code} {' '.join(table[code])}" for code in sorted(table))
    PAGE.write_text(HEAD + "\n".join(textwrap.wrap(text, 118, break_on_hyphens=False)) + TAIL)
    print(f"{PAGE.name}: {len(table)} countries, {sum(map(len, table.values()))} discs")


if __name__ == "__main__":
    main()
