"""One key, one running node: two of them would replace each other's offers, and neither would be found."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protocol.errors import LocalError
from protocol.identity.ids import Address, checksum_address

__all__ = ["sole_use"]


@contextmanager
def sole_use(folder: Path, address: Address) -> Iterator[None]:
    """Hold a key for this process while the block runs. The operating system frees it however the process ends.

    Args:
        folder: where nodes of this machine keep what is theirs; the lock is a file in `locks` there.
        address: of the key.

    Raises:
        LocalError: another process holds it (code `key-in-use`), or the folder cannot be written.
    """
    name = checksum_address(address)
    path = folder / "locks" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror}", hint="choose another --data-dir") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError(
                f"another node with the key {name} is running{_process_in(descriptor)}",
                code="key-in-use",
                hint="stop it first, or give this node a key of its own",
            ) from None
        # The file stays when the block ends: to remove it would take it from under one who is just opening it.
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _process_in(descriptor: int) -> str:
    written = os.pread(descriptor, 32, 0).decode("ascii", errors="replace").strip()
    return f" (process {written})" if written.isdigit() else ""
