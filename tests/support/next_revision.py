"""Revisions of a database as a later version might have them: those that there are, and one that adds a column."""

from __future__ import annotations

from pathlib import Path

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "{after}"
down_revision = "{before}"


def upgrade() -> None:
    op.add_column("{table}", sa.Column("note", sa.String(8), nullable=False, server_default="kept"))
"""


def revisions(tmp_path: Path, source: Path, before: str, after: str, table: str) -> Path:
    """Those that there are, and one more."""
    folder = tmp_path / "revisions"
    folder.mkdir()
    for each in source.glob("*.py"):
        (folder / each.name).write_bytes(each.read_bytes())
    (folder / f"{after}_next.py").write_text(NEXT.format(before=before, after=after, table=table))
    return folder
