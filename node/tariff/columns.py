"""Files with columns: CSV, and Parquet where its reader is installed."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import io
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from node.tariff.description import Feed, FeedFormat
from node.tariff.documents import MAX_FILE_BYTES, read_bounded
from node.tariff.numbers import number
from node.tariff.points import Interval, intervals_of, time_of
from protocol.errors import ConfigurationError, MalformedError

__all__ = ["intervals_of_columns"]

_MOST_ROWS = 200_000


def intervals_of_columns(path: Path, feed: Feed) -> list[Interval]:
    """What a file says.

    Raises:
        ConfigurationError: it cannot be read, or its reader is not installed.
        MalformedError: a line is not what the columns promise; names it.
    """
    data = read_bounded(path, MAX_FILE_BYTES)
    rows = _parquet(data, path, feed) if feed.format is FeedFormat.PARQUET else _csv(data, path, feed)
    made: list[tuple[int, int | None, Decimal]] = []
    for number_, row in rows:
        if len(made) == _MOST_ROWS:
            raise MalformedError(f"{path} has more than {_MOST_ROWS} rows")
        try:
            end = time_of(row[feed.end_key], feed.zone) if feed.end_key else None
            made.append((time_of(row[feed.time_key], feed.zone), end, number(row[feed.value_key])))
        except KeyError as error:
            raise MalformedError(f"{path} has no column {error}: its columns are {', '.join(map(str, row))}") from None
        except (ValueError, TypeError, OverflowError) as error:
            raise MalformedError(f"row {number_} of {path}: {error}") from None
    if not made:
        raise MalformedError(f"{path} has no rows")
    return intervals_of(made, feed.resolution_s)


def _csv(data: bytes, path: Path, feed: Feed) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if data[:256].lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise MalformedError(f"{path} is a page for people (HTML), not CSV")
    text = data.decode("utf-8-sig", "replace")
    separator = ";" if ";" in text.partition("\n")[0] else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for row in reader:
            yield reader.line_num, {str(key).strip(): value for key, value in row.items() if key is not None}
    except csv.Error as error:
        raise MalformedError(f"line {reader.line_num} of {path}: {error}") from None


def _parquet(data: bytes, path: Path, feed: Feed) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigurationError(
            f"{path} is Parquet, and pyarrow is not installed", hint="install the extra sim, or use CSV"
        )
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    wanted = [each for each in (feed.time_key, feed.end_key, feed.value_key) if each]
    try:
        file = parquet.ParquetFile(arrow.BufferReader(data))
        if file.metadata.num_rows > _MOST_ROWS:
            raise MalformedError(f"{path} has more than {_MOST_ROWS} rows")
        missing = set(wanted) - set(file.schema_arrow.names)
        if missing:
            raise MalformedError(
                f"{path} has no column {min(missing)!r}: it has {', '.join(file.schema_arrow.names)[:200]}"
            )
        rows = file.read(columns=wanted).to_pylist()
    except (arrow.ArrowException, OSError) as error:
        raise MalformedError(f"{path} is not Parquet, or broken: {str(error)[:200]}") from None
    return iter(enumerate(rows, 1))
