"""The tables that the first migration leads on from: version 1 of a gateway's API keys."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def _needed(name: str, kind: sa.types.TypeEngine[object] | type, **more: bool) -> sa.Column[object]:
    return sa.Column(name, kind, nullable=False, **more)


def upgrade() -> None:
    op.create_table("meta", sa.Column("name", sa.String(32), primary_key=True), _needed("value", sa.String(32)))
    op.create_table(
        "keys",
        sa.Column("id", sa.String(16), primary_key=True),
        _needed("name", sa.String(64)),
        _needed("digest", sa.LargeBinary(32)),
        sa.Column("budget", sa.BigInteger),
        sa.Column("rate", sa.Integer),
        sa.Column("at_once", sa.Integer),
        sa.Column("expires_at", sa.BigInteger),
        _needed("models", sa.String),
        _needed("limits", sa.String),
        _needed("made_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        _needed("spent", sa.BigInteger),
    )
    op.create_table(
        "holds",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        _needed("key", sa.String(16), index=True),
        _needed("micro", sa.BigInteger),
    )
    op.create_table(
        "answers",
        sa.Column("id", sa.String(32), primary_key=True),
        _needed("key", sa.String(16)),
        _needed("at", sa.BigInteger, index=True),
        _needed("model", sa.String(128)),
        *(_needed(name, sa.BigInteger) for name in ("tokens_in", "tokens_out", "micro")),
    )
