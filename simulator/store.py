"""Results on disk: one file for each run, written whole or not at all, and tables of all of them.

A run's file carries the hash of its settings, its seed and its figures. So an experiment that was interrupted goes on
where it was, and one that is asked for twice computes nothing twice.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from protocol.errors import ConfigurationError, LocalError
from simulator.figures import Figures
from simulator.tidy import Tidy

__all__ = ["MANIFEST", "Store", "source_digest", "write_whole"]

MANIFEST = "manifest.json"
_KEY = b"joulemesh"


def source_digest() -> str:
    """SHA-256, in hex, of the program: results of another one are not taken for this one's."""
    here = Path(__file__).parent
    found = hashlib.sha256()
    for path in sorted([*here.rglob("*.py"), *(here.parent / "protocol").rglob("*.py")]):
        found.update(path.read_bytes())
    return found.hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole, or as it was before. Raises LocalError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise LocalError(f"cannot write {path}: {error.strerror}", hint="choose another --out") from error


class Store:
    """A folder of results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def open(cls, folder: Path, *, force: bool) -> Store:
        """The store in a folder, which is new or holds results.

        Raises:
            ConfigurationError: it holds something else.
        """
        if folder.exists():
            if not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST).is_file()):
                raise ConfigurationError(
                    f"{folder} exists and holds something else than results", hint="choose another --out"
                )
            if force:
                for path in (folder / "runs").glob("*.parquet"):
                    path.unlink()
        store = cls(folder)
        write_whole(folder / MANIFEST, b'{"complete": false}\n')
        return store

    def path(self, name: str, seed: int) -> Path:
        """Of one run."""
        safe = "".join(each if each.isalnum() or each in "-_." else "_" for each in name)
        mark = hashlib.sha256(name.encode()).hexdigest()[:6] if safe != name else ""
        return self.folder / "runs" / f"{safe}{'-' if mark else ''}{mark}-seed{seed}.parquet"

    def kept(self, name: str, seed: int, digest: str, program: str) -> Figures | None:
        """The figures of a run that is here already, computed by this program from these settings; else None."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            about = json.loads((pq.read_schema(self.path(name, seed)).metadata or {}).get(_KEY, b"{}"))
        except (OSError, pa.ArrowException, ValueError):
            return None
        if (about.get("settings"), about.get("seed"), about.get("program")) != (digest, seed, program):
            return None
        figures: Figures = about["figures"]
        return figures

    def put(self, name: str, seed: int, digest: str, program: str, figures: Figures, rows: Tidy | None) -> None:
        """Keep a run: its rows, or where there are none its figures."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if rows is None:
            table = pa.table({"figure": list(figures), "value": list(figures.values())})
        else:
            table = pa.table(
                {
                    "t": pa.array(rows.t),
                    "entity": _words(rows.entity, rows.entities),
                    "metric": _words(rows.metric, rows.metrics),
                    "value": pa.array(rows.value),
                }
            )
        about = {"run": name, "seed": seed, "settings": digest, "program": program, "figures": figures}
        about["outcome"] = "" if rows is None else rows.digest
        table = table.replace_schema_metadata({_KEY: json.dumps(about).encode()})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        write_whole(self.path(name, seed), sink.getvalue().to_pybytes())

    def finish(self, rows: Sequence[tuple[str, int, Figures]], about: Mapping[str, Any]) -> None:
        """Write runs.parquet, a row for each run, seed and figure, and the manifest, which says that all is there."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        flat = [(name, seed, figure, value) for name, seed, figures in rows for figure, value in figures.items()]
        names, seeds, figures, values = zip(*flat, strict=True) if flat else ((), (), (), ())
        table = pa.table(
            {
                "run": pa.array(names, pa.string()),
                "seed": pa.array(seeds, pa.int64()),
                "figure": pa.array(figures, pa.string()),
                "value": pa.array(values, pa.float64()),
            }
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        write_whole(self.folder / "runs.parquet", sink.getvalue().to_pybytes())
        versions = {name: importlib.metadata.version(name) for name in ("numpy", "pyarrow")}
        manifest = {
            "complete": True,
            **about,
            "versions": {"joulemesh": _own_version(), "python": platform.python_version(), **versions},
        }
        write_whole(self.folder / MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())


def _words(index: Any, names: tuple[str, ...]) -> Any:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), pa.array(names, pa.string()))


def _own_version() -> str:
    try:
        return importlib.metadata.version("joulemesh")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
