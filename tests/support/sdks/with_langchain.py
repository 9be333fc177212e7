"""LangChain against a gateway: ``with_langchain.py URL``. Every claim that fails is a traceback."""

import sys

import openai
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def weather(place: str) -> str:
    """The weather at a place."""
    return f"rain in {place}"


model = ChatOpenAI(model="tales", base_url=sys.argv[1], api_key="any", max_retries=2)
assert model.invoke("go on").content == "Once upon a time"
assert model.invoke([("system", "Be brief."), ("human", "go on")]).content == "Once upon a time"
assert "".join(chunk.content for chunk in model.stream("go on")) == "Once upon a time"
asked = model.bind_tools([weather]).invoke("weather")
assert model.bind_tools([weather], tool_choice="any").invoke("weather").tool_calls
assert asked.tool_calls[0]["args"] == {"place": "Lyon"}, asked
assert model.batch(["go on", "go on"])[1].content == "Once upon a time"
assert model.invoke("later").content
said = model.invoke("go on", logprobs=True).response_metadata["logprobs"]["content"]
assert said[0]["token"] == "Once ", said
try:
    model.invoke("go on", service_tier="flex")
    raise AssertionError("it was taken")
except openai.BadRequestError as error:
    assert "service_tier" in str(error), error
print("well")
