"""What a node told of each day, on disk: counted by name and code, and read while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.app.diagnosis.activity import activity_file, open_activity, read_activity
from node.events import Event, LedgerLost, OrderRefused
from protocol.identity.ids import Address

NODE = Address(b"\x07" * 20)
pytestmark = pytest.mark.asyncio


def refused(code: str, reason: str = "") -> Event:
    return OrderRefused(client=b"\x01" * 20, session=b"\x02" * 32, code=code, reason=reason)


async def test_events_are_counted_by_code_and_passed_on(tmp_path: Path) -> None:
    heard: list[Event] = []
    async with open_activity(tmp_path, NODE, heard.append) as events:
        for each in (
            refused("full", "first"),
            refused("full", "last"),
            refused("window"),
            LedgerLost(url="u", reason="r"),
        ):
            events(each)
    assert len(heard) == 4
    found = {(each.event, each.code): each for each in read_activity(tmp_path, NODE, 0)}
    assert {key: each.count for key, each in found.items()} == {
        ("order refused", "full"): 2,
        ("order refused", "window"): 1,
        ("ledger lost", ""): 1,
    }
    assert found["order refused", "full"].last["reason"] == "last"
    assert activity_file(tmp_path, NODE).stat().st_mode & 0o077 == 0


async def test_another_run_adds_to_the_day(tmp_path: Path) -> None:
    for _ in range(2):
        async with open_activity(tmp_path, NODE, lambda _: None) as events:
            events(refused("full"))
    assert [each.count for each in read_activity(tmp_path, NODE, 0)] == [2]
    assert read_activity(tmp_path, NODE, 2**40) == []


async def test_a_disk_that_takes_nothing_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "activity").write_text("a file where a folder should be")
    heard: list[Event] = []
    async with open_activity(tmp_path, NODE, heard.append) as events:
        events(refused("full"))
    assert len(heard) == 1


async def test_of_a_node_that_never_ran_nothing_is_known(tmp_path: Path) -> None:
    assert read_activity(tmp_path, NODE, 0) == []
