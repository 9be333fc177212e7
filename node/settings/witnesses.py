"""How settings write a party that signs checkpoints: its C2SP key, and with ``@`` behind it where it is found."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from node.settings.kinds import items_of
from node.settings.places import WebAddress
from protocol.errors import JoulemeshError
from protocol.log.cosignature import MAX_WITNESSES
from protocol.log.note import VerifierKey
from protocol.log.post_quantum import parse_cosigner

__all__ = ["KEYS_OF_LOGS", "KEYS_OF_WITNESSES", "WITNESSES_AT", "Signers", "key_and_url"]

K = TypeVar("K", bound=VerifierKey)
_WITH_URL = re.compile(r"(?P<key>\S+?\+[0-9a-f]{8}\+[A-Za-z0-9+/]+={0,2})(?:@(?P<url>https?://\S+))?")


def key_and_url(text: str, parse: Callable[[str], K]) -> tuple[K, str | None]:
    """The two parts. Raises ValueError."""
    match = _WITH_URL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a key such as name+1a2b3c4d+AbC...=")
    try:
        key = parse(match["key"])
    except JoulemeshError as error:
        raise ValueError(error.message) from None
    return key, None if match["url"] is None else WebAddress().parse(match["url"])


@dataclass(frozen=True, slots=True)
class Signers(Generic[K]):
    """A list of them, as text."""

    read: Callable[[str], K]
    what: str
    has_url: bool | None
    """Whether an address belongs to it; None where it may be left out."""
    metavar: str
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> tuple[str, ...]:
        items = tuple(dict.fromkeys(items_of(raw)))
        if len(items) > MAX_WITNESSES:
            raise ValueError(f"more than {MAX_WITNESSES}")
        for item in items:
            _, url = key_and_url(item, self.read)
            if self.has_url is not None and self.has_url != (url is not None):
                raise ValueError(f"{item!r} {'has an address' if url else 'lacks its address (@http...)'}")
        return items

    def show(self, value: Any) -> str:
        return json.dumps(list(value), ensure_ascii=False)

    def describe(self) -> str:
        return f"{self.what}: a list in a file, commas in a variable, a repeated flag"


KEYS_OF_WITNESSES = Signers(parse_cosigner, "witnesses' C2SP keys", False, "VKEY")
WITNESSES_AT = Signers(parse_cosigner, "witnesses' C2SP keys, each with @ and its URL", True, "VKEY@URL")
KEYS_OF_LOGS = Signers(VerifierKey.parse, "logs' C2SP keys, each with @ and its URL or without", None, "VKEY[@URL]")
