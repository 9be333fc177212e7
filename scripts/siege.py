"""Attacks on a network of real processes beside honest jobs, each held against targets (`make siege`).

    PYTHONPATH=.:tests/support python -m scripts.siege [--json] [--short] [--list] [NAME ...]

A NAME is an attack's, the beginning of one, or a surface such as ``data``; all of them without any. A row shows how
many of it there were, honest jobs a minute before, during and after it, memory and descriptors of the attacked process
before, at most and after, and which targets were missed. The network is made anew for each surface, and after a row
that missed a target. The exit status is 1 where one did.

The attacker has the lowest priority that there is on the machine, since it would bring its own; how many attacks a
second that came to is said in each row, with what each cost the attacked at most.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path

from siege import surfaces, trial
from siege.attack import ATTACKS, Attack
from siege.field import Field, Shape
from siege.row import LONG, SHORT, Row, Size, measure
from siege.trial import TRIALS, Bench, Broken, CannotBeTried, Trial

from protocol.errors import JoulemeshError

HEAD = f"{'attack':<48}{'count':>7}{'jobs a minute':>20}{'MB':>18}{'files':>16}  verdict"


def chosen(names: Sequence[str]) -> Iterator[Attack]:
    for each in ATTACKS.values():
        if not names or any(each.name.startswith(name) or each.surface.startswith(name) for name in names):
            yield each


def line(row: Row) -> str:
    jobs = f"{row.before:.0f} {row.during:.0f} {row.after:.0f}"
    memory = "{:.0f} {:.0f} {:.0f}".format(*row.rss_mb)
    files = "{} {} {}".format(*row.files)
    verdict = "held" if row.held else "; ".join(row.missed)
    return f"{row.name:<48}{row.count:>7}{jobs:>20}{memory:>18}{files:>16}  {verdict}"


def details(row: Row) -> Iterator[str]:
    if row.tally:
        yield "tally " + ", ".join(f"{name} {count}" for name, count in sorted(row.tally.items()))
    if row.failed:
        yield "failed jobs " + ", ".join(f"{code} {count}" for code, count in row.failed.items())
    if row.newcomers is not None:
        first = [" ".join("none" if run.first_s is None else f"{run.first_s:.1f}" for run in runs)
                 for runs in row.newcomers]  # fmt: skip
        peak = [f"{max((run.peak_mb for run in runs), default=0):.0f}" for runs in row.newcomers]
        cpu, waited = ([" ".join(f"{getattr(run.work, name):.1f}" for run in runs) for runs in row.newcomers]
                       for name in ("cpu_s", "waited_s"))  # fmt: skip
        yield f"newcomers' first token {first[0]} -> {first[1]} s, at most {peak[0]} -> {peak[1]} MB"
        yield f"of that, computing {cpu[0]} -> {cpu[1]} s, and waiting for a processor {waited[0]} -> {waited[1]} s"
    if row.spent_micro and row.seconds:
        yield f"costs the attacker ${row.spent_micro * 3600 / row.seconds / 1e6:.6f} an hour"
    if made := made_in(row):
        each = 1e6 * row.cpu_s / made
        yield f"{made / row.seconds:.0f} a second, at most {each:.0f} us of processor of the attacked for each"
    each_job, waits = (" ".join(f"{value:.2f}" for value in values) for values in zip(*row.work, strict=True))
    yield f"{each_job} s of processors for each job, of all who are honest, who wait {waits} s for one in each second"
    yield f"{row.seconds:.0f} s, {row.cpu_s:.1f} s of processor of the attacked, which serves honest jobs meanwhile"


def made_in(row: Row) -> int:
    """How many of what the attack is made of came about; 0 where it is held up and not counted."""
    tally = row.tally
    done = tally.get("done", 0) + sum(count for name, count in tally.items() if name.startswith("refused_"))
    return done or tally.get("published", 0) or tally.get("stood", 0)


async def besiege(attacks: Sequence[Attack], size: Size, folder: Path, *, as_json: bool) -> list[Row]:
    """One row after another, each printed as it is there."""
    rows: list[Row] = []
    if attacks and not as_json:
        print(HEAD, flush=True)
    async with AsyncExitStack() as stack:
        field, ground = None, None
        for number, attack in enumerate(attacks):
            wanted = (attack.surface, attack.most_files)
            if field is None or ground != wanted or not rows[-1].held:
                await stack.aclose()
                shape = Shape(most_files=attack.most_files)
                field, ground = await stack.enter_async_context(Field.open(folder / str(number), shape)), wanted
            row = await measure(field, attack, size)
            rows.append(row)
            if as_json:
                print(json.dumps({**asdict(row), "held": row.held}), flush=True)
            else:
                print(line(row), *(f"    {each}" for each in details(row)), sep="\n", flush=True)
    return rows


async def try_all(trials: Sequence[Trial], folder: Path, *, as_json: bool) -> list[str]:
    """Each once, on one network; the names of those that broke something, and what."""
    broken = []
    async with AsyncExitStack() as stack:
        field = None
        for each in trials:
            if field is None or field.exits:
                await stack.aclose()
                shape = Shape(spans=("0:6",), own_disks=True)
                field = await stack.enter_async_context(Field.open(folder / f"before-{each.name}", shape))
            own = folder / each.name
            await asyncio.to_thread(own.mkdir)
            said = "held"
            try:
                await each.act(Bench(own, field))
            except CannotBeTried as reason:
                said = f"not tried: {reason}"
            except (Broken, JoulemeshError, TimeoutError) as reason:
                said = f"BROKEN: {reason or type(reason).__name__}"
                broken.append(f"{each.name}: {said}")
            print(
                json.dumps({"name": each.name, "verdict": said}) if as_json else f"{each.name:<48}  {said}", flush=True
            )
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--json", action="store_true", help="a JSON object for each row")
    parser.add_argument("--short", action="store_true", help="as small as in `make test`")
    parser.add_argument("--list", action="store_true", help="name the attacks")
    said = parser.parse_args()
    surfaces.load()
    trial.load()
    trials = [
        each for each in TRIALS.values() if not said.names or any(each.name.startswith(name) for name in said.names)
    ]
    attacks = [each for each in chosen(said.names) if each.short or not said.short]
    if said.list or not (attacks or trials):
        for each in attacks:
            print(f"{each.name:<58}{each.surface:<14}{each.about}")
        for tried in trials:
            print(f"{tried.name:<58}{'trial':<14}{tried.about}")
        return 0 if said.list else 2
    with tempfile.TemporaryDirectory(prefix="joulemesh-siege-") as folder:
        rows = asyncio.run(besiege(attacks, SHORT if said.short else LONG, Path(folder), as_json=said.json))
        broken = asyncio.run(try_all(trials, Path(folder), as_json=said.json))
    missed = [row for row in rows if not row.held]
    if not said.json:
        exits, tracebacks = sum(row.exits for row in rows), sum(row.tracebacks for row in rows)
        held = len(rows) - len(missed) + len(trials) - len(broken)
        print(f"\n{held} of {len(rows) + len(trials)} held; {exits} process exits, {tracebacks} tracebacks")
        for text in (*(f"{row.name}: {'; '.join(row.missed)}" for row in missed), *broken):
            print(f"  {text}")
    return 1 if missed or broken else 0


if __name__ == "__main__":
    sys.exit(main())
