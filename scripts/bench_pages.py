"""How many jobs a node's attention cache holds at once: pages by and by against room for whole plans, in one run.

The page book and the rules of who has pages are the node's own; jobs are integers. A job comes as soon as one is taken;
all allow as many tokens and stop by themselves, evenly between 15 and 35 percent of them. Each step every job that has
pages goes on by one position.

    python scripts/bench_pages.py [--most 512] [--prompt 64] [--kv-tokens 16384] [--overcommit 300] [--json]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any, cast

from node.engine.kv import KvBook
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.pages import Pages, room_of, set_aside
from node.pipeline.serving.rows import Share
from protocol.errors import RefusedError
from protocol.policy.policy import LatencyClass
from protocol.session.job import JobState

TARGET = 3.0
STEPS = 4_000


@dataclass
class Job:
    """What the rules ask of one."""

    session: bytes
    plan: Any
    order: Any
    stops: int
    """Positions that it comes to."""
    at: int
    terms: Any = field(default_factory=lambda: SimpleNamespace(policy=SimpleNamespace(latency_class=LatencyClass.CHAT)))
    kv: Share = field(default_factory=Share)
    state: JobState = JobState.SERVING

    def advance(self, _event: object) -> None:
        self.state = JobState.PAUSED


class Node:
    """One cache and the jobs in it."""

    def __init__(self, kv_tokens: int, overcommit: int, prompt: int, most: int) -> None:
        self.book, self.pages, self.chance = KvBook(kv_tokens), Pages(overcommit), Random(1)
        self.plan = SimpleNamespace(prompt=prompt, most=most)
        self.jobs: list[Job] = []
        self.taken = self.asides = 0

    def step(self) -> None:
        """Take what there is room for, then let everybody go on."""
        while self._take():
            pass
        for job in sorted(self.jobs, key=lambda each: each.order.session.expiry):
            if job.kv.gone:
                if self.book.free >= room_of(cast("LegJob", job)):
                    job.kv.gone, job.kv.aside, job.state = False, False, JobState.SERVING
                continue
            if job.at >= job.kv.paged and not self._grow(job):
                continue
            job.at += 1
            if job.at >= job.stops:
                self.jobs.remove(job)
                self.pages.end(cast("LegJob", job))
                self.book.release(job.session)

    def _take(self) -> bool:
        plan, number = self.plan, self.taken
        stops = plan.prompt + round(plan.most * self.chance.uniform(0.15, 0.35))
        order = SimpleNamespace(session=SimpleNamespace(expiry=number))
        job = Job(number.to_bytes(4, "big"), plan, order, stops, plan.prompt)
        as_leg = cast("LegJob", job)
        free = min(self.book.free, self.pages.left(self.book.capacity))
        if self.pages.pressed or room_of(as_leg) > free:
            return False
        first = self.pages.first_of(as_leg)
        self.book.reserve(job.session, room_of(as_leg), first)
        self.pages.begin(as_leg, first)
        self.jobs.append(job)
        self.taken += 1
        return True

    def _grow(self, job: Job) -> bool:
        part = self.pages.part(cast("LegJob", job), job.at + 1)
        while True:
            try:
                self.book.grow(job.session, part)
            except RefusedError:
                last = self.pages.last_after(cast("LegJob", job))
                if last is None:
                    return False
                set_aside(last)
                self.book.empty(last.session)
                self.asides += 1
            else:
                job.kv.paged = part
                return True


def held(node: Node) -> float:
    """Jobs at once, on average, once it is full."""
    counts = []
    for step in range(STEPS):
        node.step()
        if step >= STEPS // 4:
            counts.append(sum(not job.kv.gone for job in node.jobs))
    return sum(counts) / len(counts)


def main() -> None:
    """Print both sides and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("most", 512), ("prompt", 64), ("kv-tokens", 16_384), ("overcommit", 300)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    whole, parts = (Node(given.kv_tokens, each, given.prompt, given.most) for each in (100, given.overcommit))
    before, now = held(whole), held(parts)
    found = {
        "whole": round(before, 1),
        "by and by": round(now, 1),
        "ratio": round(now / before, 2),
        "target": TARGET,
        "set aside, of a thousand": round(1000 * parts.asides / max(1, parts.taken), 1),
    }
    print(json.dumps(found) if given.json else "  ".join(f"{name}: {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
