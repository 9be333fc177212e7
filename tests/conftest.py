"""What holds for every test: its event loop, a virtual clock where all lives in memory, when its turn comes, and a
`joule` that starts at once.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

import hypothesis  # it asks the collector about trio: before the collector forgets what is imported
import pytest
from brevity import SOAK
from forked_shell import Worker, forked_shell
from rewriting import import_share
from shared_forks import address_of_server, fork_from
from virtual_loop import VirtualLoop

from node.importing import importing

hypothesis.settings.register_profile(
    "beside others", max_examples=100 if SOAK else 20, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("beside others")

TESTS = Path(__file__).parent
VIRTUAL = TESTS / "unit" / "pipeline"
WAITING = (TESTS / "e2e", TESTS / "hostile")
"""Whose tests wait for processes more than they compute."""

MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 2 * 2**30
"""Bytes; a run takes a quarter of that at most."""


FORKS = "JOULE_TEST_FORKS"
"""Environment variable: where workers find the process that all of them fork from."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Tests write to memory where there is plenty: they make what they write durable, and would mostly wait for a disk.
    `--basetemp` has it elsewhere.
    """
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_NEEDED:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)
    if not hasattr(config, "workerinput"):
        os.environ.pop(FORKS, None)
        if getattr(config.option, "numprocesses", None):
            os.environ[FORKS] = address_of_server()
            workers = ExitStack()
            config.add_cleanup(workers.close)
            python = workers.enter_context(forked_shell(Worker)) / "joule"
            config.option.tx = [f"popen//python={python}" for _ in config.option.tx]
    elif FORKS in os.environ:
        fork_from(os.environ[FORKS])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of processes beside one another."""
    from scheduling import Scheduling

    return Scheduling(config, log)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if VIRTUAL in item.path.parents:
        return {"virtual": VirtualLoop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """What the tests are, and what they import, is not looked at by the collector while they run."""
    if session.config.pluginmanager.has_plugin("dsession"):
        return (yield)  # it hands out tests, and imports none
    with importing():
        import_share(session.config)
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that wait and files that compute take turns, so that workers beside one another do both. What is long waits
    for `make soak`.
    """
    if not SOAK:
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes a minute: `make soak` runs it"))
    files = [list(of_file) for _, of_file in groupby(items, key=lambda item: item.path)]
    waiting = [each for each in files if WAITING[0] in each[0].path.parents or WAITING[1] in each[0].path.parents]
    computing = [each for each in files if each not in waiting]
    items[:] = [item for pair in zip_longest(waiting, computing, fillvalue=[]) for each in pair for item in each]


@pytest.fixture(scope="session")
def forked() -> Iterator[Path]:
    """A folder with a `joule` that starts at once, where tests run many commands; others run what is installed."""
    with forked_shell() as tools:
        yield tools
