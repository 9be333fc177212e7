"""The limit on descriptors, in processes of their own: once lowered, a hard limit stays."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from node import file_limit

RAISE = """
import resource
from node.file_limit import raise_file_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
first, again = raise_file_limit(), raise_file_limit()
print(first, again, *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard"), [(64, 256), (256, 256), (100, 1024)])
def test_the_soft_limit_is_raised_to_the_hard_one(soft: int, hard: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", RAISE.format(soft=soft, hard=hard)], capture_output=True, text=True, check=True
    )
    assert [int(number) for number in ran.stdout.split()] == [hard] * 4


def test_a_limit_that_the_system_does_not_raise_is_lived_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the hard limit is higher than what the kernel takes."""

    def refuse(_which: int, _limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert file_limit.raise_file_limit() == 256


def test_an_unlimited_process_shares_out_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: unlimited)
    assert file_limit.raise_file_limit() == file_limit.MOST_DESCRIPTORS
