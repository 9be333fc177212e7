"""A run's figures as rows: one for each, by entity, metric and time; and the hash of all of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator

import numpy as np

from simulator.exact import Ints
from simulator.metrics import Records

__all__ = ["Tidy", "tidy"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tidy:
    """One row for each figure, as columns; `entity` and `metric` index into their names."""

    entities: tuple[str, ...]
    metrics: tuple[str, ...]
    t: Ints
    """Minutes since hour 0; totals over a run have its end."""
    entity: Ints
    metric: Ints
    value: Ints

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of all names and values."""
        outcome = hashlib.sha256(json.dumps([self.entities, self.metrics]).encode())
        for column in (self.t, self.entity, self.metric, self.value):
            outcome.update(np.ascontiguousarray(column, dtype="<i8").tobytes())
        return outcome.hexdigest()


def tidy(records: Records) -> Tidy:
    """All figures of a run: by entity and metric in order of their names, then by time."""
    series = list(_series(records))
    entities = tuple(dict.fromkeys(entity for entity, *_ in series))
    metrics = tuple(dict.fromkeys(metric for _, metric, *_ in series))
    lengths = np.array([len(values) for *_, values in series])
    index = {name: i for i, name in enumerate(entities)}, {name: i for i, name in enumerate(metrics)}
    return Tidy(
        entities=entities,
        metrics=metrics,
        t=np.concatenate([first + step * np.arange(len(values)) for _, _, first, step, values in series]),
        entity=np.repeat([index[0][entity] for entity, *_ in series], lengths),
        metric=np.repeat([index[1][metric] for _, metric, *_ in series], lengths),
        value=np.concatenate([values for *_, values in series]),
    )


def _series(records: Records) -> Iterator[tuple[str, str, int, int, Ints]]:
    """(entity, metric, first minute, minutes between, values) of every series of a run."""
    step = records.epoch_minutes
    for metric, values in records.market.items():
        yield "market", metric, 0, step, values
    for metric, values in records.days.items():
        yield "market", metric, 0, 1440, values
    tables = (("region", records.region_names, records.regions), ("demand", records.class_names, records.classes))
    for kind, names, figures in tables:
        for i, name in enumerate(names):
            for metric, by_epoch in figures.items():
                yield f"{kind}/{name}", metric, 0, step, by_epoch[:, i]
    end = len(records.market["tokens"]) * step
    for i, name in enumerate(records.population.names()):
        for metric, totals in records.sites.items():
            yield name, metric, end, 0, totals[i : i + 1]
