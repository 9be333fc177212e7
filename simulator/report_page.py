"""A folder of results as one HTML page that needs nothing else: figures, claims, pictures, and the scenario itself.

Pictures are inside the page, nothing in it runs, and a browser that reads it asks nobody for anything.
"""

from __future__ import annotations

import base64
import functools
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from simulator.experiments import Outcome, spreads
from simulator.figures import named_unit
from simulator.intervals import Spread
from simulator.picture import draw_courses, draw_figures, load_outcome
from simulator.store import write_whole

__all__ = ["write_page"]

_COURSES = (
    ("price_micro_per_mtok", "What tokens cost"),
    ("clearing_micro_per_mtok", "What one more would have cost"),
    ("use_ppm", "How busy sites were"),
    ("present", "How many sites there were"),
    ("carbon_mg", "Carbon"),
)
_MOST_DOCUMENT = 1 << 20
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.7rem;margin-bottom:.2rem}h2{font-size:1.2rem;margin-top:2.2rem}
table{border-collapse:collapse;font-size:.88rem}th,td{text-align:left;padding:.25rem .8rem .25rem 0;vertical-align:top}
th{border-bottom:1px solid #999}td{border-bottom:1px solid #eee}
td.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.unit{white-space:nowrap}.range{color:#555}img{max-width:100%}.no{color:#a40000;font-weight:600}
pre{background:#f6f6f6;padding:1rem;overflow:auto;font-size:.82rem}.wide{overflow-x:auto}figure{margin:1rem 0}
"""


def write_page(folder: Path, path: Path, headline: Sequence[str]) -> None:
    """Write the page of an experiment.

    Args:
        headline: figures that come first, where there are such.

    Raises:
        LocalError: the page cannot be written.
    """
    manifest, outcome = load_outcome(folder)
    title, confidence = str(manifest.get("title", folder.name)), float(manifest.get("confidence", 0.95))
    runs = list(dict.fromkeys(each.name for each in outcome.done))
    found = {run: spreads(outcome, run, confidence) for run in runs}
    names = list(dict.fromkeys(figure for each in found.values() for figure in each))
    first = [each for each in headline if each in names]
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(str(manifest.get('about', '')))}</p>",
        _facts(manifest, outcome, confidence),
        _claims(manifest.get("checks")),
        _errors(manifest.get("errors")),
        _pairs(manifest.get("pairs")),
        _section("Figures", _table(first, found)),
        *_pictures(folder, title, outcome, first, confidence),
        _folded("All figures", _table(names, found)),
        _folded("The scenario", _document(folder)),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    write_whole(path, page.encode())


def _facts(manifest: Mapping[str, Any], outcome: Outcome, confidence: float) -> str:
    seeds = sorted({each.seed for each in outcome.done})
    versions = manifest.get("versions", {})
    rows = [
        ("seeds", f"{len(seeds)}, from {seeds[0]}" if seeds else "none"),
        ("intervals", f"of the mean, {confidence:.0%}; in brackets 5 to 95 % of single runs"),
        ("scenario", str(manifest.get("scenario_hash", ""))),
        ("program", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    if not manifest.get("complete"):
        rows.append(("state", "not complete: the experiment was interrupted, or goes on"))
    lines = "".join(f"<tr><td>{escape(name)}</td><td>{escape(said)}</td></tr>" for name, said in rows)
    reasons = [f"{each['name']}, seed {each['seed']}: {each['reason']}" for each in manifest.get("failed", ())]
    failed = "".join(f"<li class=no>{escape(each)}</li>" for each in reasons)
    return f"<table>{lines}</table>" + (f"<h2>Runs that failed</h2><ul>{failed}</ul>" if failed else "")


def _claims(checks: Any) -> str:
    if not checks:
        return ""
    lines = []
    for each in checks:
        word = "holds" if each["sure"] else "holds for the mean, not for all of its interval"
        word = word if each["holds"] else "<span class=no>does not hold</span>"
        lines.append(f"<tr><td>{escape(str(each['claim']))}</td>{_cell(Spread(**each['spread']))}<td>{word}</td></tr>")
    return _section("Claims", _lines(("claim", "found", ""), lines))


def _errors(errors: Any) -> str:
    """Of the engines against what happened."""
    if not errors:
        return ""
    heads = ("engine", "seed", "revenue off by", "revenue at other sites", "worst site", "use off by", "served")
    lines = []
    for each in errors:
        numbers = [f"{each['revenue']:+.2%}", f"{each['moved']:.2%}", f"{each['worst_revenue']:+.2%}"]
        numbers += [f"{each['use']:.2%}", f"{each['served']:.2%}"]
        cells = "".join(f"<td class=number>{number}</td>" for number in numbers)
        lines.append(f"<tr><td>{escape(each['fidelity'])}</td><td class=number>{int(each['seed'])}</td>{cells}</tr>")
    return _section("Against what happened", _lines(heads, lines))


def _pairs(pairs: Any) -> str:
    if not pairs:
        return ""
    found = {name: {figure: Spread(**each) for figure, each in all_.items()} for name, all_ in pairs.items()}
    names = list(dict.fromkeys(figure for each in found.values() for figure in each))
    return _section("Differences, seed by seed", _table(names, found))


def _table(names: Iterable[str], found: Mapping[str, Mapping[str, Spread]]) -> str:
    lines = []
    for name in names:
        cells = "".join(_cell(each[name]) if name in each else "<td></td>" for each in found.values())
        lines.append(f"<tr><td>{escape(name)}</td><td class=unit>{escape(named_unit(name))}</td>{cells}</tr>")
    return _lines(("figure", "unit", *found), lines)


def _lines(heads: Sequence[str], lines: Iterable[str]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    return f"<div class=wide><table><tr>{head}</tr>{''.join(lines)}</table></div>"


def _cell(spread: Spread) -> str:
    low, high = (None if each is None or not math.isfinite(each) else each for each in (spread.low, spread.high))
    interval = "" if low is None or high is None else f" [{low:.4g}, {high:.4g}]"
    return (
        f"<td class=number>{spread.mean:.4g}{interval}<br>"
        f"<span class=range>({spread.p5:.4g} to {spread.p95:.4g})</span></td>"
    )


def _pictures(folder: Path, title: str, outcome: Outcome, figures: Sequence[str], confidence: float) -> Iterable[str]:
    if figures:
        picture = _drawn(lambda path: draw_figures(path, title, outcome, figures, confidence))
        yield _section("By run", _image(picture, "Each figure of each run with its interval"))
    known = _kept_metrics(folder, outcome)
    courses = [(metric, what) for metric, what in _COURSES if metric in known]
    for metric, what in courses:
        picture = _drawn(functools.partial(_draw_course, title, folder, metric))
        yield _section(what, _image(picture, f"{metric} of the market by day"))


def _draw_course(title: str, folder: Path, metric: str, path: Path) -> None:
    draw_courses(path, title, folder, "market", metric)


def _drawn(draw: Callable[[Path], None]) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "picture.svg"
        draw(path)
        return path.read_bytes()


def _image(svg: bytes, alt: str) -> str:
    data = base64.b64encode(svg).decode()
    return f'<figure><img alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}"></figure>'


def _kept_metrics(folder: Path, outcome: Outcome) -> set[str]:
    """Metrics of the market over time, where the runs' rows were kept."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from simulator.store import Store

    if not outcome.done:
        return set()
    table = pq.read_table(Store(folder).path(outcome.done[0].name, outcome.done[0].seed))
    if "entity" not in table.column_names:
        return set()
    return set(table.filter(pc.field("entity") == "market").column("metric").unique().to_pylist())


def _document(folder: Path) -> str:
    path = folder / "scenario.toml"
    text = path.read_text(errors="replace")[:_MOST_DOCUMENT] if path.is_file() else ""
    return f"<pre>{escape(text)}</pre>" if text else ""


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>{body}" if body else ""


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{body}</details>" if body else ""
