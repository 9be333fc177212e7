"""Which part of some answers is measured, however uneven they are."""

from __future__ import annotations

import asyncio

import pytest

from scripts.measured_steady import Steady


def noted(*numbers: int) -> Steady:
    steady = Steady(2, settled=2, most=5)
    for number in numbers:
        steady.note(number)
    return steady


def test_begins_when_the_slowest_has_settled_and_ends_with_the_fastest() -> None:
    steady = noted(0, 0, 1)
    assert not steady.began.is_set()
    steady.note(1)
    assert steady.began.is_set()
    assert not steady.over.is_set()
    for _ in range(3):
        steady.note(0)
    assert steady.over.is_set()
    assert steady.tokens == 7


@pytest.mark.parametrize(("notes", "begins"), [((0, 0, 1, 1), True), ((0, 0, 0, 0, 0), False)])
@pytest.mark.asyncio
async def test_says_whether_there_is_such_a_part(notes: tuple[int, ...], begins: bool) -> None:
    steady = noted()
    asyncio.get_running_loop().call_soon(lambda: [steady.note(number) for number in notes])
    assert await steady.beginning() is begins


@pytest.mark.asyncio
async def test_a_stream_that_was_over_first_leaves_none() -> None:
    assert await noted(0, 0, 0, 0, 0, 1, 1).beginning() is False
