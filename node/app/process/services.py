"""What runs here: a service says in the data directory what it is, for as long as it runs (`joule status`).

Its file is locked by the process: the operating system frees it however the process ends, and a file that nobody holds
says nothing. Who can write there can mislead this machine's user, and nobody else.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.app.process.clock import clock
from node.events import Event, Events
from node.screen import json_text

__all__ = ["Service", "services_here", "shown_here"]

MOST_BYTES = 64 * 1024
"""Of a file; a longer one was not written here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service that runs with this data directory."""

    service: str
    """What it is: ``ledger``, ``node``, ``gateway``, ``witness``, ``anchor`` or ``watchtower``."""
    process: int
    """Its process id."""
    since: int
    """When it was started, Unix seconds."""
    ledger: str
    """Where it settles; empty for what needs no ledger, and for a ledger itself."""
    ready: dict[str, Any] | None
    """What it said when it was ready, as the event of its name has it; null while it starts."""


class _Shown:
    """Passes events on, and writes down that the service is ready."""

    def __init__(self, descriptor: int, service: Service, events: Events) -> None:
        self._descriptor = descriptor
        self._service = service
        self._events = events
        self._write(None)

    def __call__(self, event: Event) -> None:
        if event.name == f"{self._service.service} ready":
            with contextlib.suppress(OSError):
                self._write(event.to_json())
        self._events(event)

    def _write(self, ready: dict[str, Any] | None) -> None:
        told = self._service
        said = {"service": told.service, "process": told.process, "since": told.since, "ledger": told.ledger}
        content = json_text({**said, "ready": ready}).encode()
        os.pwrite(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))


@contextmanager
def shown_here(data_dir: Path, service: str, events: Events, *, ledger: str = "") -> Iterator[Events]:
    """While the block runs, this process is among `services_here`; the events to tell instead.

    Args:
        service: what it is; its event ``SERVICE ready`` says that it has started.
        ledger: where it settles.

    A folder that cannot be written keeps no service from running: it is then not among them.
    """
    folder, number = data_dir / "services", os.getpid()
    name = f"{service}-{number}-{secrets.token_hex(2)}"
    draft, path = folder / f".{name}", folder / f"{name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(folder)
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError:
        yield events
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            events = _Shown(
                descriptor,
                Service(service=service, process=number, since=clock(), ledger=ledger, ready=None),
                events,
            )
            draft.replace(path)  # locked before anybody sees it
        yield events
    finally:
        for each in (draft, path):
            with contextlib.suppress(OSError):
                each.unlink(missing_ok=True)
        os.close(descriptor)


def services_here(data_dir: Path) -> list[Service]:
    """The services that run with this data directory, those first that were started first."""
    found = [each for path in _files(data_dir / "services") if (each := _read(path)) is not None]
    return sorted(found, key=lambda each: (each.since, each.service, each.process))


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("*.json"))
    except OSError:
        return []


def _read(path: Path) -> Service | None:
    """What a file says; None where nobody holds it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _parsed(os.pread(descriptor, MOST_BYTES, 0), path)
    finally:
        os.close(descriptor)
    return None


def _parsed(content: bytes, path: Path) -> Service:
    """Of a file that is just being written its name says enough."""
    service, number, _ = f"{path.stem}--".split("-")[:3]
    starting = Service(service=service, process=int(number) if number.isdigit() else 0, since=0, ledger="", ready=None)
    try:
        said = json.loads(content)
        ready, since, ledger = said["ready"], said["since"], said["ledger"]
    except (ValueError, KeyError, TypeError):
        return starting
    if not isinstance(ready, dict | None) or type(since) is not int or not isinstance(ledger, str):
        return starting
    return Service(service=starting.service, process=starting.process, since=since, ledger=ledger, ready=ready)


def _sweep(folder: Path) -> None:
    """Remove the files of services that were killed."""
    for path in _files(folder):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)
