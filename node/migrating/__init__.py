"""Databases that an earlier version made, brought to the tables of this one: by Alembic, in one transaction.

Each database says the version of its tables in a row of its own (`meta`), which programs look at when they start: they
refuse another one, and never change it by themselves. A version is the name of a revision, a file in the folder
`revisions` beside the tables. Alembic is loaded when something is migrated, and not before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from protocol.errors import LocalError

__all__ = ["migrate", "versions_of", "what_to_do"]


def what_to_do(found: str, *, first: str, current: str, command: str) -> str:
    """What a person can do about a database whose tables are of version `found`.

    Args:
        first: the oldest version that can be migrated.
        command: what migrates it.
    """
    if found.isdecimal() and int(first) <= int(found) < int(current):
        return f"make a backup, then: {command}"
    return (
        "another version of this software made it, and this one cannot read it: begin anew in a new folder, or run the "
        "version that made it"
    )


def _config(revisions: Path) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(revisions).replace("%", "%%"))
    return config


def versions_of(revisions: Path) -> list[str]:
    """The versions that a folder of revisions knows, oldest first."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(_config(revisions))
    return [each.revision for each in reversed(list(script.walk_revisions()))]


def migrate(connection: Any, revisions: Path, found: str | None) -> str:
    """Bring a database to the newest version; that version. The caller commits, and writes it into `meta`.

    Args:
        connection: SQLAlchemy's, in a transaction.
        found: the version of its tables; None for a database without any.

    Raises LocalError: no revision leads on from that version.
    """
    from alembic import command

    known = versions_of(revisions)
    if found is not None and found not in known:
        raise LocalError(
            f"its tables are of version {found}, and versions {', '.join(known)} are known here", code="migration"
        )
    config = _config(revisions)
    config.attributes["connection"] = connection
    if found is not None:
        command.stamp(config, found, purge=True)
    command.upgrade(config, "head")
    return known[-1]
