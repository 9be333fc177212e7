"""Calls of tools, read from what models write, however it is cut into pieces."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st

from node.gateway.stops import Stops
from node.gateway.tools import MOST_CALLS, ToolCall, ToolCalls, ToolStyle, style_of

CALL = '{"name": "weather", "arguments": {"place": "Lyon"}}'
WRITTEN = {
    ToolStyle.TAGGED: f"<tool_call>\n{CALL}\n</tool_call>",
    ToolStyle.LISTED: f"[TOOL_CALLS] [{CALL}]",
    ToolStyle.BARE: CALL.replace("arguments", "parameters"),
}


def read(style: ToolStyle, *pieces: str) -> tuple[str, tuple[ToolCall, ...]]:
    reader = ToolCalls(style, {"weather"})
    said = "".join(map(reader.take, pieces))
    rest, calls = reader.end()
    return said + rest, calls


@pytest.mark.parametrize("style", ToolStyle)
@given(data=st.data())
@settings(max_examples=at_length(15))
def test_a_call_is_read_however_it_is_cut(style: ToolStyle, data: st.DataObject) -> None:
    text = WRITTEN[style]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=4)))
    said, (call,) = read(style, *(text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)))
    assert not said.strip()
    assert (call.name, json.loads(call.arguments)) == ("weather", {"place": "Lyon"})


def test_text_before_calls_and_several_of_them() -> None:
    said, calls = read(ToolStyle.TAGGED, "Let me see. <tool", WRITTEN[ToolStyle.TAGGED][5:], WRITTEN[ToolStyle.TAGGED])
    assert said == "Let me see. "
    assert len({call.id for call in calls}) == 2


@pytest.mark.parametrize(
    "text",
    ["It is 5 < 6.", "<tool_call> no JSON", '<tool_call>{"name": "other", "arguments": {}}</tool_call>', "<tool_c"],
)
def test_what_is_no_call_is_text(text: str) -> None:
    assert read(ToolStyle.TAGGED, text) == (text, ())
    assert read(ToolStyle.BARE, '{"a": 1}') == ('{"a": 1}', ())


def test_the_style_is_the_templates() -> None:
    assert style_of("{{ messages }}") is None
    assert style_of("{% if tools %}<tool_call>{% endif %}") is ToolStyle.TAGGED
    assert style_of("{% if tools %}[TOOL_CALLS]{% endif %}") is ToolStyle.LISTED
    assert style_of("{{ tools }}") is ToolStyle.BARE


@given(text=st.text("ab<", max_size=30), stop=st.text("ab<", min_size=1, max_size=4), data=st.data())
@settings(max_examples=at_length(40))
def test_a_stop_ends_the_text_however_it_is_cut(text: str, stop: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=5)))
    stops = Stops([stop])
    said = "".join(stops.take(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True))
    said += stops.rest()
    assert said == text.partition(stop)[0]
    assert stops.found == (stop in text)


def test_no_more_calls_come_out_than_anybody_makes_however_many_are_written() -> None:
    for text in (f"[TOOL_CALLS] [{','.join([CALL] * 100)}]", f"[TOOL_CALLS] {CALL}" * 100, "[TOOL_CALLS]" + CALL * 100):
        assert len(read(ToolStyle.LISTED, text)[1]) == MOST_CALLS


def seconds(text: str) -> float:
    """Of processor time, to find no call in it; the least of three."""
    found = []
    for _ in range(3):
        began = time.process_time()
        assert read(ToolStyle.LISTED, f"[TOOL_CALLS]{text}")[1] == ()
        found.append(time.process_time() - began)
    return min(found)


@pytest.mark.parametrize(
    "made", [lambda n: "[]" * n, lambda n: "; " * n, lambda n: "[" * n, lambda n: f"[{' ;' * n}{CALL}]"]
)
def test_what_says_nothing_takes_no_more_time_than_its_length_is_worth(made: Callable[[int], str]) -> None:
    """Quadratic, sixteen times as much takes 256 times as long."""
    assert seconds(made(64_000)) < 80 * max(seconds(made(4_000)), 0.0005)


def test_what_a_call_is_given_can_be_sent() -> None:
    half = '"\\ud800"'
    for said in (half, f'{{"place": {half}}}'):
        _, (call,) = read(ToolStyle.TAGGED, f'<tool_call>{{"name": "weather", "arguments": {said}}}')
        assert "?" in call.arguments.encode().decode()
