"""Hosts of their own on this machine, with a distance between them: network namespaces, joined by a hub that delays.

Each host is a network namespace with one TUN device. What a host sends, `wan_hub` reads, in a process of its own, and
hands to the host that it is for when half a round trip has passed. Namespaces have no names: they end with the
processes in them, however these end. Needs root, ``/dev/net/tun``, and a kernel that lets us.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Self

from protocol.errors import ConfigurationError

__all__ = ["Wan", "set_namespace"]

TUN = "/dev/net/tun"
DEVICE = b"wan0"
MTU = 1500
QUEUE = 2000
"""Packets that wait in a device, at most."""
MOST_HOSTS = 250

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI, _IFF_UP = 0x1, 0x1000, 0x1
_SET_ADDRESS, _SET_NETMASK, _SET_FLAGS, _SET_MTU, _SET_QUEUE = 0x8916, 0x891C, 0x8914, 0x8922, 0x8943


class Wan(AbstractContextManager["Wan"]):
    """Use as a context manager; at its end the hub ends, and hosts that nothing runs in any more are gone.

    Args:
        hosts: their names.
        round_trip_s: between any two of them.

    Raises:
        ConfigurationError: on entering, where this system does not let us; says what it needs.
    """

    def __init__(self, hosts: Sequence[str], *, round_trip_s: float) -> None:
        self.round_trip_s = round_trip_s
        self._addresses = {name: f"10.77.0.{number}" for number, name in enumerate(hosts[:MOST_HOSTS], 1)}
        self._namespaces: dict[str, int] = {}
        self._hub: subprocess.Popen[str] | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            devices = []
            for name, address in self._addresses.items():
                self._namespaces[name], device = _in_a_thread(partial(_make_host, address))
                opening.callback(os.close, self._namespaces[name])
                devices.append((name, address, device))
            self._hub = self._start_hub(devices)
            opening.callback(self._stop_hub)
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def address(self, host: str) -> str:
        """A host's IPv4 address."""
        return self._addresses[host]

    def namespace(self, host: str) -> int:
        """Descriptor of a host's network namespace."""
        return self._namespaces[host]

    @contextmanager
    def here(self, host: str) -> Iterator[None]:
        """Within it this thread is at a host, and so are all threads and processes that it starts."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            set_namespace(self._namespaces[host])
            try:
                yield
            finally:
                set_namespace(before)
        finally:
            os.close(before)

    def cut(self, host: str) -> None:
        """From here on nothing reaches a host, and nothing that it sends gets anywhere, what is under way included."""
        self._order(f"cut {host}")

    def join(self, host: str) -> None:
        """Undo `cut`."""
        self._order(f"join {host}")

    def set_round_trip(self, one: str, other: str, round_trip_s: float) -> None:
        """Between these two hosts it takes so long from here on."""
        self._order(f"distance {one} {other} {round_trip_s}")

    def _order(self, order: str) -> None:
        hub = self._hub
        if hub is None or hub.stdin is None or hub.stdout is None:
            raise RuntimeError("there is no hub outside of the block")
        hub.stdin.write(f"{order}\n")
        hub.stdin.flush()
        if hub.stdout.readline() != "done\n":
            raise RuntimeError(f"the hub did not do this: {order}")

    def _start_hub(self, devices: Sequence[tuple[str, str, int]]) -> subprocess.Popen[str]:
        """It has the only descriptors of the devices from here on."""
        try:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "node.demo.wan_hub",
                    str(self.round_trip_s),
                    *(f"{name}={address}={device}" for name, address, device in devices),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=[device for _, _, device in devices],
                start_new_session=True,
            )
        finally:
            for _, _, device in devices:
                os.close(device)

    def _stop_hub(self) -> None:
        if self._hub is not None:
            self._hub.kill()
            self._hub.communicate()
            self._hub = None


def _in_a_thread(make: Callable[[], tuple[int, int]]) -> tuple[int, int]:
    """What `make` returns or raises in a thread of its own: it leaves the caller in its namespace."""
    found: list[tuple[int, int]] = []
    failed: list[OSError] = []

    def run() -> None:
        try:
            found.append(make())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="namespace")
    thread.start()
    thread.join()
    if failed:
        what = failed[0].strerror or str(failed[0])
        raise ConfigurationError(
            f"hosts of their own need root, {TUN} and network namespaces, which this system does not give: {what}",
            code="no-namespaces",
            hint="run it as root, in a container with --privileged or with --cap-add NET_ADMIN,SYS_ADMIN "
            "--device /dev/net/tun",
        )
    return found[0]


def _make_host(address: str) -> tuple[int, int]:
    """Move this thread to a new namespace with a device: the descriptors of both. Raises OSError."""
    _call("unshare", _CLONE_NEWNET)
    with ExitStack() as opening:
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        opening.callback(os.close, namespace)
        device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        opening.callback(os.close, device)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", DEVICE, _IFF_TUN | _IFF_NO_PI))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            for name, what, value in (
                (DEVICE, _SET_ADDRESS, _internet(address)),
                (DEVICE, _SET_NETMASK, _internet("255.255.255.0")),
                (DEVICE, _SET_MTU, struct.pack("i", MTU)),
                (DEVICE, _SET_QUEUE, struct.pack("i", QUEUE)),
                (DEVICE, _SET_FLAGS, struct.pack("H", _IFF_UP)),
                (b"lo", _SET_FLAGS, struct.pack("H", _IFF_UP)),
            ):
                fcntl.ioctl(control, what, struct.pack("16s24s", name, value))
        opening.pop_all()
        return namespace, device


def _internet(address: str) -> bytes:
    """A ``sockaddr_in`` without a port."""
    return struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(address))


def set_namespace(namespace: int) -> None:
    """Move the calling thread, and all that it starts, to a network namespace. Raises OSError."""
    _call("setns", namespace, _CLONE_NEWNET)


def _call(name: str, *arguments: int) -> None:
    """A function of the C library that Python 3.11 has not. Raises OSError."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
