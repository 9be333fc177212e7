"""Where runs are computed: in this process, in several, or by the workers of a Dask cluster. The figures are the same.

All of them are `concurrent.futures` executors, so nothing else knows which it is (ADR-0066). Workers write their runs
into the experiment's folder, which those of a cluster share with this machine.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager

from protocol.errors import ConfigurationError

__all__ = ["Workers"]

HERE = "local"
_WAIT_S = 30


@dataclasses.dataclass(frozen=True, slots=True)
class Workers:
    """How many, and whose."""

    processes: int = 1
    """On this machine."""
    dask: str = ""
    """Address of a Dask scheduler, or `local` for one on this machine; empty: none."""

    @contextmanager
    def executor(self, jobs: int) -> Iterator[Executor | None]:
        """Something that takes so many jobs; None where they are best run one after another, right here.

        Raises ConfigurationError: Dask is not installed, or nobody answers at its address.
        """
        if self.dask:
            with _dask(self.dask, min(self.processes, max(1, jobs))) as executor:
                yield executor
        elif self.processes <= 1 or jobs <= 1:
            yield None
        else:
            # Forked processes have what is imported already; nothing here starts threads.
            context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
            with ProcessPoolExecutor(min(self.processes, jobs), mp_context=context) as pool:
                yield pool


@contextmanager
def _dask(address: str, processes: int) -> Iterator[Executor]:
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ConfigurationError("Dask is not installed", hint="pip install 'joulemesh[dask]'") from error
    try:
        if address == HERE:
            cluster = LocalCluster(n_workers=processes, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)
            with cluster, Client(cluster) as client:
                yield client.get_executor(pure=False)
        else:
            with Client(address, timeout=_WAIT_S) as client:
                yield client.get_executor(pure=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"no Dask scheduler at {address}: {error}", hint="as tcp://HOST:8786") from error
