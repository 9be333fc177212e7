"""Every event is printable in both forms: a line for people, and plain values for programs."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any

import pytest

import node.events
from node.events import Event, JobServed, Level, NodeReady
from node.events.base import dollars

KINDS = sorted(
    (
        each
        for each in vars(node.events).values()
        if isinstance(each, type) and issubclass(each, Event) and each is not Event
    ),
    key=lambda each: each.__name__,
)
SAMPLES: dict[Any, Any] = {
    bytes: b"\x11" * 32,
    str: "something",
    int: 1_234_567,
    float: 1.5,
    bool: True,
    tuple[str, ...]: ("margin", "pue"),
    tuple[int, ...]: (1, 3),
}


def sample(kind: type[Event]) -> Event:
    hints = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        options = [each for each in (typing.get_args(hints[field.name]) or ()) if each in SAMPLES]
        values[field.name] = SAMPLES[hints[field.name]] if hints[field.name] in SAMPLES else SAMPLES[options[0]]
    return kind(**values)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_event_is_one_line_for_people_and_plain_values_for_programs(kind: type[Event]) -> None:
    event = sample(kind)
    assert event.sentence().isprintable()
    assert kind.__doc__
    fields = event.to_json()
    assert json.loads(json.dumps(fields)) == fields
    assert set(fields) == {field.name for field in dataclasses.fields(kind)}
    assert not {"name", "level", "event", "time"} & set(fields)


def test_every_event_has_a_name_of_its_own() -> None:
    names = [kind.name for kind in KINDS]
    assert len(set(names)) == len(names) >= 30
    assert all(name == name.lower() for name in names)
    assert all(isinstance(kind.level, Level) for kind in KINDS)


def test_nothing_can_be_left_out_of_an_event() -> None:
    with pytest.raises(TypeError):
        JobServed(client=bytes(20))  # type: ignore[call-arg]


def test_ids_are_cut_for_people_and_whole_for_programs() -> None:
    event = sample(JobServed)
    assert (b"\x11" * 32).hex() not in event.sentence()
    assert event.to_json()["session"] == (b"\x11" * 32).hex()
    assert dataclasses.replace(event, client=bytes(20)).to_json()["client"] == "0x" + "0" * 40  # type: ignore[call-arg]


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    event = dataclasses.replace(sample(NodeReady), millijoules_per_token=None)  # type: ignore[call-arg]
    assert "mJ" not in event.sentence()


@pytest.mark.parametrize(
    ("micro", "shown"), [(0, "$0.00"), (1, "$0.000001"), (1_500_000, "$1.50"), (-20_000, "-$0.02")]
)
def test_money_has_two_places_or_as_many_as_there_are(micro: int, shown: str) -> None:
    assert dollars(micro) == shown
