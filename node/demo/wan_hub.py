"""The hub between hosts that `wan` made: a process that hands on their packets, each when its time has come.

Arguments: seconds of a round trip between any two hosts, then ``NAME=ADDRESS=DESCRIPTOR`` for each. Orders come on
standard input, a line each (``cut``, ``join``, ``distance``; `wan.Wan`), and are answered with ``done``. It ends with
its standard input.
"""

from __future__ import annotations

import heapq
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Hub", "main"]

BURST = 64
"""Packets that are read from one host before the others have their turn."""
LARGEST = 65536
_IPV4 = 4
_ORDERS = 0
"""Descriptor of standard input."""


class Packet(NamedTuple):
    """One on its way."""

    due_s: float
    number: int
    """Keeps those that are due at once in order."""
    host: str
    """That it is for."""
    data: bytes


class Hub:
    """Holds packets back.

    Args:
        hosts: name, address and descriptor of each.
        round_trip_s: between any two.
    """

    def __init__(self, hosts: Sequence[tuple[str, str, int]], round_trip_s: float) -> None:
        self._devices = {name: device for name, _, device in hosts}
        self._by_address = {socket.inet_aton(address): name for name, address, _ in hosts}
        self._delays = {(one, other): round_trip_s / 2 for one in self._devices for other in self._devices}
        self._cut: set[str] = set()
        self._waiting: list[Packet] = []
        self._count = 0

    def run(self) -> None:
        """Until standard input ends."""
        by_device = {device: name for name, device in self._devices.items()}
        while True:
            ready, _, _ = select.select([_ORDERS, *by_device], [], [], self._idle_s())
            for each in ready:
                if each != _ORDERS:
                    self._read(by_device[each])
                elif not self._obey():
                    return
            self._deliver(time.monotonic())

    def _idle_s(self) -> float | None:
        return max(0.0, self._waiting[0].due_s - time.monotonic()) if self._waiting else None

    def _obey(self) -> bool:
        """Take the orders that have come; False once there are no more."""
        data = os.read(_ORDERS, LARGEST)
        for line in data.decode().splitlines():
            match line.split():
                case ["cut", host] if host in self._devices:
                    self._cut.add(host)
                    self._waiting = [each for each in self._waiting if each.host != host]
                    heapq.heapify(self._waiting)
                case ["join", host] if host in self._devices:
                    self._cut.discard(host)
                case ["distance", one, other, seconds] if {one, other} <= self._devices.keys():
                    self._delays[one, other] = self._delays[other, one] = float(seconds) / 2
                case _:
                    sys.stdout.write("unknown\n")
                    continue
            sys.stdout.write("done\n")
        sys.stdout.flush()
        return bool(data)

    def _read(self, sender: str) -> None:
        for _ in range(BURST):
            try:
                data = os.read(self._devices[sender], LARGEST)
            except BlockingIOError:
                return
            host = self._by_address.get(data[16:20]) if data and data[0] >> 4 == _IPV4 else None
            if host is None or self._cut & {sender, host}:
                continue
            self._count += 1
            due_s = time.monotonic() + self._delays[sender, host]
            heapq.heappush(self._waiting, Packet(due_s, self._count, host, data))

    def _deliver(self, now: float) -> None:
        while self._waiting and self._waiting[0].due_s <= now:
            packet = heapq.heappop(self._waiting)
            try:
                os.write(self._devices[packet.host], packet.data)
            except OSError:
                continue  # the host takes no more for now: a packet is lost, as on any network


def main(arguments: Sequence[str]) -> None:
    """See above."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    round_trip_s, *hosts = arguments
    split = [each.split("=") for each in hosts]
    Hub([(name, address, int(device)) for name, address, device in split], float(round_trip_s)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
