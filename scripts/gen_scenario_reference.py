"""Write docs/reference/scenario.md: every key of a scenario file, from its declaration; --check only compares."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
from decimal import Decimal
from pathlib import Path
from typing import Any

from simulator import hardware, plans, tables

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "scenario.md"
GENERATED = "<!-- Written by scripts/gen_scenario_reference.py. -->\n"
TABLES: dict[str, type[Any]] = {
    "[run]": tables.Run,
    "[market]": tables.Market,
    "[entry]": tables.Entry,
    "[region.NAME]": tables.Region,
    "[hardware.NAME]": hardware.Hardware,
    "[site.NAME]": hardware.Site,
    "[demand.NAME]": tables.Demand,
    "[series.NAME]": tables.Series,
    "[[event]]": tables.Event,
    "[agents]": tables.Agents,
    "[token]": tables.Token,
    "[audit]": tables.Audit,
    "[experiment]": plans.Experiment,
    "[pair.NAME]": plans.Pair,
    "[[sweep]]": plans.Sweep,
    "[[check]]": plans.Check,
    "[calibrate.NAME]": plans.Calibrate,
}
INTRODUCTION = """\
A scenario is a TOML file. Beside the tables below it has `version = 2`, `title`, `about` (a question), `base` (the name
of its first run) and `[variant.NAME.TABLE]`: the same run with some keys replaced. Numbers are
decimals: shares of 1, dollars, joules, hours; the program keeps them as integers of the unit that the text names, so
"millionths" of a share are written as 0.1. A key that is not here is an error that names the nearest one. Marks like
(X4) are [equations](../explanation/equations.md).

Version 1 is read, too: `present`, `patience_days`, `join` and `leave` then stand under `[market]`, and
sites come and go by habit.
"""


def docs_of(cls: type[Any]) -> dict[str, str]:
    """The text below each field."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found, last = {}, ""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and last:
            found[last] = " ".join(str(node.value.value).split())
    return found


def in_file(value: Any, scale: int | None) -> str:
    """A number as it is written in a file."""
    return f"{value:,}" if scale is None else f"{(Decimal(value) / scale).normalize():f}"


def row(field: dataclasses.Field[Any], text: str) -> str:
    """One line of a table."""
    about, scale = field.metadata, field.metadata.get("scale")
    default = "needed" if field.default is dataclasses.MISSING else f"`{field.default}`"
    allowed = "text"
    if "bounds" in about:
        low, high = (in_file(each, scale) for each in about["bounds"])
        allowed = f"{low} to {high}" + ("" if scale is None else f", steps of 1/{scale:,}")
        default = f"`{in_file(field.default, scale)}`" if isinstance(field.default, int) else default
    elif about.get("options"):
        allowed = ", ".join(f"`{each}`" for each in about["options"])
    if field.default in ("", ()):
        default = "none"
    return f"| `{field.name}` | {allowed} | {default} | {text} |"


def page() -> str:
    """All tables."""
    parts = [GENERATED, "# Scenario files\n", INTRODUCTION]
    for name, cls in TABLES.items():
        texts = docs_of(cls)
        parts.append(f"## `{name}`\n\n{inspect.cleandoc(cls.__doc__ or '')}\n")
        lines = [row(field, texts.get(field.name, "")) for field in dataclasses.fields(cls)]
        parts.append("\n".join(["| key | in the file | default | what it is |", "|---|---|---|---|", *lines]) + "\n")
    return "\n".join(parts).rstrip() + "\n"


def main() -> int:
    """Write the page, or compare it."""
    text = page()
    if PAGE.exists() and PAGE.read_text() == text:
        return 0
    if sys.argv[1:] == ["--check"]:
        print("docs/reference/scenario.md is out of date; run scripts/gen_scenario_reference.py")
        return 1
    PAGE.write_text(text)
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
