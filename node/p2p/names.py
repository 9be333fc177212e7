"""Host names in addresses, looked up before they are dialled: libp2p's TCP dials numbers alone."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from protocol.errors import UnreachableError
from protocol.market.reach import endpoint_of

__all__ = ["look_up", "looked_up"]

LOOKUP_S = 3.0
"""For the address of a host name."""
_FAMILIES = {"dns4": socket.AF_INET, "dns6": socket.AF_INET6}


async def looked_up(address: str) -> str:
    """A multiaddr with an IP address in the place of a host name. Raises MalformedError, UnreachableError."""
    host, _ = endpoint_of(address)
    kind = address.split("/", 2)[1]
    if not kind.startswith("dns"):
        return address
    ip = await look_up(host, kind)
    return address.replace(f"/{kind}/{host}/", f"/ip{ipaddress.ip_address(ip).version}/{ip}/", 1)


async def look_up(host: str, kind: str) -> str:
    """The IP address of a host name, of the family that ``dns4`` or ``dns6`` means. Raises UnreachableError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(LOOKUP_S):
            found = await loop.getaddrinfo(host, None, family=_FAMILIES.get(kind, 0), type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        raise UnreachableError(f"the name {host} leads nowhere") from None
    return str(found[0][4][0])
