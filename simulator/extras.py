"""Packages that only some of the simulator needs."""

from __future__ import annotations

import importlib.util

from protocol.errors import ConfigurationError

__all__ = ["check_extra"]


def check_extra(*names: str) -> None:
    """Raise `ConfigurationError` unless what writes Parquet, or these packages, are installed."""
    missing = [name for name in (names or ("pyarrow",)) if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"{' and '.join(missing)} not installed",
            code="missing-extra",
            hint="in the checkout: pip install --editable '.[sim]'",
        )
