"""What an anchor's operator settles (`joule anchor run`)."""

# ruff: noqa: RUF009 - `setting` makes a dataclass field, as `dataclasses.field` does
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.config import shared
from node.settings import setting
from node.settings.kinds import Whole

__all__ = ["AnchorConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorConfig:
    """An anchor's settings (`joule anchor run`)."""

    listen: str = shared.listen()
    announce: tuple[str, ...] = shared.announce()
    lasts_s: int = setting(
        Whole("seconds", 600, 30 * 86_400),
        name="lasts",
        table="anchor",
        default=86_400,
        about="How long a signed round trip counts. Nodes ask again when half of that is over.",
    )

    key: str = shared.key()
    data_dir: Path = shared.data_dir()
    log_level: str = shared.log_level("info")
    log_format: str = shared.log_format()
    metrics_port: int | None = shared.metrics_port()
