"""Many runs: which there are, one after another or by several workers, with the same figures either way.

A run that fails is listed with its reason, and all others go on. Each is written whole before the next is begun.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from pathlib import Path

from protocol.errors import JoulemeshError
from simulator.engine import simulate
from simulator.figures import Figures, figures_of
from simulator.intervals import Spread, spread_of
from simulator.scenario import Settings
from simulator.store import Store, source_digest
from simulator.tidy import tidy
from simulator.workers import Workers

__all__ = ["Done", "Failed", "Job", "Outcome", "jobs_of", "run_jobs", "spreads"]

Progress = Callable[[int, int], None]
ONE_BY_ONE = Workers()


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One run of one seed."""

    name: str
    settings: Settings

    @property
    def seed(self) -> int:
        """What its draws follow from."""
        return self.settings.run.seed


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """A run that ended well."""

    name: str
    seed: int
    figures: Figures


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """A run that did not."""

    name: str
    seed: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """All runs of an experiment, in the order of its jobs."""

    done: tuple[Done, ...]
    failed: tuple[Failed, ...]

    def of(self, name: str) -> dict[int, Figures]:
        """By seed, the figures of a run."""
        return {each.seed: each.figures for each in self.done if each.name == name}


def jobs_of(runs: Mapping[str, Settings], seeds: int) -> list[Job]:
    """Each run with so many seeds, from its own on."""
    return [
        Job(name, settings.with_seed(settings.run.seed + extra))
        for name, settings in runs.items()
        for extra in range(seeds)
    ]


def run_jobs(
    jobs: Sequence[Job],
    folder: Path | None = None,
    *,
    workers: Workers = ONE_BY_ONE,
    full: bool = False,
    progress: Progress = lambda _done, _all: None,
) -> Outcome:
    """Run all jobs that are not in the folder already.

    Args:
        full: keep the rows of every run, not only its figures.
        progress: called with how many runs are done, and of how many.
    """
    program = source_digest() if folder is not None else ""
    found: dict[int, Done | Failed] = {}
    progress(0, len(jobs))
    for at, result in _results(jobs, folder, program, full, workers):
        found[at] = result
        progress(len(found), len(jobs))
    in_order = [found[at] for at in sorted(found)]
    done = tuple(each for each in in_order if isinstance(each, Done))
    return Outcome(done, tuple(each for each in in_order if isinstance(each, Failed)))


def spreads(outcome: Outcome, name: str, confidence: float = 0.95) -> dict[str, Spread]:
    """The spread of each figure of a run over its seeds."""
    by_seed = outcome.of(name)
    names = dict.fromkeys(figure for figures in by_seed.values() for figure in figures)
    return {
        figure: spread_of([each[figure] for each in by_seed.values() if figure in each], confidence) for figure in names
    }


def _results(
    jobs: Sequence[Job], folder: Path | None, program: str, full: bool, workers: Workers
) -> Iterator[tuple[int, Done | Failed]]:
    with workers.executor(len(jobs)) as pool:
        if pool is None:
            for at, job in enumerate(jobs):
                yield at, _run(job, folder, program, full)
            return
        futures = {pool.submit(_run, job, folder, program, full): at for at, job in enumerate(jobs)}
        for future in as_completed(futures):
            at = futures[future]
            try:
                yield at, future.result()
            except Exception as error:  # noqa: BLE001 - a process that was killed takes one run with it, not all
                yield at, Failed(jobs[at].name, jobs[at].seed, f"{type(error).__name__}: {error}")


def _run(job: Job, folder: Path | None, program: str, full: bool) -> Done | Failed:
    """One run; whatever goes wrong is said, not raised."""
    store = None if folder is None else Store(folder)
    digest = job.settings.digest + (" full" if full else "")
    try:
        kept = None if store is None else store.kept(job.name, job.seed, digest, program)
        if kept is not None:
            return Done(job.name, job.seed, kept)
        records = simulate(job.settings)
        figures = figures_of(records)
        if store is not None:
            store.put(job.name, job.seed, digest, program, figures, tidy(records) if full else None)
    except JoulemeshError as error:
        return Failed(job.name, job.seed, f"{error.message}; {error.hint}" if error.hint else error.message)
    except Exception as error:  # noqa: BLE001 - one run's defect is listed with the others' figures
        return Failed(job.name, job.seed, f"{type(error).__name__}: {error}")
    return Done(job.name, job.seed, figures)
