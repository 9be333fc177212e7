"""Writes a scenario's results: tidy Parquet, a manifest and a picture, all or nothing.

Everything goes to a hidden folder beside the target first, which takes the target's name when it is complete; an
interruption before that leaves the target as it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from protocol.errors import ConfigurationError, LocalError
from simulator.exact import Ints
from simulator.metrics import Records
from simulator.scenario import Scenario

__all__ = [
    "MANIFEST",
    "Tidy",
    "check_extra",
    "check_target",
    "complete_folder",
    "tidy",
    "write_manifest",
    "write_tables",
]

MANIFEST = "manifest.json"
_MANIFEST_VERSION = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tidy:
    """One row for each figure, as columns; `entity` and `metric` index into their names."""

    entities: tuple[str, ...]
    metrics: tuple[str, ...]
    runs: tuple[str, ...]
    run: Ints
    t: Ints
    """Hours since the start; totals over a run have its last hour plus one."""
    entity: Ints
    metric: Ints
    value: Ints

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of all names and values."""
        names = json.dumps([self.runs, self.entities, self.metrics]).encode()
        outcome = hashlib.sha256(names)
        for column in (self.run, self.t, self.entity, self.metric, self.value):
            outcome.update(np.ascontiguousarray(column, dtype="<i8").tobytes())
        return outcome.hexdigest()


def check_extra() -> None:
    """Raise `ConfigurationError` unless what writes Parquet and draws pictures is installed."""
    missing = [name for name in ("pyarrow", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"{' and '.join(missing)} not installed",
            code="missing-extra",
            hint="in the checkout: pip install --editable '.[sim]'",
        )


def check_target(target: Path, *, force: bool) -> None:
    """Raise `ConfigurationError` if results may not be put at `target`: only older results are ever replaced."""
    if not target.exists():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / MANIFEST).is_file()):
        raise ConfigurationError(f"{target} exists and holds something else than results", hint="choose another --out")
    if not force:
        raise ConfigurationError(f"{target} exists", hint="choose another --out, or replace it with --force")


@contextmanager
def complete_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """A folder to write into, which becomes `target` if the block ends well and vanishes if it does not."""
    partial = replaced = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        yield partial
        check_target(target, force=force)
        partial.chmod(0o777 & ~_umask())
        if target.exists():
            replaced = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            target.replace(replaced)
        partial.replace(target)
    except OSError as error:
        raise LocalError(f"cannot write {target}: {error.strerror}", hint="choose another --out") from error
    finally:
        if replaced is not None and not target.exists():
            replaced.replace(target)
        for leftover in (partial, replaced):
            if leftover is not None and leftover.exists():
                shutil.rmtree(leftover, ignore_errors=True)


def tidy(outcomes: dict[str, Records]) -> Tidy:
    """All runs' figures as rows: by run, entity and metric, each kind of name in order, then by hour.

    The order of the tables in a file is not in them: one outcome has one digest.
    """
    outcomes = dict(sorted(outcomes.items()))
    series = [
        (run, t, entity, metric, values)
        for run, records in enumerate(outcomes.values())
        for t, entity, metric, values in _series(records)
    ]
    entities = tuple(dict.fromkeys(entity for _, _, entity, _, _ in series))
    metrics = tuple(dict.fromkeys(metric for _, _, _, metric, _ in series))
    lengths = np.array([len(values) for *_, values in series])
    index = {name: i for i, name in enumerate(entities)}, {name: i for i, name in enumerate(metrics)}
    return Tidy(
        entities=entities,
        metrics=metrics,
        runs=tuple(outcomes),
        run=np.repeat([run for run, *_ in series], lengths),
        t=np.concatenate([np.arange(t, t + len(values)) for _, t, _, _, values in series]),
        entity=np.repeat([index[0][entity] for _, _, entity, _, _ in series], lengths),
        metric=np.repeat([index[1][metric] for _, _, _, metric, _ in series], lengths),
        value=np.concatenate([values for *_, values in series]),
    )


def write_tables(folder: Path, rows: Tidy, scenario: Scenario, outcomes: dict[str, Records]) -> None:
    """metrics.parquet (tidy rows) and providers.parquet (what each provider is)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def words(index: Ints, names: tuple[str, ...]) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), pa.array(names, pa.string()))

    metrics = pa.table(
        {
            "run_id": words(rows.run, rows.runs),
            "seed": pa.array(np.full(len(rows.value), scenario.seed, np.int64)),
            "t": pa.array(rows.t.astype(np.int32)),
            "entity": words(rows.entity, rows.entities),
            "metric": words(rows.metric, rows.metrics),
            "value": pa.array(rows.value),
        }
    )
    pq.write_table(metrics, folder / "metrics.parquet", compression="zstd")
    providers = pa.concat_tables(
        pa.table(
            {
                "run_id": pa.array([name] * len(records.population), pa.string()),
                "entity": pa.array(_provider_names(records), pa.string()),
                "region": words(records.population.region, records.region_names).cast(pa.string()),
                "hardware": words(records.population.hardware, records.hardware_names).cast(pa.string()),
                **{
                    unit_name: pa.array(getattr(records.population, field))
                    for field, unit_name in _PROVIDER_COLUMNS.items()
                },
            }
        )
        for name, records in outcomes.items()
    )
    pq.write_table(providers, folder / "providers.parquet", compression="zstd")


def write_manifest(folder: Path, scenario: Scenario, figures: dict[str, Any]) -> None:
    """manifest.json: what was run with what, `figures`, and the hash of every file already in the folder."""
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "pyarrow", "matplotlib")}
    manifest = {
        "manifest": _MANIFEST_VERSION,
        "scenario": dataclasses.asdict(scenario),
        "versions": {"joulemesh": _own_version(), "python": platform.python_version(), **versions},
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())},
        **figures,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


_PROVIDER_COLUMNS = {
    "units": "units",
    "pue": "pue_milli",
    "joules_in": "mj_per_token_in",
    "joules_out": "mj_per_token_out",
    "tokens_in_per_s": "tokens_in_per_s",
    "tokens_out_per_s": "tokens_out_per_s",
    "idle_watts": "idle_watts",
    "hourly_cost": "hourly_cost_micro",
}


def _series(records: Records) -> Iterator[tuple[int, str, str, Ints]]:
    """(first hour, entity, metric, values) of every series of a run."""
    for metric, values in records.market.items():
        yield 0, "market", metric, values
    tables = (("region", records.region_names, records.regions), ("demand", records.class_names, records.classes))
    for kind, names, figures in tables:
        for i, name in enumerate(names):
            for metric, hourly in figures.items():
                yield 0, f"{kind}/{name}", metric, hourly[:, i]
    end = len(records.market["tokens"])
    for i, name in enumerate(_provider_names(records)):
        for metric, totals in records.providers.items():
            yield end, name, metric, totals[i : i + 1]


def _provider_names(records: Records) -> list[str]:
    return [f"provider/{i:05d}" for i in range(len(records.population))]


def _own_version() -> str:
    try:
        return importlib.metadata.version("joulemesh")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
