"""What a witness's operator settles (`joule witness run`)."""

# ruff: noqa: RUF009 - `setting` makes a dataclass field, as `dataclasses.field` does
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.config import shared
from node.settings import setting
from node.settings.kinds import Choice, Text, Whole
from node.settings.witnesses import KEYS_OF_LOGS

__all__ = ["WitnessConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessConfig:
    """A witness's settings (`joule witness run`)."""

    name: str | None = setting(
        Text("a name of at most 64 characters", metavar="NAME", pattern=r"[!-*,-~]{1,64}"),
        table="witness",
        default=None,
        example='"witness.example.org"',
        about="The name in its cosignatures. Needed the first time; it cannot be changed.",
    )
    logs: tuple[str, ...] = setting(
        KEYS_OF_LOGS,
        table="witness",
        default=(),
        flag="--log",
        example='["ledger.example.org/main+7bcc7f72+AaQ9niQCYoLvF+SIyhXxzF9dVkGKS9S3ELVDFFMYA2zy@https://ledger.example.org"]',
        about="The ledgers, or other C2SP logs, that it cosigns: each by its key, with its URL where it is replayed or "
        "looked at.",
    )
    validate: str = setting(
        Choice(("no", "yes")),
        table="witness",
        default="no",
        about="Whether every entry is replayed under the ledger's rules before its checkpoint is cosigned. A witness "
        "that begins to say so, or ceases, needs a new key.",
    )
    pull_s: int = setting(
        Whole("seconds", 0, 24 * 3600),
        table="witness",
        default=0,
        about="How often it looks at logs with a URL by itself; 0 waits to be asked.",
    )
    host: str = setting(shared.HOST, table="witness", default="127.0.0.1", about="Where to serve HTTP.")
    port: int = setting(
        shared.PORT, table="witness", default=8646, about="The port to serve HTTP on; 0 is any free one."
    )

    data_dir: Path = shared.data_dir()
    log_level: str = shared.log_level("info")
    log_format: str = shared.log_format()
    metrics_port: int | None = shared.metrics_port()
