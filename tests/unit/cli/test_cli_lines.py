"""Lines of standard input that come whenever they come."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from node.cli.terminal.lines import AHEAD, Lines

pytestmark = pytest.mark.asyncio


async def test_lines_come_whole_in_order_and_then_none() -> None:
    source, sink = os.pipe()
    lines = Lines(source)
    os.write(sink, "one\r\ntwø\nthr".encode())
    assert [await lines.next(), await lines.next()] == ["one", "twø"]
    os.write(sink, b"ee\n\nlast \xff")
    assert [await lines.next(), await lines.next()] == ["three", ""]
    os.close(sink)
    assert await lines.next() == "last \N{REPLACEMENT CHARACTER}"
    assert [await lines.next(), await lines.next()] == [None, None]
    os.close(source)


async def test_whoever_waits_for_a_line_can_be_cancelled() -> None:
    source, sink = os.pipe()
    lines = Lines(source)
    waiting = asyncio.create_task(lines.next())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    os.write(sink, b"still there\n")
    assert await lines.next() == "still there"
    os.close(sink)
    assert await lines.next() is None
    os.close(source)


async def test_no_more_is_read_than_a_few_lines_ahead() -> None:
    source, sink = os.pipe()
    lines = Lines(source)
    count = 20_000
    text = b"".join(b"line %d with some more to it\n" % number for number in range(count))
    written: list[int] = []

    def write() -> None:
        left = memoryview(text)
        while left:
            done = os.write(sink, left)
            written.append(done)
            left = left[done:]
        os.close(sink)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert await lines.next() == "line 0 with some more to it"
    # A pipe's buffer, what was read of it at once, and a few lines: not all.
    assert sum(written) < len(text)
    assert lines._read.qsize() <= AHEAD + 1
    for number in range(1, count):
        assert await lines.next() == f"line {number} with some more to it"
    assert await lines.next() is None
    writer.join()
    os.close(source)
