"""A door before a chain's node that a test can shut, slow down, or make lie: whole HTTP requests, one at a time."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Answer = dict[str, Any]
Lie = Callable[[str, Any, Answer], Answer | bytes]
"""What is answered instead: method, parameters, and what the node said."""


@dataclass(slots=True)
class RpcDoor:
    """Made by `door_to`."""

    node: str
    """``host:port`` of the real one."""
    url: str = ""
    shut: threading.Event = field(default_factory=threading.Event)
    """While it is set, connections are dropped without an answer."""
    lie: Lie | None = None
    asked: list[str] = field(default_factory=list)
    """Methods, in order."""
    drop_after: Callable[[str], bool] = lambda _method: False
    """Whether the node is asked, and its answer kept back."""

    def close(self) -> None:
        self.shut.set()

    def open(self) -> None:
        self.shut.clear()

    def answer(self, body: bytes) -> bytes | None:
        if self.shut.is_set():
            return None
        asked = json.loads(body)
        self.asked.append(asked["method"])
        connection = http.client.HTTPConnection(self.node, timeout=30)
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        said = connection.getresponse().read()
        connection.close()
        if self.drop_after(asked["method"]):
            return None
        if self.lie is None:
            return said
        made = self.lie(asked["method"], asked["params"], json.loads(said))
        return made if isinstance(made, bytes) else json.dumps(made).encode()


@contextmanager
def door_to(url: str) -> Iterator[RpcDoor]:
    """A door on a free port of this machine."""
    door = RpcDoor(urlsplit(url).netloc)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            said = door.answer(self.rfile.read(int(self.headers["Content-Length"])))
            if said is None:
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A connection that was dropped on purpose."""

    with Server(("127.0.0.1", 0), Handler) as server:
        door.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield door
        finally:
            server.shutdown()
            thread.join()
