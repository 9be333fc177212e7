"""Whose connections count together, by IP address: one machine, or one network.

An IPv6 address costs nothing to whoever has one, so the networks that are handed out count instead. An IPv4 address
written as IPv6 is IPv4, and text that is no IP address stands for itself.
"""

from __future__ import annotations

import ipaddress

__all__ = ["origin_of", "subnet_of"]


def origin_of(host: str) -> str:
    """What counts as one place that connections come from: an IPv4 address, or the /64 of an IPv6 one."""
    return _network_of(host, 32, 64)


def subnet_of(host: str) -> str:
    """What counts as one neighbourhood of such places: the IPv4 /24 or IPv6 /48."""
    return _network_of(host, 24, 48)


def _network_of(host: str, ipv4_bits: int, ipv6_bits: int) -> str:
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    bits = ipv4_bits if ip.version == 4 else ipv6_bits
    return str(ip) if bits == ip.max_prefixlen else str(ipaddress.ip_network((ip, bits), strict=False))
