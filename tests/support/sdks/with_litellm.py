"""LiteLLM against a gateway: ``with_litellm.py URL``. Every claim that fails is a traceback."""

import sys

import litellm

told = {"model": "openai/tales", "api_base": sys.argv[1], "api_key": "any"}


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


answer = litellm.completion(**told, messages=say("go on"), max_tokens=9, seed=1)
assert answer.choices[0].message.content == "Once upon a time"
chunks = litellm.completion(**told, messages=say("go on"), stream=True)
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Once upon a time"
function = {"name": "weather", "description": "", "parameters": {"type": "object", "properties": {}}}
called = litellm.completion(**told, messages=say("weather"), tools=[{"type": "function", "function": function}])
assert called.choices[0].message.tool_calls[0].function.name == "weather"
assert litellm.completion(**told, messages=say("later"), num_retries=2).choices[0].message.content
said = litellm.completion(**told, messages=say("go on"), logprobs=True, top_logprobs=1)
assert said.choices[0].logprobs.content[0].top_logprobs[0].token == "Once ", said
try:
    litellm.completion(**told, messages=say("go on"), service_tier="flex")
    raise AssertionError("it was taken")
except litellm.BadRequestError as error:
    assert "service_tier" in str(error), error
print("well")
