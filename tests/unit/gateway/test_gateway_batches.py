"""Files of requests, answered while nobody waits, before a market that answers from a script."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from scripted_market import NOW, Gateway, gateway

from node.gateway import batches
from node.gateway.keys import KeyTerms
from protocol.errors import RoutingError

pytestmark = pytest.mark.asyncio

CHAT = "/v1/chat/completions"


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path) as found:
        yield found


def line(name: str, **more: Any) -> str:
    body = {"model": "tales", "messages": [{"role": "user", "content": name}], **more}
    return json.dumps({"custom_id": name, "method": "POST", "url": CHAT, "body": body}) + "\n"


async def call(door: Gateway, method: str, path: str, **more: Any) -> tuple[int, Any]:
    async with door.http.request(method, door.url + path, **more) as response:
        return response.status, await response.json()


async def upload(door: Gateway, text: str, **more: Any) -> str:
    form = aiohttp.FormData({"purpose": "batch"})
    form.add_field("file", text.encode(), filename="in.jsonl")
    status, found = await call(door, "POST", "/files", data=form, **more)
    assert status == 200, found
    return str(found["id"])


async def over(door: Gateway, identity: str, **more: Any) -> Any:
    while (found := (await call(door, "GET", f"/batches/{identity}", **more))[1])["status"] == "in_progress":
        pass
    return found


async def begun(door: Gateway, text: str) -> Any:
    source = await upload(door, text)
    status, found = await call(door, "POST", "/batches", json={"input_file_id": source, "endpoint": CHAT})
    assert status == 200, found
    return found


async def lines(door: Gateway, identity: str) -> dict[str, Any]:
    async with door.http.get(f"{door.url}/files/{identity}/content") as response:
        found = [json.loads(each) for each in (await response.read()).splitlines()]
    return {each["custom_id"]: each["response"] for each in found}


async def test_a_file_of_requests_is_answered(door: Gateway) -> None:
    batch = await begun(door, line("one") + line("two", min_p=0.5) + "\n" + line("three"))
    done = await over(door, batch["id"])
    assert (done["status"], done["request_counts"]) == ("completed", {"total": 3, "completed": 2, "failed": 1})
    said = await lines(door, done["output_file_id"])
    assert set(said) == {"one", "three"}
    assert said["one"]["body"]["choices"][0]["message"]["content"] == "Once upon a time"
    assert (await lines(door, done["error_file_id"]))["two"]["body"]["error"]["param"] == "min_p"
    assert {wanted.limits.latency_class for _, wanted in door.market.asked} == {"batch"}
    assert [each["id"] for each in (await call(door, "GET", "/batches"))[1]["data"]] == [batch["id"]]
    status, _ = await call(door, "DELETE", f"/files/{done['output_file_id']}")
    assert status == 200
    assert (await call(door, "GET", f"/files/{done['output_file_id']}"))[0] == 404


@pytest.mark.parametrize("text", ["", "{", "[]", line("a") + line("a"), line("a").replace("chat/", ""), '{"a": 1}'])
async def test_a_file_that_is_no_batch_fails_whole(door: Gateway, text: str) -> None:
    found = await begun(door, text)
    assert found["status"] == "failed"
    (fault,) = found["errors"]["data"]
    assert fault["code"] in ("invalid_batch_line", "invalid_json")
    assert fault["line"] == text.count("\n") or not text.endswith("\n")
    assert not door.market.asked


async def test_a_cancelled_batch_keeps_what_is_answered(door: Gateway) -> None:
    gate = asyncio.Event()
    door.market.words = ("one", gate)
    batch = await begun(door, "".join(line(str(number)) for number in range(9)))
    while len(door.market.answers) < 4:
        await call(door, "GET", "/models")
    status, found = await call(door, "POST", f"/batches/{batch['id']}/cancel")
    assert (status, found["status"]) == (200, "cancelled")
    assert len(door.market.answers) == 4
    assert (await call(door, "POST", f"/batches/{batch['id']}/cancel"))[0] == 400


async def test_the_next_start_goes_on(tmp_path: Path) -> None:
    async with gateway(tmp_path) as door:
        batch = await begun(door, line("one") + line("two"))
        done = await over(door, batch["id"])
    note = tmp_path / "files" / f"{batch['id']}.json"
    output = tmp_path / "files" / f"{done['output_file_id']}.jsonl"
    first, second = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(first + second[:20])  # as a crash leaves it
    note.write_text(json.dumps({**json.loads(note.read_text()), "status": "in_progress"}))
    async with gateway(tmp_path) as door:
        again = await over(door, batch["id"])
        assert again["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
        assert set(await lines(door, again["output_file_id"])) == {"one", "two"}
        assert len(door.market.asked) == 1


async def test_files_and_batches_are_their_owners(door: Gateway) -> None:
    keys = [(await door.keys.new(KeyTerms(name=name)))[1] for name in ("one", "two")]
    mine, other = ({"Authorization": f"Bearer {key}"} for key in keys)
    source = await upload(door, line("one"), headers=mine)
    body = {"input_file_id": source, "endpoint": CHAT}
    assert (await call(door, "POST", "/batches", json=body, headers=other))[0] == 404
    assert (await call(door, "GET", f"/files/{source}", headers=other))[0] == 404
    assert (await call(door, "GET", "/files/..%2fkeys", headers=other))[0] in (400, 404)
    status, batch = await call(door, "POST", "/batches", json=body, headers=mine)
    assert status == 200
    assert (await call(door, "GET", f"/batches/{batch['id']}", headers=other))[0] == 404


async def test_lines_count_against_the_rate_of_their_key(door: Gateway) -> None:
    _, key = await door.keys.new(KeyTerms(name="slow", rate=4))
    mine = {"headers": {"Authorization": f"Bearer {key}"}}
    source = await upload(door, line("one") + line("two") + line("three"), **mine)
    await call(door, "POST", "/batches", json={"input_file_id": source, "endpoint": CHAT}, **mine)
    while len(door.market.asked) < 2:  # four in a minute: two to begin it, and two of the three
        await call(door, "GET", "/models")
    status, refused = await door.ask(key=key)
    assert (status, refused["error"]["code"]) == (429, "rate_limit_exceeded")  # type: ignore[index]
    assert len(door.market.asked) == 2


async def test_lines_wait_for_room_beside_other_answers_of_their_key(door: Gateway) -> None:
    gate = asyncio.Event()
    door.market.by_prompt = {"one": ("one", gate)}
    _, key = await door.keys.new(KeyTerms(name="few", at_once=1))
    mine = {"headers": {"Authorization": f"Bearer {key}"}}
    source = await upload(door, line("many", n=2) + line("one") + line("two"), **mine)
    _, batch = await call(door, "POST", "/batches", json={"input_file_id": source, "endpoint": CHAT}, **mine)
    while not door.market.answers:
        await call(door, "GET", "/models")
    assert (await door.ask(key=key))[0] == 429
    assert len(door.market.asked) == 1
    gate.set()
    done = await over(door, batch["id"], **mine)
    assert done["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    async with door.http.get(f"{door.url}/files/{done['error_file_id']}/content", **mine) as response:
        assert json.loads(await response.read())["response"]["body"]["error"]["param"] == "n"


async def test_what_no_route_takes_is_an_error_of_its_line(door: Gateway) -> None:
    door.market.refusal = RoutingError("none", code="no-route")
    done = await over(door, (await begun(door, line("one")))["id"])
    assert done["request_counts"]["failed"] == 1


async def test_what_a_batch_has_not_answered_in_its_day_expires(tmp_path: Path) -> None:
    async with gateway(tmp_path) as door:
        batch = await begun(door, line("one") + line("two"))
        output = (await over(door, batch["id"]))["output_file_id"]
    note, kept = tmp_path / "files" / f"{batch['id']}.json", tmp_path / "files" / f"{output}.jsonl"
    kept.write_bytes(b"".join(each for each in kept.read_bytes().splitlines(keepends=True) if b'"one"' in each))
    old = {"status": "in_progress", "created_at": NOW - 86_400}
    note.write_text(json.dumps({**json.loads(note.read_text()), **old}))
    async with gateway(tmp_path) as door:
        done = await over(door, batch["id"])
        assert (done["status"], done["expired_at"]) == ("expired", NOW)
        assert done["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
        assert set(await lines(door, done["output_file_id"])) == {"one"}
        async with door.http.get(f"{door.url}/files/{done['error_file_id']}/content") as response:
            (expired,) = [json.loads(each) for each in (await response.read()).splitlines()]
        assert (expired["custom_id"], expired["response"], expired["error"]["code"]) == ("two", None, "batch_expired")
        assert not door.market.asked


async def test_a_batch_whose_file_is_gone_fails_and_tells_no_path(tmp_path: Path) -> None:
    async with gateway(tmp_path) as door:
        door.market.words = (asyncio.Event(),)
        batch = await begun(door, line("one"))
        assert (await call(door, "DELETE", f"/files/{batch['input_file_id']}"))[0] == 200
    async with gateway(tmp_path) as door:
        found = await over(door, batch["id"])
        assert found["status"] == "failed"
        assert str(tmp_path) not in json.dumps(found)


async def test_a_disk_that_takes_no_answer_stops_the_batch_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with gateway(tmp_path) as door:
        with monkeypatch.context() as patched:
            patched.setattr(batches, "_append", full)
            batch = await begun(door, line("one"))
            while not door.market.answers or not door.market.answers[0].closed.is_set():
                await call(door, "GET", "/models")
            assert (await door.ask())[0] == 200
            assert (await call(door, "GET", f"/batches/{batch['id']}"))[1]["status"] == "in_progress"
    async with gateway(tmp_path) as door:
        assert (await over(door, batch["id"]))["request_counts"]["completed"] == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"input_file_id": None}, (400, "missing_required_parameter", "input_file_id")),
        ({"input_file_id": "x"}, (404, "unknown_file", "id")),
        ({"endpoint": "/v1/embeddings"}, (400, "invalid_value", "endpoint")),
        ({"completion_window": "1h"}, (400, "unsupported_parameter", "completion_window")),
        ({"metadata": "x"}, (400, "invalid_value", "metadata")),
        ({"metadata": {"x": 1}}, (400, "invalid_value", "metadata")),
        ({"colour": "red"}, (400, "unsupported_parameter", "colour")),
    ],
)
async def test_what_is_wrong_with_a_batch_is_named(
    door: Gateway, given: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    body = {"input_file_id": await upload(door, line("one")), "endpoint": CHAT, "metadata": {"for": "me"}, **given}
    status, found = await call(door, "POST", "/batches", json=body)
    assert (status, found["error"]["code"], found["error"]["param"]) == expected


async def test_lists_come_in_pages(door: Gateway) -> None:
    made = {await upload(door, line(name)) for name in ("one", "two", "three")}
    status, first = await call(door, "GET", "/files?limit=2")
    assert (status, len(first["data"]), first["has_more"]) == (200, 2, True)
    _, rest = await call(door, "GET", f"/files?limit=2&after={first['last_id']}")
    assert rest["has_more"] is False
    assert {each["id"] for each in first["data"] + rest["data"]} == made
    for wrong, param in (("limit=0", "limit"), ("limit=x", "limit"), ("after=x", "after"), ("order=asc", "order")):
        status, found = await call(door, "GET", f"/files?{wrong}")
        assert (status, found["error"]["param"]) == (400, param)
