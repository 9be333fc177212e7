"""What a ledger's operator settles (`joule ledger run`)."""

# ruff: noqa: RUF009 - `setting` makes a dataclass field, as `dataclasses.field` does
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.config import shared
from node.settings import setting
from node.settings.kinds import Fixed, Text, Whole
from node.settings.witnesses import WITNESSES_AT

__all__ = ["LedgerConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerConfig:
    """An embedded ledger's settings (`joule ledger run`)."""

    name: str | None = setting(
        Text("a name of at most 40 bytes", metavar="NAME", pattern=r"[!-*,-~]{1,40}"),
        table="ledger",
        default=None,
        example='"ledger.example.org/main"',
        about="The log's origin: the name in its checkpoints. Left out, it follows from the operator's address. "
        "It cannot be changed once the ledger exists.",
    )
    database: str | None = setting(
        Text("a database URL", metavar="URL", pattern=r"[a-z]+(\+[a-z]+)?://\S*"),
        table="ledger",
        default=None,
        example='"postgresql://user@host/joulemesh"',
        about="Left out, a SQLite file in the data directory; else the URL of a SQLite or PostgreSQL database.",
    )
    host: str = setting(shared.HOST, table="ledger", default="127.0.0.1", about="Where to serve HTTP.")
    port: int = setting(
        shared.PORT, table="ledger", default=8645, about="The port to serve HTTP on; 0 is any free one."
    )
    grace_s: int = setting(
        Whole("seconds", 0, 90 * 24 * 3600),
        table="ledger",
        default=172_800,
        about="How long after a session's expiry its vouchers are still redeemed. It cannot be changed once the "
        "ledger exists.",
    )
    faucet_limit_micro: int = setting(
        Fixed("$ of play money per account", 6, "0", "1000000"),
        name="faucet_limit",
        table="ledger",
        default=0,
        about="What the faucet credits to each account at most. 0 switches it off; use it on local networks only. "
        "It cannot be changed once the ledger exists.",
    )
    fee_micro: int = setting(
        Fixed("$ per operation", 6, "0.000001", "1"),
        name="fee",
        table="ledger",
        default=1,
        about="What every accepted operation costs whoever submits it, paid to the operator, whose own are free. "
        "It keeps accounts without money from filling the log. It cannot be changed once the ledger exists.",
    )
    witnessed_by: tuple[str, ...] = setting(
        WITNESSES_AT,
        table="ledger",
        default=(),
        example='["witness.example.org+4109eee4+BP/C4hlu9U89p0XWeYeMM0MT53bnZSj3/htoUtC6lWwb@https://witness.example.org"]',
        about="Witnesses to which each new checkpoint is submitted, by key and address. They have to know this ledger.",
    )

    unbonding_s: int = setting(
        Whole("seconds", 0, 365 * 24 * 3600),
        table="ledger",
        default=604_800,
        about="How long money that leaves a stake can still be taken by a penalty before it is free. It cannot be "
        "changed once the ledger exists.",
    )
    notice_s: int = setting(
        Whole("seconds", 0, 365 * 24 * 3600),
        table="ledger",
        default=604_800,
        about="How long a change of fee, faucet limit or multiple of bonds is announced before it takes effect. It "
        "cannot be changed once the ledger exists.",
    )
    bond_multiple: int = setting(
        Whole("times the bond", 0, 1_000_000),
        table="ledger",
        default=0,
        about="How many times its bond vouchers may pay a provider within `unbonding_s`, so that what it can still "
        "lose bounds what it takes. 0 sets no bound.",
    )

    listen: str = shared.listen()
    announce: tuple[str, ...] = shared.announce()
    peers: tuple[str, ...] = shared.peers()
    key: str = shared.key()
    data_dir: Path = shared.data_dir()
    metrics_port: int | None = shared.metrics_port()
    log_level: str = shared.log_level("info")
    log_format: str = shared.log_format()
