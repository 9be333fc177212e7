"""Where a node says that it is reached, and from where such an address makes sense.

What an offer names is dialled by everybody who believes it. So an offer names few addresses, each with the node's own
key in it, and none that reaches no machine, many, or whoever asks (docs/spec/market.md, clause M2).
"""

from __future__ import annotations

import ipaddress
import re
from enum import IntEnum

from protocol.errors import MalformedError
from protocol.identity.peer_id import peer_id_of

__all__ = ["Reach", "check_addresses", "check_data_addresses", "endpoint_of", "reach_of"]

_ADDRESS = re.compile(r"/(ip4|ip6|dns|dns4|dns6)/([^/\s]{1,96})/tcp/([1-9][0-9]{0,4})(/.*)")
_DATA_REST = re.compile(r"/[a-z0-9-]{1,16}(?:/[^/\s]{1,64}){0,2}")
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"  # no longer than the domain name system has them
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")

IP = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach(IntEnum):
    """From where an address leads to the machine that is meant, narrowest first."""

    NOWHERE = 0
    """From nowhere: unspecified, multicast, link-local or reserved."""
    MACHINE = 1
    """From the machine itself: loopback."""
    SITE = 2
    """From its own site: private."""
    ANYWHERE = 3
    """From the whole internet."""


def reach_of(host: str) -> Reach:
    """How far an IP address reaches; a name counts as `ANYWHERE` until it is looked up, ``localhost`` as `MACHINE`."""
    try:
        ip: IP = ipaddress.ip_address(host)
    except ValueError:
        return Reach.MACHINE if host.lower().rstrip(".").endswith("localhost") else Reach.ANYWHERE
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip
    if ip.is_loopback:
        return Reach.MACHINE
    if ip.is_unspecified or ip.is_multicast or ip.is_link_local or ip.is_reserved:
        return Reach.NOWHERE
    return Reach.ANYWHERE if ip.is_global else Reach.SITE


def endpoint_of(address: str) -> tuple[str, int]:
    """Host and port of an address in text, libp2p's or a data plane's. Raises MalformedError: it cannot be dialled."""
    host, port, _ = _parts(address)
    return host, port


def _parts(address: str) -> tuple[str, int, str]:
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found[3]) >= 1 << 16:
        raise MalformedError(f"{address[:120]!r} is an address that cannot be dialled")
    kind, host = found[1], found[2]
    if not (_NAME.fullmatch(host) if kind.startswith("dns") else _is_ip(kind, host)):
        raise MalformedError(f"{host!r} is no {kind} host, so it cannot be dialled")
    if reach_of(host) is Reach.NOWHERE:
        raise MalformedError(f"{host} is no machine's address, so it cannot be dialled")
    return host, int(found[3]), found[4]


def _is_ip(kind: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == int(kind[-1])
    except ValueError:
        return False


def check_addresses(addresses: tuple[str, ...], public_key: bytes) -> None:
    """Raises MalformedError unless each is where the libp2p host of this very key may be."""
    own = f"/p2p/{peer_id_of(public_key)}"
    for address in addresses:
        if _parts(address)[2] != own:
            raise MalformedError(f"{address[:120]!r} is not an address of the node that makes the offer")


def check_data_addresses(addresses: tuple[str, ...]) -> None:
    """Raises MalformedError unless each is where a data plane may be, of a kind that is known here or not."""
    for address in addresses:
        if _DATA_REST.fullmatch(_parts(address)[2]) is None:
            raise MalformedError(f"{address[:120]!r} is a data address that cannot be dialled")
