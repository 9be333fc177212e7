"""How our values are put as JSON: one rule for results, messages and events."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from protocol.identity.ids import checksum_address

__all__ = ["plain"]

ADDRESS_BYTES = 20


def plain(value: Any) -> Any:
    """A dataclass becomes an object of its fields, an address its checksummed form, all other bytes hex."""
    match value:
        case bytes():
            return checksum_address(value) if len(value) == ADDRESS_BYTES else value.hex()
        case Enum():
            return value.value
        case Path():
            return str(value)
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case tuple() | list():
            return [plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value):
            return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
        case _:
            return value
