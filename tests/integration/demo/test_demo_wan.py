"""Hosts with a distance between them: real namespaces, real sockets. Skipped where the system gives none."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from node.demo.wan import Wan, set_namespace
from protocol.errors import ConfigurationError

ROUND_TRIP_S = 0.08
PORT = 5000
NAMESPACE = Path("/proc/thread-self/ns/net")
SLACK_S = 0.06
"""What a busy machine adds."""
ECHO = f"""
import socket
listener = socket.create_server(("", {PORT}))
print("ready", flush=True)
while True:
    taken, _ = listener.accept()
    taken.sendall(taken.recv(100))
"""
UNPRIVILEGED = """
import os
from node.demo.wan import Wan
from protocol.errors import ConfigurationError
if os.geteuid() == 0:
    os.setuid(65534)
try:
    Wan(("one",), round_trip_s=0.01).__enter__()
except ConfigurationError as error:
    print(error.code, error.message)
"""


@pytest.fixture
def wan() -> Iterator[Wan]:
    """Two hosts, one of which answers."""
    with contextlib.ExitStack() as stack:
        try:
            hosts = stack.enter_context(Wan(("here", "there"), round_trip_s=ROUND_TRIP_S))
        except ConfigurationError as error:
            pytest.skip(error.message)
        command = [sys.executable, "-c", ECHO]
        go_there = partial(set_namespace, hosts.namespace("there"))
        there = subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=go_there)
        try:
            assert there.stdout is not None
            assert there.stdout.readline() == b"ready\n"
            yield hosts
        finally:
            there.kill()
            there.communicate()


def connected_in(wan: Wan, timeout_s: float = 5.0) -> float:
    """Seconds that a handshake takes, which is one round trip."""
    began = time.monotonic()
    with socket.create_connection((wan.address("there"), PORT), timeout=timeout_s):
        return time.monotonic() - began


def test_a_handshake_takes_a_round_trip(wan: Wan) -> None:
    with wan.here("here"):
        assert ROUND_TRIP_S <= connected_in(wan) < ROUND_TRIP_S + SLACK_S
        wan.set_round_trip("here", "there", ROUND_TRIP_S / 4)
        assert min(connected_in(wan) for _ in range(3)) < ROUND_TRIP_S


def test_nothing_reaches_a_host_that_is_cut_off_until_it_is_joined(wan: Wan) -> None:
    with wan.here("here"):
        wan.cut("there")
        with pytest.raises(TimeoutError):
            connected_in(wan, timeout_s=4 * ROUND_TRIP_S)
        wan.join("there")
        assert connected_in(wan) < ROUND_TRIP_S + SLACK_S
        with pytest.raises(RuntimeError):
            wan.cut("nowhere")


def test_a_thread_is_back_where_it_was(wan: Wan) -> None:
    before = NAMESPACE.readlink()
    with wan.here("here"):
        assert NAMESPACE.readlink() != before
    assert NAMESPACE.readlink() == before


def test_who_may_not_is_told_what_it_takes() -> None:
    done = subprocess.run([sys.executable, "-c", UNPRIVILEGED], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("no-namespaces hosts of their own need root, /dev/net/tun"), done.stderr
