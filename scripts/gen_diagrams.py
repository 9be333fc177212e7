"""Write docs/reference/job-states.md from the table of job states; --check only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from protocol.session.job import TRANSITIONS, JobEvent, JobState

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "job-states.md"
MEANING = {
    JobState.ACCEPTED: "the leg has signed that it will serve, and holds the first voucher",
    JobState.SERVING: "the client is attached: prompt and tokens flow, each window paid by voucher",
    JobState.PAUSED: "a neighbour is gone: nothing is computed until the client says how it goes on",
    JobState.FINISHED: "no more tokens; the last receipts and the last voucher are due",
    JobState.DISCHARGED: "the leg has signed that it claims nothing more",
    JobState.FAILED: "ended before its answer was complete; what was served is still settled",
}


def page() -> str:
    """Meaning of the states, and what each event makes of them."""
    events = [event for event in JobEvent if event is not JobEvent.FAIL]
    lines = [
        "<!-- Written by scripts/gen_diagrams.py from protocol/session/job.py. -->",
        "",
        "# Job states",
        "",
        "A leg enters at `accepted`. An empty cell is an error. `fail` leads to `failed` from every state but",
        "`discharged`, and `failed` absorbs everything.",
        "",
        "| state | " + " | ".join(f"`{event}`" for event in events) + " | meaning |",
        "|---" * (len(events) + 2) + "|",
    ]
    for state in JobState:
        following = [TRANSITIONS.get((state, event)) for event in events]
        cells = ["" if each is None else f"`{each}`" for each in following]
        lines.append(f"| `{state}` | " + " | ".join(cells) + f" | {MEANING[state]} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    if PAGE.exists() and PAGE.read_text() == page():
        return 0
    if check:
        print("docs/reference/job-states.md is out of date; run scripts/gen_diagrams.py")
        return 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
