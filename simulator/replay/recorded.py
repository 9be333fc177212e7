"""A trace on a run's timeline: arrivals for events, and for `fidelity = "replay"` who served what for how much."""

from __future__ import annotations

import numpy as np

from simulator.clearing import Trades
from simulator.draws import draws_for
from simulator.exact import Ints
from simulator.replay.trace import Trace
from simulator.timeline import Timeline

__all__ = ["Arrival", "Recorded"]

Arrival = tuple[int, tuple[int, int]]
"""Microseconds into its epoch; prompt and generated tokens."""


class Recorded:
    """What a run's trace says, in the run's own indices."""

    def __init__(self, trace: Trace, timeline: Timeline, classes: tuple[str, ...], sites: list[str], seed: int) -> None:
        self._trace, self._shape = trace, (len(classes), timeline.epochs)
        place = {name: at for at, name in enumerate(sites)}
        of_class = {name: at for at, name in enumerate(classes)}
        self._class = np.array([of_class.get(name, -1) for name in trace.classes], dtype=np.int64)[trace.of_class]
        self._site = np.array([place.get(f"site/{name}/00000", -1) for name in trace.sites], dtype=np.int64)
        self._epoch, self._within = trace.at_us // timeline.epoch_us, trace.at_us % timeline.epoch_us
        self._lots = {c: draws_for(seed, "trace", name) for c, name in enumerate(classes)}
        self._sessions: dict[tuple[int, int], list[int]] = {}
        for at, key in enumerate(zip(self._class.tolist(), self._epoch.tolist(), strict=True)):
            self._sessions.setdefault(key, []).append(at)

    def names(self, of_class: int) -> bool:
        """Whether a class's requests come from the trace."""
        return of_class in self._class

    def arrivals(self, of_class: int, epoch: int, count: int) -> list[Arrival]:
        """So many requests of one class and epoch: those of the trace, or as many drawn from them."""
        known = self._sessions.get((of_class, epoch), [])
        if known and count != len(known):
            known = [known[int(each)] for each in self._lots[of_class].integers(0, len(known), count)]
        trace = self._trace
        return [(int(self._within[s]), (int(trace.tokens_in[s]), int(trace.tokens_out[s]))) for s in known]

    def day(self, epochs: slice) -> tuple[Ints, Trades]:
        """What was wanted (C, E), who served it, and what that was paid."""
        trace, count = self._trace, epochs.stop - epochs.start
        now = (self._epoch >= epochs.start) & (self._epoch < epochs.stop)
        want = np.zeros((self._shape[0], count), dtype=np.int64)
        np.add.at(want, (self._class[now], self._epoch[now] - epochs.start), 1)
        legs = np.flatnonzero(now[trace.session])
        session = trace.session[legs]
        keys = np.stack(
            [
                self._class[session],
                self._epoch[session] - epochs.start,
                self._site[trace.site[legs]],
                np.minimum(trace.leg[legs], 1),
                trace.used[legs],
                trace.held[legs],
            ]
        )
        unique, which = np.unique(keys, axis=1, return_inverse=True)
        sums = [
            np.ones(len(legs), dtype=np.int64),
            trace.tokens_in[session],
            trace.tokens_out[session],
            trace.paid[legs],
        ]
        totals = []
        for figure in sums:
            total = np.zeros(unique.shape[1], dtype=np.int64)
            np.add.at(total, which.reshape(-1), figure)
            totals.append(total)
        requests, tokens_in, tokens_out, paid = totals
        c, epoch, site, stage, used, held = unique
        return want, Trades(c, epoch, site, requests, stage, used, held, tokens_in, tokens_out, paid)
