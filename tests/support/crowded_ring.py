"""A ring of legs that share cores, in integers and on no clock: who waits for whom, and how many tokens come of it.

A pass takes a core's time for itself and a little for each answer in it; where more passes run than there are cores,
all of them are slower alike.
"""

from __future__ import annotations

import heapq

from node.pipeline.serving.gathering import Gathering

PASS_US, ROW_US, HOP_US = 1_000, 60, 50


def tokens_a_second(legs: int, cores: int, streams: int, *, gathers: bool, us: int = 1_000_000) -> float:
    """Of so many answers that began one after the other."""
    now, done, step, hold_until = 0.0, 0, float(PASS_US), float("inf")
    coming = [(700.0 * stream, 0, stream) for stream in range(streams)]
    waiting: list[list[int]] = [[] for _ in range(legs)]
    running: dict[int, tuple[float, float, list[int]]] = {}
    """By leg: what is left of its pass in core microseconds, when it began, and whose it is."""
    gathering = Gathering()
    while now < us:
        for leg in [each for each in range(legs) if waiting[each] and each not in running]:
            if leg == 0 and gathers:
                hold = gathering.hold_us(round(now), ready=len(waiting[0]), live=streams, pass_us=round(step))
                hold_until = now + hold if hold else float("inf")
                if hold:
                    continue
            running[leg] = PASS_US + ROW_US * len(waiting[leg]), now, waiting[leg]
            waiting[leg] = []
        speed = min(1.0, cores / max(1, len(running)))
        ends = [left / speed for left, _, _ in running.values()]
        passed = max(0.0, min([*ends, *(at - now for at, _, _ in coming[:1]), hold_until - now]))
        now += passed
        running = {leg: (left - passed * speed, began, whose) for leg, (left, began, whose) in running.items()}
        for leg in [leg for leg, (left, _, _) in running.items() if left < 1e-3]:
            _, began, whose = running.pop(leg)
            if leg == 0:
                gathering.passed(round(now - began), round(now - began - PASS_US - ROW_US * len(whose)))
                step += (now - began - step) / 8
            done += len(whose) if leg == legs - 1 else 0
            for stream in whose:
                heapq.heappush(coming, (now + HOP_US, (leg + 1) % legs, stream))
        while coming and coming[0][0] <= now + 1e-6:
            _, leg, stream = heapq.heappop(coming)
            waiting[leg].append(stream)
    return done * 1e6 / now
