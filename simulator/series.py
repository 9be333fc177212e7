"""Series of numbers from CSV or Parquet files, as integers of a stated scale. Knows no scenario."""

from __future__ import annotations

import csv
import hashlib
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np

from protocol.errors import ConfigurationError
from simulator.exact import LARGEST, Ints
from simulator.tables import Series

__all__ = ["Numbers", "read_series", "spread_over"]

MAX_ROWS = 1_000_000
MAX_BYTES = 256 << 20


class Numbers:
    """Millionths, and for how long each holds; equal and hashed by what they say."""

    __slots__ = ("digest", "step_minutes", "values")

    def __init__(self, values: Ints, step_minutes: int) -> None:
        self.values = values
        self.step_minutes = step_minutes
        content = f"{step_minutes}:".encode() + np.ascontiguousarray(values, "<i8").tobytes()
        self.digest = hashlib.sha256(content).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Numbers) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def read_series(series: Series, folder: Path, name: str) -> Numbers:
    """The numbers of a [series.NAME], times its factor.

    Raises:
        ConfigurationError: no such file or column, a row that is no number, or a number out of all bounds.
    """
    path = folder / series.file
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigurationError(f"series.{name}: {series.file} is larger than {MAX_BYTES >> 20} MiB")
        rows = _parquet(path, series.column, name) if path.suffix == ".parquet" else _csv(path, series.column, name)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(
            f"series.{name}: cannot read {series.file}: {error}", hint="its path is relative to the scenario's"
        ) from error
    if not 1 <= len(rows) <= MAX_ROWS:
        raise ConfigurationError(f"series.{name} has {len(rows)} rows", hint=f"from 1 to {MAX_ROWS:,}")
    numbers = [_number(row, series.factor, f"series.{name}, row {at}") for at, row in enumerate(rows, 1)]
    return Numbers(np.array(numbers, dtype=np.int64), series.step_minutes)


def spread_over(numbers: Numbers, epochs: int, epoch_minutes: int, first: int = 0) -> Ints:
    """(epochs,) the number that holds at the start of each epoch; after the last it begins again.

    Args:
        first: number of the first epoch, below 0 in a burn-in.
    """
    minutes = (np.arange(first, first + epochs) * epoch_minutes) // numbers.step_minutes
    return np.asarray(numbers.values[minutes % len(numbers.values)])


def _number(row: Any, factor: int, where: str) -> int:
    try:
        number = Decimal(str(row).strip())
    except InvalidOperation as error:
        raise ConfigurationError(f"{where}: {row!r} is not a number", hint="fill the gaps of the file first") from error
    if not number.is_finite() or abs(number) * factor >= LARGEST:
        raise ConfigurationError(f"{where}: {row} is out of range", hint="look at the series' factor")
    return int((number * factor).to_integral_value())


def _csv(path: Path, column: str, name: str) -> list[Any]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        _known(column, reader.fieldnames or (), name)
        return [row[column] for _, row in zip(range(MAX_ROWS + 1), reader, strict=False)]


def _parquet(path: Path, column: str, name: str) -> list[Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ConfigurationError(
            "pyarrow is not installed, which reads Parquet", code="missing-extra", hint="pip install 'joulemesh[sim]'"
        ) from error
    try:
        _known(column, pq.read_schema(path).names, name)
        rows: list[Any] = pq.read_table(path, columns=[column]).column(0).to_pylist()
    except pa.ArrowException as error:
        raise ConfigurationError(f"series.{name}: {path.name} is not a Parquet file: {error}") from error
    return rows


def _known(column: str, names: Any, name: str) -> None:
    if column not in names:
        raise ConfigurationError(f"series.{name}: there is no column {column!r}", hint="there are " + ", ".join(names))
