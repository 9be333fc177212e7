"""How a setting writes where a ledger is: one address, or those of its front ends with commas between."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

__all__ = ["addresses_of", "remembered_at"]


def addresses_of(text: str) -> tuple[str, ...]:
    """The front ends that a setting names, each once, without trailing slashes."""
    return tuple(dict.fromkeys(each.strip().rstrip("/") for each in text.split(",") if each.strip()))


def remembered_at(data_dir: Path, ledger: str) -> Path:
    """The file that keeps what is known of the ledger at these addresses. It goes by the first one: others come and go,
    and it is one log with one key behind all of them.
    """
    return data_dir / "ledgers" / f"{quote(addresses_of(ledger)[0], safe='')}.json"
