"""The front ends of a ledger as a setting names them, and the order in which they are asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from node.ledger import addresses
from node.ledger.addresses import Addresses, Delivery, SilentError
from node.ledger_address import addresses_of, remembered_at
from node.settings.places import VenuePlace
from protocol.errors import JoulemeshError, RefusedError, UnreachableError

A, B = "http://127.0.0.1:1", "http://127.0.0.1:2"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (A, A),
        (f"{A}/", A),
        (f"{A},{B}", f"{A},{B}"),
        (f" {A}/ , {B}/ ", f"{A},{B}"),
        ([A, B], f"{A},{B}"),
        (f"{A},{A}/", A),
    ],
)
def test_addresses_are_written_with_commas(said: object, meant: str) -> None:
    kind = VenuePlace()
    assert kind.parse(said) == meant
    assert kind.parse(kind.show(meant).strip('"')) == meant


@pytest.mark.parametrize("said", ["", ",", f"{A},ftp://x", f"{A} {B}", [], 7, ",".join(f"{A}{n}" for n in range(9))])
def test_other_texts_are_refused(said: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        VenuePlace().parse(said)


def test_what_is_known_of_a_ledger_stands_under_its_first_address(tmp_path: Path) -> None:
    assert remembered_at(tmp_path, f"{A},{B}") == remembered_at(tmp_path, A) != remembered_at(tmp_path, B)
    assert addresses_of(f"{A}/,{B}") == (A, B)


def answering(**answers: JoulemeshError | bytes) -> tuple[Callable[[str], Awaitable[bytes]], list[str]]:
    """What is asked for at each address, and who was asked."""
    asked: list[str] = []

    async def ask(at: str) -> bytes:
        name = "a" if at == A else "b"
        asked.append(name)
        answer = answers[name]
        if isinstance(answer, JoulemeshError):
            raise answer
        return answer

    return ask, asked


def silent(*, sent: bool) -> SilentError:
    return SilentError("nobody", hint="", sent=sent)


STANDBY = UnreachableError("stands by", code="standby")


@pytest.mark.asyncio
async def test_who_answered_last_is_asked_first_for_the_same_kind() -> None:
    both = Addresses(f"{A},{B}")
    ask, asked = answering(a=STANDBY, b=b"taken")
    assert await both.ask("POST", ask, Delivery()) == b"taken"
    assert await both.ask("POST", ask, Delivery()) == b"taken"
    assert asked == ["a", "b", "b"]
    ask, asked = answering(a=b"read", b=b"read")
    await both.ask("GET", ask)
    both.read_where_written()
    await both.ask("GET", ask)
    assert asked == ["a", "b"]


@pytest.mark.asyncio
async def test_an_answer_is_an_answer_whatever_it_says() -> None:
    ask, asked = answering(a=RefusedError("no"), b=b"never asked")
    with pytest.raises(RefusedError):
        await Addresses(f"{A},{B}").ask("GET", ask)
    busy, asked_busy = answering(a=UnreachableError("too much waits", code="busy"), b=b"never asked")
    with pytest.raises(UnreachableError):
        await Addresses(f"{A},{B}").ask("POST", busy, Delivery())
    assert asked == asked_busy == ["a"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("failure", "unsure"),
    [
        (silent(sent=True), True),
        (UnreachableError("stopped", code="ledger-stopped"), True),
        (silent(sent=False), False),
        (STANDBY, False),
    ],
)
async def test_only_what_may_have_arrived_is_unsure(failure: UnreachableError, unsure: bool) -> None:
    ask, asked = answering(a=failure, b=b"taken")
    delivery = Delivery()
    assert await Addresses(f"{A},{B}").ask("POST", ask, delivery) == b"taken"
    assert delivery.unsure is unsure
    if unsure:  # and that is not sent twice where it could count twice
        with pytest.raises(UnreachableError):
            await Addresses(f"{A},{B}").ask("POST", ask)
        assert asked == ["a", "b", "a"]
    else:
        assert await Addresses(f"{A},{B}").ask("POST", ask) == b"taken"


@pytest.mark.asyncio
async def test_one_that_stands_by_is_waited_for_and_one_that_is_gone_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_AGAIN_S", 0)
    turns = iter([silent(sent=False), STANDBY, silent(sent=False), STANDBY, silent(sent=False), b"taken"])

    async def ask(_at: str) -> bytes:
        answer = next(turns)
        if isinstance(answer, UnreachableError):
            raise answer
        return answer

    assert await Addresses(f"{A},{B}").ask("POST", ask, Delivery()) == b"taken"
    gone, asked = answering(a=silent(sent=False), b=silent(sent=False))
    with pytest.raises(SilentError):
        await Addresses(f"{A},{B}").ask("GET", gone)
    assert asked == ["a", "b"]
    monkeypatch.setattr(addresses, "_PATIENCE_S", 0)
    never, _ = answering(a=silent(sent=False), b=STANDBY)
    with pytest.raises(UnreachableError, match="stands by"):
        await Addresses(f"{A},{B}").ask("POST", never, Delivery())
