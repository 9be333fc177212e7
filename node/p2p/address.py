"""Addresses in text: libp2p multiaddrs that a host listens on and dials, and where a data plane is.

Only TCP over ip4, ip6, dns4 and dns6. Parsed here rather than by libp2p, whose parser raises many kinds of errors.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from dataclasses import dataclass

from protocol.errors import ListenError, MalformedError
from protocol.identity.peer_id import public_key_of

__all__ = [
    "DataAddress",
    "check_announced",
    "check_bindable",
    "check_listen",
    "check_peer_address",
    "data_address",
    "parse_data_address",
]

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"  # no longer than the domain name system has them
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_MAX_TEXT = 512


@dataclass(frozen=True, slots=True)
class DataAddress:
    """Where a data plane listens."""

    host: str
    """An IP address or a host name."""
    port: int


def data_address(host: str, port: int) -> str:
    """The text form, "/ip4/192.0.2.1/tcp/4002/tls"; a host name is one that IPv4 addresses are looked up for."""
    try:
        kind = f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        kind = "dns4"
    return f"/{kind}/{host}/tcp/{port}/tls"


def parse_data_address(address: str) -> DataAddress:
    """Read "/ip4|ip6|dns4|dns6/HOST/tcp/PORT/tls". Raises MalformedError."""
    host, port, rest = _split(address)
    if rest != ["tls"] or port == 0:
        raise MalformedError(f"{address[:_MAX_TEXT]!r} is not a data plane address like /ip4/192.0.2.1/tcp/4002/tls")
    return DataAddress(host, port)


def check_peer_address(address: str) -> str:
    """The peer id of a multiaddr like "/ip4/192.0.2.1/tcp/4001/p2p/16Uiu2...". Raises MalformedError."""
    _, port, rest = _split(address)
    if len(rest) != 2 or rest[0] != "p2p" or port == 0:
        raise MalformedError(f"{address[:_MAX_TEXT]!r} is not like /ip4/192.0.2.1/tcp/4001/p2p/16Uiu2...")
    public_key_of(rest[1])
    return rest[1]


def check_listen(address: str) -> None:
    """Raise ListenError unless this is "/ip4|ip6/ADDRESS/tcp/PORT"."""
    try:
        _, _, rest = _split(address)
    except MalformedError as error:
        raise ListenError(error.message, hint="write it like /ip4/0.0.0.0/tcp/4001") from None
    if rest or address.startswith("/dns"):
        raise ListenError(f"cannot listen on {address}", hint="write it like /ip4/0.0.0.0/tcp/4001")


def check_announced(address: str) -> None:
    """Raise ListenError unless this is "/ip4|ip6|dns4|dns6/HOST/tcp/PORT"."""
    try:
        _, port, rest = _split(address)
    except MalformedError as error:
        raise ListenError(error.message, hint="write it like /ip4/192.0.2.1/tcp/4001") from None
    if rest or port == 0:
        raise ListenError(f"cannot announce {address}", hint="write it like /ip4/192.0.2.1/tcp/4001")


def check_bindable(address: str) -> None:
    """Raise ListenError when a port is taken.

    libp2p listens with SO_REUSEPORT, so that a second process of the same user would silently share the port and get
    some of the connections.
    """
    host, port, _ = _split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ListenError(
                f"cannot listen on {address}: {error.strerror}", hint="choose another port, or stop what uses it"
            ) from None


def _split(address: str) -> tuple[str, int, list[str]]:
    parts = address.split("/")
    if len(address) > _MAX_TEXT or len(parts) < 5 or parts[0] or parts[3] != "tcp":
        raise MalformedError(f"{address[:_MAX_TEXT]!r} is not a TCP multiaddr like /ip4/192.0.2.1/tcp/4001")
    _, kind, host, _, port, *rest = parts
    if not _is_host(kind, host):
        raise MalformedError(f"{host!r} is no {kind} host")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536):
        raise MalformedError(f"{port!r} is no port")
    return host, int(port), rest


def _is_host(kind: str, host: str) -> bool:
    if kind in ("dns4", "dns6"):
        return _HOST_NAME.fullmatch(host) is not None
    try:
        return {"ip4": 4, "ip6": 6}.get(kind) == ipaddress.ip_address(host).version
    except ValueError:
        return False
