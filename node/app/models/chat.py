"""A model's chat template: where it stands, which special tokens it sees, and the prompt that it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.app.models.prompt import ChatMessage
from node.model_directory import json_object
from node.own_process import run_script
from node.screen import screen_line
from protocol.errors import ConfigurationError, ModelError

__all__ = ["ChatTemplate", "find_template"]

MAX_TEMPLATE_BYTES = 256 * 1024
RENDER_S = 10.0
"""Seconds on the clock; `rendering` bounds its processor time."""
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
CLASS_TOKENS: Mapping[str, Mapping[str, str]] = {
    "LlamaTokenizer": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "Qwen2Tokenizer": {"eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
}
"""What tokenizers of these classes have where their configuration does not say otherwise."""
MAX_WORDS = 300
"""Characters that a template may say in an error."""
RENDERER = Path(__file__).with_name("rendering.py")

_RAW = "--raw sends the text as it is, without the model's chat template"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A Jinja template, and the special tokens by name that it may write."""

    source: str
    special_tokens: Mapping[str, str]

    def render(self, messages: Sequence[ChatMessage], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The prompt that asks for the assistant's answer. Takes some 0.15 s: a process of its own renders it.

        Args:
            tools: that the model may call, as the template takes them.

        Raises:
            ConfigurationError: the template refuses the messages, such as two of the user's in a row.
            ModelError: the template does not work, or takes too much time or memory.
        """
        answer = _in_own_process(
            {
                "template": self.source,
                "variables": {
                    **self.special_tokens,
                    "messages": [each.to_template() for each in messages],
                    "tools": list(tools) or None,
                    "documents": None,
                    "add_generation_prompt": True,
                },
            }
        )
        match answer:
            case {"text": str(text)} if _is_unicode(text):
                return text
            case {"refused": str(why)}:
                what = f"the model's chat template refuses the messages: {screen_line(why[:MAX_WORDS])}"
                raise ConfigurationError(what, code="chat-template", hint=_RAW)
            case {"failed": str(why)}:
                raise _broken(screen_line(why[:MAX_WORDS]))
        raise _broken("it writes no text")


def find_template(config: bytes | None, template: bytes | None) -> ChatTemplate | None:
    """The chat template of a model, if it has one: chat_template.jinja first, then what tokenizer_config.json says.

    Args:
        config: the content of tokenizer_config.json.
        template: the content of chat_template.jinja.

    Raises:
        ModelError: one of them is not what it should be, or the template is too long.
    """
    settings = {} if config is None else json_object("tokenizer_config.json", config)
    source = _in_settings(settings) if template is None else _decoded(template)
    if source is None:
        return None
    if len(source.encode(errors="replace")) > MAX_TEMPLATE_BYTES:
        raise _broken(f"it has more than {MAX_TEMPLATE_BYTES} bytes")
    return ChatTemplate(source, _special_tokens(settings))


def _decoded(template: bytes) -> str:
    try:
        # As files are read as text: line ends of other systems become ours.
        return template.decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        raise _broken("it is not UTF-8") from None


def _in_settings(settings: Mapping[str, Any]) -> str | None:
    """One template, or the default one of several with names."""
    match settings.get("chat_template"):
        case None:
            return None
        case str(source):
            return source
        case [*several]:
            for each in several:
                match each:
                    case {"name": "default", "template": str(source)}:
                        return source
    raise _broken("tokenizer_config.json names no default one")


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    of_class = CLASS_TOKENS.get(str(settings.get("tokenizer_class")).removesuffix("Fast"), {})
    tokens = {}
    for name in SPECIAL_TOKENS:
        match settings.get(name, of_class.get(name)):
            case None:
                pass
            case str(text) | {"content": str(text)}:
                tokens[name] = text
            case other:
                raise ModelError(f"tokenizer_config.json says {name} = {other!r}", hint=_RAW)
    return tokens


def _in_own_process(request: Mapping[str, Any]) -> object:
    try:
        return run_script(RENDERER, request, seconds=RENDER_S)
    except TimeoutError:
        raise _broken("it does not come to an end") from None
    except ValueError:
        raise _broken("it takes too much time or memory") from None


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= each <= "\udfff" for each in text)


def _broken(why: str) -> ModelError:
    return ModelError(f"the model's chat template cannot be used: {why}", code="chat-template", hint=_RAW)
