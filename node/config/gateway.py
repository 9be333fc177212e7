"""What whoever runs a gateway settles (`joule gateway run`): a client's settings, and how it serves others."""

# ruff: noqa: RUF009 - `setting` makes a dataclass field, as `dataclasses.field` does
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.config import shared
from node.config.client import ClientConfig
from node.settings import setting
from node.settings.kinds import Choice, Folder, Text, Whole
from node.settings.law import Paths, Place, Words

__all__ = ["GatewayConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig(ClientConfig):
    """A gateway's settings besides a client's (`joule gateway run`)."""

    host: str = setting(
        shared.HOST,
        table="gateway",
        default="127.0.0.1",
        variable="JOULE_GATEWAY_HOST",
        about="Where to serve HTTP. Beyond this machine every request needs an API key.",
    )
    port: int = setting(
        shared.PORT,
        table="gateway",
        default=8640,
        variable="JOULE_GATEWAY_PORT",
        about="The port to serve HTTP on; 0 is any free one.",
    )
    names: tuple[str, ...] = setting(
        Words(what="host names"),
        table="gateway",
        default=(),
        flag="--name",
        about="Host names under which the gateway may be asked, such as that of a proxy before it. On this machine "
        "alone localhost is one; beyond it any will do while none is given.",
    )
    origins: tuple[str, ...] = setting(
        Words(what="origins such as https://app.example.org"),
        table="gateway",
        default=(),
        flag="--web-origin",
        about="Origins of web pages that may ask the gateway from a browser; none when left empty.",
    )
    max_body_kib: int = setting(
        Whole("KiB", 1, 1_048_576),
        table="gateway",
        default=8_192,
        about="Largest body of a request, a file of a batch included.",
    )
    connections: int = setting(
        Whole("connections", 1, 65_536),
        table="gateway",
        default=1_024,
        about="Connections at once; one more is turned away.",
    )
    moderation: str | None = setting(
        Text("a URL, or a command with its arguments", metavar="URL|COMMAND"),
        table="gateway",
        default=None,
        example='"https://moderation.example.org/check"',
        about="Whom to ask about each request before it is answered: it is told the texts in JSON, and says whether "
        "they are flagged. Where it does not answer, nothing is answered.",
    )

    markets: tuple[str, ...] = setting(
        Paths(),
        table="gateway",
        default=(),
        flag="--market",
        about="Further markets to buy at, each a file that names its ledger or contract, peers, witnesses and how to "
        "deal with its chain. The policy is the gateway's; a question goes where its answer costs least.",
    )
    edge_model: Path | None = setting(
        Folder(),
        table="edge",
        default=None,
        example='"models/small"',
        about="A model directory that this machine answers from, without a market, a price or a receipt. No model is "
        "loaded here when left out.",
    )
    edge_tokens: int = setting(
        Whole("tokens", 0, 1_000_000),
        table="edge",
        default=256,
        about="Requests for that model up to this size, prompt and longest answer together, are answered here; 0 for "
        "those of class device alone.",
    )
    edge_fallback: str = setting(
        Choice(("yes", "no")),
        table="edge",
        default="yes",
        about="Whether larger ones are answered here, too, while no market answers them.",
    )
    edge_place: str | None = setting(
        Place(),
        table="edge",
        default=None,
        example='"DE"',
        about="Where this machine stands. Left out, requests that limit places are not answered here.",
    )
    edge_room: int = setting(
        Whole("tokens", 256, 2**31 - 1),
        table="edge",
        default=8_192,
        about="Room in the attention cache of this machine, over all answers that it gives at once.",
    )

    metrics_port: int | None = shared.metrics_port()
    log_level: str = shared.log_level("info")
    log_format: str = shared.log_format()
