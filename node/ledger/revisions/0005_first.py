"""The tables that the first migration leads on from: version 5 of a ledger's."""

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = None

MAX_LEGS = 16


def _big() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _amount(name: str) -> sa.Column[int]:
    return sa.Column(name, _big(), nullable=False)


def _key(name: str) -> sa.Column[int]:
    return sa.Column(name, _big(), primary_key=True, autoincrement=False)


def _entry(name: str, **more: bool) -> sa.Column[int]:
    return sa.Column(name, _big(), sa.ForeignKey("entries.position"), **{"nullable": False, **more})


def upgrade() -> None:
    op.create_table(
        "meta", sa.Column("name", sa.String(32), primary_key=True), sa.Column("value", sa.String(32), nullable=False)
    )
    op.create_table("entries", _key("position"), sa.Column("data", sa.LargeBinary, nullable=False))
    op.create_table(
        "tiles",
        sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
        _key("position"),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
    )
    amounts = ("free", "nonce", "bond", "unbonding", "unlock_at", "period", "claimed", "fauceted")
    op.create_table(
        "accounts",
        sa.Column("address", sa.LargeBinary(20), primary_key=True),
        *map(_amount, amounts),
        _entry("entry"),
    )
    op.create_table(
        "sessions",
        sa.Column("session", sa.LargeBinary(32), primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("settled", sa.LargeBinary(8 * MAX_LEGS), nullable=False),
        sa.Column("ceilings", sa.LargeBinary(8 * MAX_LEGS), nullable=False),
        sa.Column("forget_after", _big(), index=True),
        _entry("opened"),
        _entry("entry"),
    )
    op.create_table(
        "notices", _entry("entry", primary_key=True, autoincrement=False), _amount("time"), _amount("effective")
    )
    op.create_table(
        "providers", sa.Column("address", sa.LargeBinary(20), primary_key=True), _amount("sessions"), _entry("since")
    )
    op.create_table(
        "checkpoint",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("note", sa.LargeBinary, nullable=False),
        _amount("term"),
    )
    op.create_table(
        "fronts",
        sa.Column("front", sa.String(32), primary_key=True),
        sa.Column("url", sa.String(400), nullable=False),
        sa.Column("peers", sa.Text, nullable=False),
        _amount("term"),
        _amount("seen"),
    )
