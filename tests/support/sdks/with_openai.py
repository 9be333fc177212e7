"""OpenAI's own Python package against a gateway: ``with_openai.py URL``. Every claim that fails is a traceback."""

import io
import json
import sys
import time

import openai

url = sys.argv[1]
client = openai.OpenAI(base_url=url, api_key="any")
ASK = {"model": "tales", "messages": [{"role": "user", "content": "go on"}]}

answer = client.chat.completions.create(**ASK, max_tokens=9, temperature=0.5, seed=1, stop=["END"])
assert answer.choices[0].message.content == "Once upon a time"
assert answer.usage.total_tokens == 7

said, usage = "", None
for chunk in client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}):
    usage = chunk.usage or usage
    said += "".join(choice.delta.content or "" for choice in chunk.choices)
assert (said, usage.completion_tokens) == ("Once upon a time", 4)

assert client.completions.create(model="tales", prompt="Once", echo=True).choices[0].text.startswith("OnceOnce")
assert len(client.chat.completions.create(**ASK, n=2).choices) == 2
assert [model.id for model in client.models.list()] == ["tales"]

tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
turns = [{"role": "user", "content": "weather"}]
message = client.chat.completions.create(model="tales", messages=turns, tools=[tool]).choices[0].message
(call,) = message.tool_calls
assert client.chat.completions.create(
    model="tales", messages=turns, tools=[tool], tool_choice="required", parallel_tool_calls=False
)
assert json.loads(call.function.arguments) == {"place": "Lyon"}
turns += [message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
assert client.chat.completions.create(model="tales", messages=turns, tools=[tool]).choices[0].message.content
names = [
    each.function.name
    for chunk in client.chat.completions.create(model="tales", messages=turns[:1], tools=[tool], stream=True)
    for each in chunk.choices[0].delta.tool_calls or ()
]
assert names == ["weather"]

raw = client.chat.completions.with_raw_response.create(**ASK, extra_body={"joule": {"places": ["EU"]}})
assert len(raw.headers["x-joule-receipt"]) == 32

said = client.chat.completions.create(**ASK, logprobs=True, top_logprobs=2).choices[0].logprobs.content
assert [each.token for each in said] == ["Once ", "upon ", "a ", "time"], said
assert bytes(said[0].top_logprobs[1].bytes) == b"ONCE ", said
spelled = client.completions.create(model="tales", prompt="go on", logprobs=1).choices[0].logprobs
assert (spelled.text_offset, spelled.top_logprobs[0]) == ([0, 5, 10, 12], {"Once ": -0.25}), spelled

try:
    client.chat.completions.create(**ASK, service_tier="flex")
    raise AssertionError("it was taken")
except openai.BadRequestError as error:
    assert error.param == "service_tier", error
    assert error.code == "unsupported_parameter"
try:
    list(client.chat.completions.create(model="tales", messages=[{"role": "user", "content": "break"}], stream=True))
    raise AssertionError("it did not break off")
except openai.APIError as error:
    assert error.code == "lost-peer", error

begun = time.monotonic()
later = client.chat.completions.create(model="tales", messages=[{"role": "user", "content": "later"}])
assert later.choices[0].message.content
assert time.monotonic() - begun > 0.9, "it was told when to come back"

with client.chat.completions.create(
    model="tales", messages=[{"role": "user", "content": "for ever"}], stream=True
) as stream:
    next(iter(stream))  # and leave

line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": ASK}
file = client.files.create(file=io.BytesIO(json.dumps(line).encode()), purpose="batch")
batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
while batch.status == "in_progress":
    batch = client.batches.retrieve(batch.id)
assert batch.status == "completed", batch
assert "Once upon a time" in client.files.content(batch.output_file_id).text
assert client.files.delete(file.id).deleted
print("well")
