"""Which of a run's workers reads which file of tests first. For asserts to explain themselves, files are parsed and
compiled anew where nothing is kept of them, as in a fresh checkout.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from _pytest.pathlib import import_path

__all__ = ["import_share"]


def import_share(config: pytest.Config) -> None:
    """Import this worker's part of all files of tests, before it imports those that others have compiled meanwhile.

    Workers that collect the same files in the same order at the same time would each compile all of them.
    """
    worker = getattr(config, "workerinput", None)
    if worker is None:
        return
    number, count = int(worker["workerid"].removeprefix("gw")), int(worker["workercount"])
    asked = [config.invocation_params.dir / each.partition("::")[0] for each in config.args]
    files = sorted(file for path in asked for file in ([path] if path.is_file() else path.rglob("test_*.py")))
    for file in files[number::count]:
        with suppress(Exception, pytest.skip.Exception):  # the collection says what is wrong with it
            _import(file, config)


def _import(file: Path, config: pytest.Config) -> None:
    import_path(file, mode=config.getoption("importmode"), root=config.rootpath, consider_namespace_packages=False)
