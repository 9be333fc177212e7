"""What whoever runs a gateway settles (`joule gateway run`): a client's settings, and how it serves others."""

from __future__ import annotations

from dataclasses import dataclass

from node.config import shared
from node.config.client import ClientConfig
from node.law_settings import Words
from node.setting_kinds import Text, Whole
from node.settings import setting

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

    metrics_port: int | None = shared.metrics_port()
    log_level: str = shared.log_level("info")
    log_format: str = shared.log_format()
