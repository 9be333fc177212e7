"""The long form: ``python -m scripts.fuzzing [TARGET ...]``; see CONTRIBUTING.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from node.durable import replace_file
from scripts.fuzzing.campaign import Tally, campaign, shares
from scripts.fuzzing.registry import keep, registry

STATE = Path("build") / "fuzz" / "state.json"
"""What this checkout has done: a run that was stopped goes on from it."""

_HEAD = ("target", "executions", "a second", "worst ms", "worst MiB", "accepted", "behaviours", "findings")
_FORMAT = "{:<22} {:>10} {:>9} {:>9} {:>10} {:>9} {:>11} {:>9}  {}"


def _load(fresh: bool) -> tuple[dict[str, Tally], set[tuple[str, int, int]]]:
    if fresh or not STATE.exists():
        return {}, set()
    state = json.loads(STATE.read_bytes())
    tallies = {each["target"]: Tally.from_state(each) for each in state["tallies"]}
    return tallies, {(name, number, size) for name, number, size in state["finished"]}


def _save(tallies: dict[str, Tally], finished: set[tuple[str, int, int]]) -> None:
    state = {"tallies": [each.state() for each in tallies.values()], "finished": sorted(finished)}
    replace_file(STATE, json.dumps(state).encode())


def _row(tally: Tally) -> str:
    said = tally.as_json()
    errors = ", ".join(f"{name} {count}" for name, count in tally.errors.most_common())
    cells = (
        said["executions"],
        said["per_second"],
        said["worst_cpu_ms"],
        said["worst_memory_mib"],
        said["accepted"],
    )
    return _FORMAT.format(tally.target, *cells, said["behaviours"], len(tally.findings), errors)


def main() -> int:
    """Exit status 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="make fuzz", description="Fuzz every decoder that reads bytes from outside.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="names, or beginnings of names; all without one")
    parser.add_argument("--executions", type=int, help="of each target; as the registry says without it")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fresh", action="store_true", help="forget what was done before")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--list", action="store_true", help="name the targets and end")
    asked = parser.parse_args()
    names = [name for name in registry() if not asked.targets or name.startswith(tuple(asked.targets))]
    if asked.list or not names:
        print("\n".join(names or registry()))
        return 0 if names else 2
    tallies, finished = _load(asked.fresh)
    work = [share for share in shares(names, asked.executions) if share not in finished]
    STATE.parent.mkdir(parents=True, exist_ok=True)

    def done(tally: Tally, number: int) -> None:
        finished.update(share for share in work if share[:2] == (tally.target, number))
        for finding in tally.findings:
            path = keep(tally.target, finding.data)
            print(f"{tally.target}: {finding.why}\n  kept in {path}", file=sys.stderr, flush=True)
        tallies.setdefault(tally.target, Tally(tally.target)).add(tally)
        _save(tallies, finished)
        print(f"{len(finished)} shares done: {_row(tallies[tally.target])}", file=sys.stderr, flush=True)

    campaign(work, asked.processes, done)
    results = [tallies[name] for name in names if name in tallies]
    if asked.json:
        print(json.dumps([each.as_json() for each in results], indent=1))
    else:
        print(_FORMAT.format(*_HEAD, "errors"), *map(_row, results), sep="\n")
    return 1 if any(each.findings for each in results) else 0


if __name__ == "__main__":
    sys.exit(main())
