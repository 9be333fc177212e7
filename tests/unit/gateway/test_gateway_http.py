"""The gateway over real HTTP, before a market that answers from a script."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from market_offers import an_offer
from scripted_market import Gateway, gateway

from node.events import RequestRefused
from node.gateway import Limits
from node.gateway.keys import KeyTerms, open_keys
from protocol.errors import ConfigurationError, FundsError, LostPeerError, RefusedError, RoutingError
from protocol.identity.ids import checksum_address
from protocol.policy.policy import Reason, ReasonCode
from protocol.routing.routes import NoRouteError

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path) as found:
        yield found


def code_of(found: tuple[int, Any]) -> tuple[int, str, str | None]:
    status, body = found
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return status, body["error"]["code"], body["error"]["param"]


async def events_of(response: Any) -> list[Any]:
    assert response.status == 200
    lines = [line async for line in response.content if line.strip()]
    assert lines.pop() == b"data: [DONE]\n"
    return [json.loads(line.removeprefix(b"data: ")) for line in lines]


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "tales", "messages": [{"role": "user", "content": "go on"}], **more}


# Answers


async def test_a_whole_answer(door: Gateway) -> None:
    async with door.http.post(f"{door.url}/chat/completions", json=chat()) as response:
        body = await response.json()
        receipt = response.headers["x-joule-receipt"]
        assert response.headers["x-joule-made"] == "main"
    assert body["object"] == "chat.completion"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Once upon a time", "refusal": None},
            "finish_reason": "length",
            "logprobs": None,
        }
    ]
    assert body["usage"]["total_tokens"] == 7
    async with door.http.get(f"{door.url}/receipts/{receipt}") as response:
        assert await response.json() == {"receipt": True}
        assert response.headers["x-joule-receipt"] == receipt
    door.market.receipt(f"{receipt}-at-far").write_text("{}")  # another market went on
    async with door.http.get(f"{door.url}/receipts/{receipt}-at-far") as response:
        assert response.status == 200
        assert response.headers["x-joule-receipt"] == f"{receipt}, {receipt}-at-far"
    for unknown in ("f" * 32, f"{receipt}-2", f"{receipt}-..%2Fkeys", f"{'f' * 32}-at-far"):
        async with door.http.get(f"{door.url}/receipts/{unknown}") as response:
            assert response.status == 404


async def test_a_streamed_answer_with_its_usage(door: Gateway) -> None:
    body = chat(stream=True, stream_options={"include_usage": True})
    async with door.http.post(f"{door.url}/chat/completions", json=body) as response:
        first, *middle, end, usage = await events_of(response)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(each["choices"][0]["delta"]["content"] for each in middle) == "Once upon a time"
    assert end["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 4


async def test_a_completion_with_its_prompt(door: Gateway) -> None:
    status, body = await door.ask("/completions", prompt="Say: ", echo=True, stop="a t")
    assert status == 200
    assert body["object"] == "text_completion"  # type: ignore[index]
    (choice,) = body["choices"]  # type: ignore[index]
    assert (choice["text"], choice["finish_reason"]) == ("Say: Once upon ", "stop")


async def test_tokens_come_with_their_log_probabilities(door: Gateway) -> None:
    status, body = await door.ask(logprobs=True, top_logprobs=3, stop="n a")
    assert status == 200
    (choice,) = body["choices"]  # type: ignore[index]
    assert choice["message"]["content"] == "Once upo"
    assert choice["logprobs"]["refusal"] is None
    first, second = choice["logprobs"]["content"]  # of what the stop cut off there is nothing
    assert (second["token"], second["logprob"], second["bytes"]) == ("upon ", -0.25, list(b"upon "))
    assert [each["token"] for each in first["top_logprobs"]] == ["Once ", "ONCE ", r"bytes:\xf0\x9f"]
    assert first["top_logprobs"][2]["bytes"] == [0xF0, 0x9F]
    _, body = await door.ask(logprobs=True)
    content = body["choices"][0]["logprobs"]["content"]  # type: ignore[index]
    assert [(each["token"], each["top_logprobs"]) for each in content] == [
        (word, []) for word in ("Once ", "upon ", "a ", "time")
    ]
    async with door.http.post(f"{door.url}/chat/completions", json=chat(stream=True, logprobs=True)) as response:
        streamed = [each["choices"][0] for each in await events_of(response)]
    said = [each["logprobs"]["content"] for each in streamed if each["logprobs"]]
    assert [each for chunk in said for each in chunk] == content
    assert [each["logprobs"] for each in streamed if not each["delta"].get("content")] == [None, None]


async def test_completions_have_them_in_their_own_shape(door: Gateway) -> None:
    _, body = await door.ask("/completions", prompt="Say: ", logprobs=1)
    said = body["choices"][0]["logprobs"]  # type: ignore[index]
    assert said["tokens"] == ["Once ", "upon ", "a ", "time"]
    assert said["text_offset"] == [0, 5, 10, 12]
    assert said["token_logprobs"] == [-0.25] * 4
    assert said["top_logprobs"][3] == {"time": -0.25}
    body = {"model": "tales", "prompt": "Say: ", "logprobs": 2, "stream": True, "stop": " ti"}
    async with door.http.post(f"{door.url}/completions", json=body) as response:
        chunks = [each["choices"][0]["logprobs"] for each in await events_of(response)]
    assert [offset for each in chunks if each for offset in each["text_offset"]] == [0, 5, 10]
    for wrong in ({"logprobs": 21}, {"logprobs": -1}, {"logprobs": True}, {"logprobs": 2.0}):
        assert code_of(await door.ask("/completions", prompt="x", **wrong)) == (400, "invalid_value", "logprobs")
    echoed = await door.ask("/completions", prompt="x", logprobs=1, echo=True)
    assert code_of(echoed) == (400, "unsupported_parameter", "logprobs")


async def test_several_choices_are_several_answers(door: Gateway) -> None:
    status, body = await door.ask(n=3, seed=7)
    assert status == 200
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]  # type: ignore[index]
    assert [wanted.seed for _, wanted in door.market.asked] == [7, 8, 9]
    assert body["usage"]["completion_tokens"] == 12  # type: ignore[index]
    async with door.http.post(f"{door.url}/chat/completions", json=chat(n=2, stream=True)) as response:
        said = {0: "", 1: ""}
        for each in await events_of(response):
            said[each["choices"][0]["index"]] += each["choices"][0]["delta"].get("content", "")
        assert len(response.headers["x-joule-receipt"].split(", ")) == 2
    assert said == dict.fromkeys((0, 1), "Once upon a time")


async def test_models_are_listed_with_what_they_cost(door: Gateway) -> None:
    async with door.http.get(f"{door.url}/models") as response:
        (model,) = (await response.json())["data"]
    assert model["id"] == "tales"
    assert model["joule"]["price_out"] == "1.250000"
    assert model["joule"]["joules_per_token"] == 0.012
    assert model["joule"]["places"] == ["DE", "FR"]
    assert model["joule"]["license"] == "MIT"
    async with door.http.get(f"{door.url}/models/nothing") as response:
        assert code_of((response.status, await response.json())) == (404, "model_not_found", "model")


async def test_a_caller_that_goes_away_ends_its_answer(door: Gateway) -> None:
    door.market.words = ("Once ", asyncio.Event(), "never")
    response = await door.http.post(f"{door.url}/chat/completions", json=chat(stream=True))
    await response.content.readline()
    response.close()
    async with asyncio.timeout(10):
        await door.market.answers[0].closed.wait()
    assert door.market.answers[0].tokens_out == 1


async def test_an_answer_that_breaks_off_says_so(door: Gateway) -> None:
    door.market.words = ("Once ", LostPeerError("gone"))
    assert code_of(await door.ask()) == (502, "lost-peer", None)
    async with door.http.post(f"{door.url}/chat/completions", json=chat(stream=True)) as response:
        *_, last = [line async for line in response.content if line.strip()]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "lost-peer"
    door.market.words = (LostPeerError("gone"),)
    async with door.http.post(f"{door.url}/chat/completions", json=chat(stream=True)) as response:
        assert response.status == 502


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RoutingError("none", code="no-offers"), (404, "model_not_found", "model")),
        (RoutingError("none", code="busy"), (503, "busy", None)),
        (FundsError("low"), (503, "funds", None)),
        (ConfigurationError("no", code="prompt"), (400, "prompt", "messages")),
        (ConfigurationError("no", code="grammar"), (400, "grammar", "response_format")),
        (RoutingError("none", code="grammar"), (400, "unsupported_parameter", "response_format")),
        (RefusedError("no", code="grammar"), (400, "grammar", "response_format")),
    ],
)
async def test_what_the_market_refuses_is_told(door: Gateway, error: Any, expected: tuple[int, str, str]) -> None:
    door.market.refusal = error
    assert code_of(await door.ask()) == expected
    if expected[2] == "response_format":
        assert code_of(await door.ask(tools=[TOOL], tool_choice="required")) == (*expected[:2], "tools")


# Parameters

TOOL = {"type": "function", "function": {"name": "look"}}


def schema_of(name: str, schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, **more}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"min_p": 0.5}, ("unsupported_parameter", "min_p")),
        ({"top_p": 1.5}, ("invalid_value", "top_p")),
        ({"top_k": -2}, ("invalid_value", "top_k")),
        ({"frequency_penalty": 2.1}, ("invalid_value", "frequency_penalty")),
        ({"presence_penalty": "1"}, ("invalid_value", "presence_penalty")),
        ({"repetition_penalty": 0}, ("invalid_value", "repetition_penalty")),
        ({"logit_bias": {"5": 101}}, ("invalid_value", "logit_bias.5")),
        ({"logit_bias": {"05": 1}}, ("invalid_value", "logit_bias")),
        ({"logit_bias": {str(1 << 24): 1}}, ("invalid_value", "logit_bias")),
        ({"logit_bias": {str(token): 1 for token in range(301)}}, ("invalid_value", "logit_bias")),
        ({"logit_bias": [5]}, ("invalid_value", "logit_bias")),
        ({"logprobs": 1}, ("invalid_value", "logprobs")),
        ({"top_logprobs": 3}, ("invalid_value", "top_logprobs")),
        ({"logprobs": True, "top_logprobs": 21}, ("invalid_value", "top_logprobs")),
        ({"logprobs": True, "top_logprobs": -1}, ("invalid_value", "top_logprobs")),
        ({"logprobs": True, "top_logprobs": "3"}, ("invalid_value", "top_logprobs")),
        (
            {"logprobs": True, "tools": [{"type": "function", "function": {"name": "look"}}]},
            ("unsupported_parameter", "logprobs"),
        ),
        ({"tools": [{"type": "function"}]}, ("unsupported_parameter", "tools[0]")),
        ({"tools": [], "tool_choice": "required"}, ("invalid_value", "tool_choice")),
        ({"tools": [TOOL], "tool_choice": "any"}, ("unsupported_parameter", "tool_choice")),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, ("unsupported_parameter", "tool_choice")),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "another"}}},
            ("invalid_value", "tool_choice"),
        ),
        ({"tools": [TOOL], "parallel_tool_calls": False}, ("unsupported_parameter", "parallel_tool_calls")),
        ({"tools": [TOOL], "parallel_tool_calls": "no"}, ("invalid_value", "parallel_tool_calls")),
        ({"nonsense": 1}, ("unsupported_parameter", "nonsense")),
        ({"response_format": "json"}, ("invalid_value", "response_format")),
        ({"response_format": {"type": "xml"}}, ("invalid_value", "response_format")),
        ({"response_format": {"type": "json_schema"}}, ("invalid_value", "response_format")),
        ({"response_format": schema_of("ok", [])}, ("invalid_value", "response_format.json_schema.schema")),
        ({"response_format": schema_of("two words", {})}, ("invalid_value", "response_format.json_schema.name")),
        (
            {"response_format": schema_of("ok", {}, more=1)},
            ("unsupported_parameter", "response_format.json_schema.more"),
        ),
        ({"response_format": {"type": "json_object"}, "tools": [TOOL]}, ("unsupported_parameter", "response_format")),
        ({"stream_options": {"more": 1}}, ("unsupported_parameter", "stream_options.more")),
        ({"joule": {"place": "EU"}}, ("unsupported_parameter", "joule.place")),
        ({"joule": {"places": "Atlantis"}}, ("invalid_value", "joule.places")),
        ({"max_tokens": 0}, ("invalid_value", "max_tokens")),
        ({"temperature": 3}, ("invalid_value", "temperature")),
        ({"temperature": True}, ("invalid_value", "temperature")),
        ({"n": 17}, ("invalid_value", "n")),
        ({"stop": ["a"] * 5}, ("invalid_value", "stop")),
        ({"model": None}, ("missing_required_parameter", "model")),
        ({"messages": []}, ("invalid_value", "messages")),
        ({"messages": [{"role": "robot", "content": "x"}]}, ("invalid_value", "messages[0].role")),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            ("unsupported_parameter", "messages[0].content"),
        ),
    ],
)
async def test_what_is_not_supported_is_named(door: Gateway, given: Any, expected: tuple[str, str]) -> None:
    assert code_of(await door.ask(**given)) == (400, *expected)
    assert not door.market.asked


async def test_a_schema_is_taken_with_its_shape(door: Gateway) -> None:
    schema = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"enum": ["x"]}}}
    for asked in (
        schema_of("ok", schema, strict=True, description="an answer"),
        schema_of("ok", schema, strict=False),
        {"type": "json_object"},
        {"type": "text"},
    ):
        status, _ = await door.ask(response_format=asked)
        assert status == 200
    found = [wanted.schema for _, wanted in door.market.asked]
    assert found == [schema, schema, {"type": "object"}, None]
    assert list(found[0]["properties"]) == ["b", "a"], "in the order that it is written in"


async def test_what_says_what_holds_anyway_is_taken(door: Gateway) -> None:
    neutral = {"top_p": 0.95, "presence_penalty": 0, "logprobs": False, "tools": [], "user": "me", "n": 1, "stop": None}
    content = [{"type": "text", "text": "go "}, {"type": "text", "text": "on"}]
    more = {"temperature": 0.7, "top_k": -1, "frequency_penalty": -1.25, "logit_bias": {"7": 0.5, "3": -100}}
    status, _ = await door.ask(**neutral, **more, messages=[{"role": "user", "content": content}])
    assert status == 200
    ((_, wanted),) = door.market.asked
    assert (wanted.temperature_milli, wanted.top_p_ppm, wanted.top_k) == (700, 950_000, 0)
    assert (wanted.frequency_milli, wanted.presence_milli, wanted.repetition_milli) == (-1250, 0, None)
    assert wanted.biases == ((3, -100_000), (7, 500))
    assert wanted.messages[0].content == "go on"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"model": "a", "model": "b"}',
        b'{"model": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
async def test_malformed_json_is_refused(door: Gateway, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    async with door.http.post(f"{door.url}/chat/completions", data=body, headers=headers) as response:
        assert code_of((response.status, await response.json())) == (400, "invalid_json", None)


# Policy


async def test_the_strictest_policy_counts(tmp_path: Path) -> None:
    async with gateway(tmp_path, bounds=Limits(places=("EU",), max_price_out=2_000_000)) as door:
        terms = KeyTerms(name="k", limits=Limits(places=("DE", "FR"), max_price_out=5_000_000, evidence="claimed"))
        _, key = await door.keys.new(terms)
        status, _ = await door.ask(key=key, joule={"places": ["FR"], "max_price_out": 1.5, "evidence": "attested"})
        assert status == 200
        policy = door.market.asked[0][1].limits.as_policy()
        assert (policy["allow"], policy["max_price_out"], policy["min_evidence"]) == (("FR",), 1_500_000, "attested")
        assert code_of(await door.ask(key=key, joule={"places": "IT"})) == (403, "policy_not_allowed", "joule.places")
        headers = {"Authorization": f"Bearer {key}", "x-joule-places": "DE", "X-Joule-Class": "batch"}
        async with door.http.post(f"{door.url}/chat/completions", json=chat(), headers=headers) as response:
            assert response.status == 200
        assert door.market.asked[-1][1].limits.as_policy()["latency_class"] == "batch"
        headers["x-joule-class"] = "telepathy"
        async with door.http.post(f"{door.url}/chat/completions", json=chat(), headers=headers) as response:
            assert code_of((response.status, await response.json()))[1:] == ("invalid_value", "x-joule-class")


async def test_whom_a_key_trusts_with_the_ends_no_request_widens(tmp_path: Path) -> None:
    one, other, third = (checksum_address(bytes([each]) * 20) for each in (1, 2, 3))
    async with gateway(tmp_path, bounds=Limits(trusted_ends=(one, other))) as door:
        _, key = await door.keys.new(KeyTerms(name="k", limits=Limits(trusted_ends=(other, third), end_blocks=2)))
        assert (await door.ask(key=key))[0] == 200
        assert door.market.asked[-1][1].limits.as_ends() == {"trusted_ends": (other,), "end_blocks": 2}
        assert (await door.ask(key=key, joule={"trusted_ends": [other], "end_blocks": 3}))[0] == 200
        assert door.market.asked[-1][1].limits.as_ends() == {"trusted_ends": (other,), "end_blocks": 3}
        refused = await door.ask(key=key, joule={"trusted_ends": one})
        assert code_of(refused) == (403, "policy_not_allowed", "joule.trusted_ends")
        for wrong in ({"trusted_ends": "0x12"}, {"end_blocks": 0}, {"end_blocks": True}):
            assert code_of(await door.ask(key=key, joule=wrong))[:2] == (400, "invalid_value")


# Keys


async def test_a_key_is_needed_once_there_is_one(door: Gateway) -> None:
    assert (await door.ask(key="sk-anything"))[0] == 200
    made, key = await door.keys.new(KeyTerms(name="app"))
    for wrong in ("", "sk-anything", key[:-1], key + "x", f"jk-{'0' * 8}-{key.rpartition('-')[2]}", "jk--"):
        assert code_of(await door.ask(key=wrong))[:2] == (401, "invalid_api_key")
    assert (await door.ask(key=key))[0] == 200
    assert [owner for owner, _ in door.market.asked] == ["", made.id]
    await door.keys.revoke(made.id)
    assert code_of(await door.ask(key=key))[:2] == (401, "invalid_api_key")


async def test_beyond_this_machine_a_key_is_always_needed(tmp_path: Path) -> None:
    async with gateway(tmp_path, host="0.0.0.0") as door:
        door.url = door.url.replace("0.0.0.0", "127.0.0.1")
        assert code_of(await door.ask())[:2] == (401, "invalid_api_key")
        _, key = await door.keys.new(KeyTerms(name="app"))
        assert (await door.ask(key=key))[0] == 200


async def test_a_key_spends_no_more_than_its_budget(door: Gateway, tmp_path: Path) -> None:
    """An answer may cost 100 and does cost 40: while one runs the budget of 150 lets no other begin."""
    made, key = await door.keys.new(KeyTerms(name="app", budget_micro=150))
    gate = asyncio.Event()
    door.market.words = ("one ", gate, "two ", "three ", "four")
    first = asyncio.create_task(door.ask(key=key))
    while (await door.keys.all())[0].held_micro == 0:
        pass
    assert code_of(await door.ask(key=key))[:2] == (429, "insufficient_quota")
    gate.set()
    assert (await first)[0] == 200
    while (await door.keys.all())[0].held_micro:
        pass
    assert [each.spent_micro for each in await door.keys.all()] == [40]
    assert (await door.ask(key=key))[0] == 200
    hold = await door.keys.hold(made, 50)
    async with open_keys(tmp_path / "keys.sqlite3", lambda: 0) as again:  # the process that held it has died
        await again.begin()
        (found,) = await again.all()
    assert (found.held_micro, found.spent_micro) == (0, 130)
    assert hold.key == made.id


async def test_keys_have_other_limits(door: Gateway) -> None:
    _, slow = await door.keys.new(KeyTerms(name="slow", rate=1))
    _, narrow = await door.keys.new(KeyTerms(name="narrow", models=("tales", "abababab")))
    _, old = await door.keys.new(KeyTerms(name="old", expires_at=1))
    _, few = await door.keys.new(KeyTerms(name="few", at_once=1))
    assert (await door.ask(key=slow))[0] == 200
    assert code_of(await door.ask(key=slow))[:2] == (429, "rate_limit_exceeded")
    assert code_of(await door.ask(key=narrow, model="others"))[:2] == (403, "model_not_allowed")
    assert code_of(await door.ask(key=narrow, model="tales-2"))[:2] == (403, "model_not_allowed")
    assert (await door.ask(key=narrow, model="ab" * 32))[0] == 200
    assert code_of(await door.ask(key=old))[:2] == (401, "invalid_api_key")
    assert code_of(await door.ask(key=few, n=2))[:2] == (429, "rate_limit_exceeded")


async def test_receipts_are_their_owners(door: Gateway) -> None:
    keys = [(await door.keys.new(KeyTerms(name=name)))[1] for name in ("one", "two")]
    headers = [{"Authorization": f"Bearer {key}"} for key in keys]
    async with door.http.post(f"{door.url}/chat/completions", json=chat(), headers=headers[0]) as response:
        receipt = response.headers["x-joule-receipt"]
    for each, expected in zip(headers, (200, 404), strict=True):
        async with door.http.get(f"{door.url}/receipts/{receipt}", headers=each) as response:
            assert response.status == expected


# The door


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Origin": "https://evil.example"}, "origin_not_allowed"),
        ({"Host": "evil.example"}, "host_not_allowed"),
        ({"Content-Type": "text/plain"}, "unsupported_media_type"),
        ({"x-joule-colour": "red"}, "unsupported_parameter"),
    ],
)
async def test_who_comes_from_elsewhere_is_refused(door: Gateway, headers: dict[str, str], expected: str) -> None:
    data = json.dumps(chat()).encode()
    headers = {"Content-Type": "application/json", **headers}
    async with door.http.post(f"{door.url}/chat/completions", data=data, headers=headers) as response:
        assert code_of((response.status, await response.json()))[1] == expected
    assert not door.market.asked


async def test_a_web_page_that_may_ask(tmp_path: Path) -> None:
    async with gateway(tmp_path, origins=("https://app.example",)) as door:
        headers = {"Origin": "https://app.example"}
        async with door.http.options(f"{door.url}/chat/completions", headers=headers) as response:
            assert response.status == 204
        async with door.http.post(f"{door.url}/chat/completions", json=chat(), headers=headers) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
        receipt = response.headers["x-joule-receipt"]
        for method, path, given in (
            ("POST", "/chat/completions", {"json": chat(stream=True)}),
            ("GET", f"/receipts/{receipt}", {}),
            ("GET", "/nothing", {}),
        ):
            async with door.http.request(method, door.url + path, headers=headers, **given) as response:
                assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
                assert "x-request-id" in response.headers["Access-Control-Expose-Headers"]
                assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/embeddings", (404, "unknown_url", None)),
        ("DELETE", "/models", (405, "method_not_allowed", "GET, HEAD")),
        ("OPTIONS", "/batches", (405, "method_not_allowed", "GET, HEAD, POST")),
    ],
)
async def test_what_there_is_not_is_said_in_the_same_shape(
    door: Gateway, method: str, path: str, expected: tuple[int, str, str | None]
) -> None:
    async with door.http.request(method, door.url + path) as response:
        code = code_of((response.status, await response.json()))[1]
        assert (response.status, code, response.headers.get("Allow")) == expected
        asked = response.headers["x-request-id"]
    (refused,) = [each for each in door.heard if isinstance(each, RequestRefused)]
    assert refused.request == asked


@pytest.mark.parametrize(("path", "left_out"), [("/chat/completions", "messages"), ("/completions", "prompt")])
async def test_what_is_left_out_is_named(door: Gateway, path: str, left_out: str) -> None:
    async with door.http.post(door.url + path, json={"model": "tales"}) as response:
        found = code_of((response.status, await response.json()))
    assert found == (400, "missing_required_parameter", left_out)


async def test_why_no_route_keeps_to_a_policy_is_told(door: Gateway) -> None:
    offer = an_offer()
    rejected = [(offer, Reason(code, "")) for code in (ReasonCode.DENIED, ReasonCode.MODEL, ReasonCode.DENIED)]
    door.market.refusal = NoRouteError("none can be used", code="all-excluded", explanations=rejected)
    _, body = await door.ask()
    assert body["error"]["message"] == "none can be used: jurisdiction-denied (2)"  # type: ignore[index]


async def test_bodies_are_bounded(tmp_path: Path) -> None:
    async with gateway(tmp_path, most_body=1000) as door:
        assert code_of(await door.ask(user="x" * 1000))[:2] == (413, "body_too_large")
        assert (await door.ask(user="x" * 500))[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nx-joule-places: EU\rInjected: 1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nx: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /v1/models\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_heads_that_are_no_http_get_nothing(door: Gateway, head: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(door.url.rpartition(":")[2].partition("/")[0]))
    writer.write(head)
    answer = await reader.readline()
    writer.close()
    assert answer == b"" or answer.split()[1] == b"400"
    assert not door.market.asked


async def test_who_is_too_slow_is_cut_off(tmp_path: Path) -> None:
    async with gateway(tmp_path, head_s=0.1, read_s=0.1) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(door.url.split(":")[2].split("/")[0]))
        writer.write(b"GET /v1/models HTTP/1.1\r\n")
        assert await reader.read() == b""
        writer.close()
        door.market.words = ["x" * 65_536] * 1000
        response = await door.http.post(f"{door.url}/chat/completions", json=chat(stream=True))
        async with asyncio.timeout(20):
            await door.market.answers[0].closed.wait()  # nobody reads: it was given up
        assert door.market.answers[0].tokens_out < 1000
        response.close()


async def test_connections_are_bounded(tmp_path: Path) -> None:
    async with gateway(tmp_path, most_connections=1) as door:
        async with door.http.get(f"{door.url}/models") as response:
            assert response.status == 200  # and its connection is kept
        reader, writer = await asyncio.open_connection("127.0.0.1", int(door.url.split(":")[2].split("/")[0]))
        assert await reader.read() == b""
        writer.close()


async def test_tools_are_called(door: Gateway) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    door.market.words = (
        "I look. ",
        "<tool_",
        'call>{"name": "weather", "arguments": {"place": "Lyon"}}',
        "</tool_call>",
    )
    status, body = await door.ask(tools=[tool])
    assert status == 200
    (choice,) = body["choices"]  # type: ignore[index]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"place": "Lyon"}'}
    async with door.http.post(f"{door.url}/chat/completions", json=chat(tools=[tool], stream=True)) as response:
        *_, calls, last = await events_of(response)
    assert calls["choices"][0]["delta"]["tool_calls"][0]["function"]["name"] == "weather"
    assert last["choices"][0]["finish_reason"] == "tool_calls"
    assert not door.market.asked[-1][1].called
    for choice, once in (("required", False), ({"type": "function", "function": {"name": "weather"}}, True)):
        assert (await door.ask(tools=[tool, TOOL], tool_choice=choice))[0] == 200
        wanted = door.market.asked[-1][1]
        assert (wanted.called, wanted.once) == ((tool,) if once else (tool, TOOL), once)
    assert (await door.ask(tools=[tool], tool_choice="required", parallel_tool_calls=False))[0] == 200
    assert door.market.asked[-1][1].once
    turns = [
        {"role": "user", "content": "rain?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "no"},
    ]
    assert (await door.ask(tools=[tool], messages=turns))[0] == 200
    assert door.market.asked[-1][1].messages[1].calls[0].name == "weather"


SAYS = "import json, sys; print(json.dumps({'flagged': 'bomb' in json.load(sys.stdin)['input'][-1], 'reason': 'no'}))"


async def test_somebody_else_says_what_may_be_asked(tmp_path: Path) -> None:
    async with gateway(tmp_path, moderation=shlex.join([sys.executable, "-c", SAYS])) as door:
        assert code_of(await door.ask("/completions", prompt="a bomb")) == (400, "content_policy_violation", "prompt")
        assert (await door.ask())[0] == 200
    for nobody in ("false", "/no/such/command", "http://127.0.0.1:9/check", f"{sys.executable} -c 'print(1)'"):
        async with gateway(tmp_path, moderation=nobody) as door:
            assert code_of(await door.ask())[:2] == (503, "moderation_unavailable")
            assert not door.market.asked
