"""Content that is written in place: whatever a crash leaves of a write, what was there before it counts on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from brevity import at_length
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.durable import replace_file
from node.slots import BLOCK, Slots, newest_of

SECTOR = 512


def full(*_given: object) -> None:
    raise OSError(28, "full")


class Killed(BaseException):
    """The process is no more."""


def contents(count: int, size: int) -> list[bytes]:
    return [bytes([1 + number]) * (size + 7 * (number % 3)) for number in range(count)]


def test_what_was_written_last_is_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    slots = Slots(path)
    for content in contents(9, 600):
        slots.write(content)
        assert newest_of(path.read_bytes()) == content
    assert path.stat().st_size == 2 * BLOCK
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_file_grows_with_its_content_and_is_made_again_where_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    slots = Slots(path)
    for content in (*contents(3, 10), *contents(3, BLOCK), *contents(3, 3 * BLOCK), b""):
        slots.write(content)
        assert newest_of(path.read_bytes()) == content
    path.unlink()
    slots.write(b"again")
    assert newest_of(path.read_bytes()) == b"again"


def test_another_run_begins_the_file_anew(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in contents(5, 100):
        Slots(path).write(content)
        assert newest_of(path.read_bytes()) == content


def test_what_has_no_slots_has_no_newest(tmp_path: Path) -> None:
    for content in (b"", b"JMSLOT1", b"x" * 8192, bytes(8192)):
        assert newest_of(content) is None


@pytest.mark.parametrize("sizes", [(300, 300, 300, 300), (300, BLOCK, 300, 300), (2 * BLOCK, 5, BLOCK, 3)])
def test_a_death_in_any_write_leaves_what_was_written_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...]
) -> None:
    """After each of some counts of bytes, at each step to the disk, of each of these writes in turn."""
    pwrite, path = os.pwrite, tmp_path / "file"
    written = [bytes([number]) * size for number, size in enumerate(sizes, 65)]
    deaths = 0

    def gone(*_given: object, **_named: object) -> None:
        raise Killed

    for at, last in enumerate(written):
        for step, cut in [(os.pwrite, cut) for cut in (*range(64), *range(64, 400, 9))] + [(os.fsync, 0), (None, 0)]:
            path.unlink(missing_ok=True)
            slots = Slots(path)
            for content in written[:at]:
                slots.write(content)

            def torn(descriptor: int, data: bytes, offset: int, cut: int = cut) -> int:
                pwrite(descriptor, data[:cut], offset)
                raise Killed

            with monkeypatch.context() as patch:
                patch.setattr(os, "pwrite", torn)
                patch.setattr(*((os, "fsync", gone) if step is os.fsync else (Path, "replace", gone)))
                try:
                    slots.write(last)
                except Killed:
                    deaths += 1
            found = newest_of(path.read_bytes()) if path.exists() else None
            assert found in ({written[at - 1], last} if at else {None, last})
    assert deaths >= 100


@given(sectors=st.sets(st.integers(0, 7)), junk=st.booleans(), writes=st.integers(1, 4))
@settings(max_examples=at_length(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sectors_may_reach_the_disk_in_any_order(tmp_path: Path, *, sectors: set[int], junk: bool, writes: int) -> None:
    """Of a write under way any of its sectors are there, the others old, or in no state at all."""
    path = tmp_path / "file"
    slots = Slots(path)
    for content in contents(writes, 3000):
        slots.write(content)
    before, kept = path.read_bytes(), contents(writes, 3000)[-1]
    slots.write(b"next" * 750)
    after, torn = path.read_bytes(), bytearray(before)
    changed = [at for at in range(0, len(after), SECTOR) if after[at : at + SECTOR] != before[at : at + SECTOR]]
    for number, at in enumerate(changed):
        if number in sectors:
            torn[at : at + SECTOR] = after[at : at + SECTOR]
        elif junk:
            torn[at : at + SECTOR] = b"\xa5" * SECTOR
    assert newest_of(bytes(torn)) == (b"next" * 750 if bytes(torn) == after else kept)


def test_a_write_that_fails_counts_for_nothing_and_the_next_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    slots = Slots(path)
    for content in contents(3, 500):
        slots.write(content)
    for name in ("pwrite", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(OSError, match="full"):
                slots.write(b"lost")
        assert newest_of(path.read_bytes()) == contents(3, 500)[-1]
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda *_given: 7)
        with pytest.raises(OSError, match="a part"):
            slots.write(b"lost")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="full"):
            slots.write(bytes(3 * BLOCK))  # which the file would have to be made anew for
    assert newest_of(path.read_bytes()) == contents(3, 500)[-1]
    slots.write(b"kept")
    assert newest_of(path.read_bytes()) == b"kept"
    replace_file(path, b"no slots")
    assert newest_of(path.read_bytes()) is None
